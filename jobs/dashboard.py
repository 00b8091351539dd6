"""A W&B workspace over one's runs, as code: `python jobs/dashboard.py outputs --project entitrack`.

1. Results under the folders that are given are read; nothing is computed.
2. Each method is a section: its figure, a bar chart a column of its main table with a bar a row, lines for what was
   measured along training. Charts name only metrics that a run has, see `entitrack.record.tracking.metrics`.
3. The workspace is printed as JSON; with `--entity NAME` it is made in an account (`pip install -e '.[dashboard]'`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from entitrack import UserError, load
from entitrack.core.result import Result
from entitrack.record.folder import RESULT
from entitrack.record.tracking import learning_curves, numbers

Charts = dict[str, dict[str, list[str]]]
"""Method -> title of a chart -> metrics that it shows."""


def charts(results: Iterable[Result]) -> Charts:
    """A chart for every column of the methods' main tables, with a bar for every row that any run has."""
    found: Charts = {}
    for result in results:
        of_method = found.setdefault(result.method, {})
        for row, column, _ in numbers(result.tables[0]):
            bars = of_method.setdefault(column, [])
            bars += [f"{row}/{column}"] * (f"{row}/{column}" not in bars)
    return found


def curves(results: Iterable[Result]) -> dict[str, list[str]]:
    """Method -> what was measured along the steps of a training."""
    found: dict[str, list[str]] = {}
    for result in results:
        names = found.setdefault(result.method, [])
        names += [name for name in learning_curves(result) if name not in names]
    return found


def workspace(results: list[Result], entity: str, project: str) -> Any:
    """The workspace."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    lines = curves(results)
    sections = []
    for method, bars in sorted(charts(results).items()):
        shown: list[Any] = [panels.MediaBrowser(title=f"{method}: figure", media_keys=["figure"])]
        shown += [panels.BarPlot(title=f"{method}: {title}", metrics=[*keys], groupby="config:donor")
                  for title, keys in bars.items()]  # fmt: skip
        if lines[method]:
            shown.append(panels.LinePlot(title=f"{method}: training", x="Step", y=[*lines[method]]))
        sections.append(workspaces.Section(name=method, panels=shown, is_open=True))
    return workspaces.Workspace(entity=entity, project=project, name="entitrack", sections=sections)


def specification(results: list[Result], project: str) -> Mapping[str, Any]:
    """The workspace as W&B is given it, without an account."""
    model = workspace(results, "", project)._to_model()
    plain: Mapping[str, Any] = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    return plain


def read(folders: Iterable[Path]) -> list[Result]:
    """All results in some folders.

    Raises:
        UserError: There are none.
    """
    found = [load(path.parent) for folder in folders for path in sorted(folder.rglob(RESULT))]
    if not found:
        raise UserError("FOLDER", f"has no {RESULT}", fix="name the folder that runs are recorded in: outputs")
    return found


def main() -> None:
    """Entry point."""
    first, *_ = str(__doc__).splitlines()
    parser = argparse.ArgumentParser(description=first)
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+", help="where runs are recorded")
    parser.add_argument("--project", default="entitrack", help="the runs' project (default: %(default)s)")
    parser.add_argument("--entity", metavar="NAME", help="make it in this entity's account, which must be logged in")
    arguments = parser.parse_args()
    try:
        results = read(arguments.folders)
    except UserError as error:
        parser.error(str(error))
    if arguments.entity:
        print(workspace(results, arguments.entity, arguments.project).save().url)
    else:
        print(json.dumps(specification(results, arguments.project), indent=1))


if __name__ == "__main__":
    main()
