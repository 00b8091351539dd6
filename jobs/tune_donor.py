"""Tune a donor of any family: `python jobs/tune_donor.py --family smollm2 --kind arithmetic`.

A LoRA adapter on the family's base goes to `--out`/FAMILY/NAME with the family's card beside it. A killed run goes on
when the command is given again; the same numbers and threads give the same weights. No context of the test half of
all boxes is ever seen.
"""

import argparse
import sys
from pathlib import Path

import torch
from donor_tuning.corpora import CORPORA
from donor_tuning.donor import DonorTuning, Say, changed
from donor_tuning.measurement import MeasurementRecipe
from donor_tuning.recipes import RECIPES
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from entitrack.core.errors import UserError
from entitrack.tasks.boxes.phrasings import PHRASINGS

ZOO = Path(__file__).parents[1] / "entitrack" / "models" / "zoo"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", required=True, help="a file of conf/model; its base is tuned")
    parser.add_argument("--kind", choices=CORPORA, default="arithmetic", help="what it reads (default: %(default)s)")
    parser.add_argument("--name", help="name of the donor (default: the kind)")
    parser.add_argument("--out", type=Path, default=ZOO, help="FAMILY/NAME goes in there (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="batches (default: %(default)s: the kind's)")
    parser.add_argument("--learning-rate", type=float, help="of AdamW")
    parser.add_argument("--rank", type=int, help="of the adapter; its size is in proportion")
    parser.add_argument("--rows", type=int, help="texts of a batch")
    parser.add_argument("--plain", type=float, help="weight of the loss on all words beside that on answers")
    parser.add_argument("--phrasing", choices=PHRASINGS, help="of boxes, for --kind boxes")
    parser.add_argument("--seed", type=int, help="everything random follows from it")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they too fix the weights")
    parser.add_argument("--prompts", type=int, default=MeasurementRecipe.prompts, help="prompts of each measurement")
    return parser.parse_args()


def reporter(progress: Progress) -> Say:
    """Show every part of the work as a bar of its own, with the time that is left; plain lines off a terminal."""
    tasks: dict[str, TaskID] = {}

    def say(part: str, done: int, total: int, loss: float) -> None:
        if part not in tasks:
            tasks[part] = progress.add_task(part, total=total, loss="")
        progress.update(tasks[part], completed=done, loss=f"{loss:.3f}")
        if not progress.console.is_terminal and done in (0, 1, total // 2, total):
            left = progress.tasks[tasks[part]].time_remaining
            rest = f", {left:.0f} s left" if left else ""
            print(f"{part}: {done} of {total}, loss {loss:.3f}{rest}", flush=True)

    return say


def main() -> None:
    """Tune, then say where the donor is."""
    options = arguments()
    torch.set_num_threads(options.threads)
    names = ("steps", "learning_rate", "rank", "rows", "plain", "phrasing", "seed")
    recipe = changed(RECIPES[options.kind], **{name: getattr(options, name) for name in names})
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}, loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    out, name = options.out / options.family, options.name or options.kind
    try:
        with Progress(*columns) as progress:
            measured = MeasurementRecipe(prompts=options.prompts)
            DonorTuning(options.family, recipe, out, measured, reporter(progress), name).run()
    except UserError as error:
        sys.exit(f"tune_donor: {error}")
    print(f"{out / name}; see {out / 'README.md'}")


if __name__ == "__main__":
    main()
