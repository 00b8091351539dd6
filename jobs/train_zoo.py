"""Train an embedded family from nothing: `python jobs/train_zoo.py --family sparse`.

An interrupted run goes on with the models that are not finished; the family in `--out` is replaced only when
all of it is. The same seed and number of threads give the same weights.
"""

import argparse
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar
from zoo_training.curriculum import Report
from zoo_training.family import FamilyTraining
from zoo_training.recipes import FAMILIES, SMOKE

ZOO = Path(__file__).parents[1] / "entitrack" / "models" / "zoo"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--family", choices=FAMILIES, required=True, help="which; what ships under its name is replaced"
    )
    parser.add_argument("--out", type=Path, default=ZOO, help="its folder goes in there (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="everything random follows from it (default: the family's)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they too fix the weights")
    parser.add_argument("--smoke", action="store_true", help="a few steps of everything, to see that it runs")
    return parser.parse_args()


def reporter(progress: Progress) -> Report:
    """Show every stage as a bar of its own."""
    tasks: dict[str, TaskID] = {}

    def report(stage: str, step: int, limit: int, accuracy: float) -> None:
        if stage not in tasks:
            for earlier in tasks.values():
                progress.stop_task(earlier)
            tasks[stage] = progress.add_task(stage, total=limit, accuracy="")
        progress.update(tasks[stage], completed=step, accuracy=f"{accuracy:.2f}")

    return report


def main() -> None:
    """Train, then say where the family is."""
    options = arguments()
    disable_progress_bar()
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.completed:>5.0f} steps, accuracy {task.fields[accuracy]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        recipe, out = SMOKE if options.smoke else FAMILIES[options.family], options.out / options.family
        seed = recipe.seed if options.seed is None else options.seed
        training = FamilyTraining(out, recipe, seed, options.threads, reporter(progress))
        card = training.run()
    print(f"{out}: {', '.join(card['models'])}, {card['total_seconds'] / 60:.1f} minutes; see README.md")


if __name__ == "__main__":
    main()
