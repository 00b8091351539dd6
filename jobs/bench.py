"""Measure a part of the program: python jobs/bench.py NAME [...]: circuits, dcm, path_patching, screening, sharing."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
KNOWN = ("circuits", "dcm", "path_patching", "screening", "sharing")


def main(arguments: list[str]) -> None:
    """Run the benchmark that is named first."""
    if arguments[:1] == ["--help"]:
        print(f"{__doc__}\n\nOf each: python jobs/bench.py NAME --help")
        return
    if not arguments or arguments[0] not in KNOWN:
        print(f"python jobs/bench.py {{{','.join(KNOWN)}}} [...]", file=sys.stderr)
        raise SystemExit(2)
    sys.path.insert(0, str(FOLDER))
    import_module(f"benchmarks.{arguments[0]}").run(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
