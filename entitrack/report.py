"""A page about runs: `python -m entitrack.report FOLDER... [--out FILE] [--figures pdf,svg,png]`.

1. Every folder is that of a run, or holds such folders, as a study's or a sweep's does.
2. What they hold is put on one page that needs no network; several runs of a method stand side by side.
3. With `--figures` every figure is written as a file, too, for a paper.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from entitrack.core.errors import UserError, quoted
from entitrack.disk.files import appearing
from entitrack.record import figures
from entitrack.record.report.page import report
from entitrack.record.report.reading import Run, read_runs

USAGE = "python -m entitrack.report"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report; gives the exit code."""
    parser = argparse.ArgumentParser(prog=USAGE, description="One page about runs, in a file that a browser opens.")
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="of a run, or one that holds such folders"
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    parser.add_argument(
        "--figures", default="", metavar="KINDS", help="pdf, svg or png, with commas: figures as files, too"
    )
    parser.add_argument("--title", default="entitrack report", help="what stands on top of the page")
    asked = parser.parse_args(arguments)
    try:
        kinds = _kinds(asked.figures)
        runs = read_runs(asked.folders)
        page = report(runs, asked.title)
        with appearing(asked.out) as stream:
            stream.write(page.encode())
        written = [path for run in runs for path in write_figures(run, kinds, asked.out.parent / "figures")]
    except UserError as error:
        print(f"entitrack.report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"entitrack.report: {error.filename or asked.out}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{asked.out}: {len(runs)} runs, {len(page) / 1e6:.1f} MB")
    for path in written:
        print(path)
    return 0


def _kinds(asked: str) -> list[str]:
    """The formats of figures that were asked for.

    Raises:
        UserError: There is no such format.
    """
    kinds = [kind for kind in asked.split(",") if kind]
    for kind in kinds:
        if kind not in figures.FORMATS:
            raise UserError("--figures", f"no format {quoted(kind)}", figures.FORMATS)
    return kinds


def write_figures(run: Run, kinds: Sequence[str], folder: Path) -> list[Path]:
    """The figure of a run in files of some formats, `METHOD-FOLDER.KIND`; none for a method without one."""
    written = []
    for kind in kinds:
        image = figures.image(run.result, kind)
        if image is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{run.result.method}-{run.folder.resolve().name}.{kind}"
            with appearing(path) as stream:
                stream.write(image)
            written.append(path)
    return written


if __name__ == "__main__":
    raise SystemExit(main())
