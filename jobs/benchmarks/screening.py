"""What `method.suffix=screened` costs in accuracy, on prompts that its threshold was not chosen on.

Path patching of a real model twice over the stages of its phrasing, exactly and screened: stages whose suffixes are
long take most senders to first order in the receivers, and how far their scores are off is told beside the seconds.

python jobs/bench.py screening                          both real models, donors tuned on arithmetic
python jobs/bench.py screening --models smollm2 --prompts 63 --seed 5
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.real_models import PHRASING, REAL
from entitrack import Study
from entitrack.core.result import Result


@dataclass(frozen=True)
class Run:
    """Path patching one way.

    Attributes:
        result: What it found.
        seconds: The processor's own, of the whole run.
    """

    result: Result
    seconds: float


def run(arguments: list[str]) -> None:
    """Measure, and print a table a model."""
    parser = argparse.ArgumentParser(prog="bench.py screening")
    parser.add_argument("--models", nargs="+", default=[*REAL], choices=[*REAL])
    parser.add_argument("--member", default="arithmetic")
    parser.add_argument("--prompts", type=int, default=14, help="of which those count that are answered rightly")
    parser.add_argument("--boxes", type=int, default=7)
    parser.add_argument("--seed", type=int, default=11, help="of the task")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in given.models:
        Console(width=130).print(compared(name, given))


def compared(name: str, given: argparse.Namespace) -> Table:
    """The table of one model: a line for each stage that was screened."""
    task = {"phrasing": PHRASING, "boxes": given.boxes, "count": given.prompts, "seed": given.seed}
    with TemporaryDirectory() as folder:
        study = Study(model=name, task=task, store=str(Path(folder) / "store"))
        # The first run also leaves what the stages before have in the store; so the screened one goes second.
        exact, screened = (searched(study, given.member, suffix) for suffix in ("exact", "screened"))
    used = exact.result["effect"].size("prompt")
    title = f"{given.member} of {name}, {used} right prompts of {given.boxes} boxes, seed {given.seed}"
    laid = Table(title=title, title_justify="left")
    for column in ("stage", "senders", "rerun", "largest score", "largest error", "mean error", "heads", "in both"):
        laid.add_column(column, justify="left" if column == "stage" else "right")
    for stage, facts in screened.result.facts["stages"].items():
        if facts["rerun"] is not None:
            laid.add_row(stage, *cells(exact.result, screened.result, stage))
    laid.caption = f"{exact.seconds:.0f} s, all exactly; {screened.seconds:.0f} s, short stages from the store"
    return laid


def searched(study: Study, member: str, suffix: str) -> Run:
    """One run."""
    begun = process_time()
    result = study.run("path_patching", model=member, suffix=suffix, force=True)
    return Run(result, process_time() - begun)


def cells(exact: Result, screened: Result, stage: str) -> list[str]:
    """How far a stage's screened scores are from the exact ones, and its chosen heads."""
    before, facts = exact.facts["stages"].get(stage), screened.facts["stages"][stage]
    if before is None or not same_receivers(exact, screened, stage):
        return ["", str(facts["rerun"]), "receivers differ", "", "", "", ""]
    scores, rough = (result["score"].at(stage=stage).values.double() for result in (exact, screened))
    off = (scores - rough).abs()
    heads, also = ({tuple(head) for head in one["heads"]} for one in (before, facts))
    return [
        str(scores.numel()),
        str(facts["rerun"]),
        f"{float(scores.abs().max()):.4f}",
        f"{float(off.max()):.1e}",
        f"{float(off.mean()):.1e}",
        f"{len(heads)} and {len(also)}",
        str(len(heads & also)),
    ]


def same_receivers(exact: Result, screened: Result, stage: str) -> bool:
    """Whether both runs send to the same heads: a stage before may have chosen others."""
    circuits: list[Any] = [result.artefacts["circuit"] for result in (exact, screened)]
    stages = circuits[0].found_on["settings"]["stages"]
    receivers = next(one["receivers"] for one in stages if one["name"] == stage)
    return bool(circuits[0].group(receivers, "").heads == circuits[1].group(receivers, "").heads)
