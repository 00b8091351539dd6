"""The table and the figure of a sweep, made anew of the runs that are in its folder.

python -m entitrack.sweep outputs/sweeps/TIME
python -m entitrack.sweep outputs/sweeps/TIME --step cmap      # of a sweep of studies
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from entitrack.cli.complaints import complain, explain
from entitrack.core.confidential import Keys


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, draw the figure; 2 if there is no such sweep."""
    parser = argparse.ArgumentParser(prog="python -m entitrack.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the sweep's folder: hydra.sweep.dir, or outputs/sweeps/TIME")
    parser.add_argument("--step", default="", help="of a sweep of studies: the step that is looked at")
    given = parser.parse_args(arguments)
    try:
        from entitrack.record import terminal
        from entitrack.sweeps import summary

        terminal.show_summary(*summary(given.folder, given.step), given.folder)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        complain(line, Keys())
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
