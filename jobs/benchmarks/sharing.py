"""What questions of one context share: own answers, a donor's activations and transplants, against a pass a prompt.

Against it stands what the engine does where nothing is shared: whole prompts in one batch, one pass for each variant.
Both give the same answers, or the benchmark stops.

python jobs/bench.py sharing                       the embedded family and both real models, 7 boxes
python jobs/bench.py sharing --models smollm2 --prompts 42
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.real_models import REAL, real_base, real_prompts, sites_of, transplants
from benchmarks.timing import Seconds, measure
from entitrack.engine.patching import answer, answer_patched, read_sites
from entitrack.models.family import Model
from entitrack.runtime.backends import Local

EMBEDDED = ("sparse", "tiny")
_TOLERANCE = 1e-5


def run(arguments: list[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="bench.py sharing")
    parser.add_argument("--models", nargs="+", default=["sparse", *REAL], choices=[*EMBEDDED, *REAL])
    parser.add_argument("--prompts", type=int, default=21)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    title = f"{given.prompts} prompts of contexts with 7 boxes and 7 questions, {given.device}"
    laid = Table(title=title, title_justify="left")
    for column in ("model", "what", "a pass a prompt, s", "shared, s", "ratio", "spread"):
        laid.add_column(column, justify="left" if column in ("model", "what") else "right")
    for name in given.models:
        for row in rows(name, given):
            laid.add_row(*row)
    Console(width=110).print(laid)


def rows(name: str, given: argparse.Namespace) -> list[list[str]]:
    """The timings of one model."""
    model = real_base(name, given.device)
    prompts, positions = real_prompts(model, given.prompts)
    patches, variants = transplants(model, positions)
    asked: dict[str, tuple[Any, dict[str, Any]]] = {
        "own answers": (answer, {"prompts": prompts}),
        "a donor's z read": (read_sites, {"prompts": prompts, "sites": sites_of(patches)}),
        "five transplants": (answer_patched, {"prompts": prompts, "patches": patches, "variants": variants}),
    }
    timed = {what: both_ways(model, *how, given) for what, how in asked.items()}
    timed["CMAP: both of these"] = together(timed["a donor's z read"], timed["five transplants"])
    return [[name, what, *cells(*pair)] for what, pair in timed.items()]


def both_ways(
    model: Model, function: Any, inputs: dict[str, Any], given: argparse.Namespace
) -> tuple[Seconds, Seconds]:
    """Seconds of an intervention, by itself and as the engine runs it; stop where they do not agree."""
    alone = {**model.anatomy, "factorised": False}  # nothing is shared in layers that are not described in full
    ways = [{"anatomy": alone, **inputs}, {"anatomy": model.anatomy, **inputs}]
    answered: list[list[Tensor]] = [[], []]

    def ask(way: int) -> None:
        answered[way].append(Local().run(model, function, ways[way])["probability"])

    whole, shared = (measure(partial(ask, way), given.device, given.repeats, warm_up=0) for way in (0, 1))
    if float((answered[0][0] - answered[1][0]).abs().max()) > _TOLERANCE:
        raise SystemExit(f"{function.__name__}: what is shared gives other answers")
    return whole, shared


def together(*timed: tuple[Seconds, Seconds]) -> tuple[Seconds, Seconds]:
    """Several timings, one after the other."""
    whole, shared = (Seconds(tuple(map(sum, zip(*(pair[way].runs for pair in timed), strict=True)))) for way in (0, 1))
    return whole, shared


def cells(whole: Seconds, shared: Seconds) -> list[str]:
    """What the table says of a pair of timings."""
    swing = 50 * (whole.spread + shared.spread)
    ratio = whole.typical / shared.typical
    return [f"{whole.typical:.2f}", f"{shared.typical:.3f}", f"{ratio:.1f}x", f"±{swing:.0f} %"]
