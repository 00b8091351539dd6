"""Every method, run once for all tests of what is recorded of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from entitrack import run as door
from entitrack.core.result import Result
from entitrack.record import folder
from tests.record.small_runs import Runs, words_of


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs a method as the command line does; gives its result before it was written, and its folder."""
    here, known = tmp_path_factory.mktemp("runs"), {}
    written: list[Result] = []
    write_folder = folder.write

    def write(result: Result, *more: Any) -> str | None:
        written.append(result)
        return write_folder(result, *more)

    def run(method: str) -> tuple[Result, Path]:
        if method not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(here)
                patch.setattr(sys, "argv", ["entitrack", *words_of(method), f"hydra.run.dir={method}"])
                patch.setattr(folder, "write", write)
                door.main()
            known[method] = (written[-1], here / method)
        return known[method]

    return run
