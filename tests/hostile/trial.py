"""A trial: what is wrong must be said in one line, with nothing half-written left behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Launch, about_circuits

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Trial:
    """One thing that is wrong.

    Attributes:
        name: What is wrong, as a test's name.
        arguments: The command line, after `method=cmap tracking=disabled` and the golden models' overrides; `{here}` is
            the folder the program runs in.
        says: Regular expression of the one line on standard error, after `entitrack: `.
        files: Path below that folder -> content, written before.
        environment: Variables that are set.
        code: Exit code.
    """

    name: str
    arguments: tuple[str, ...]
    says: str
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    code: int = 2


def listing(folder: Path) -> set[Path]:
    """Everything below a folder but the store, its whole records and the folder it is in: a refused run adds nothing."""
    below = (path for path in folder.rglob("*") if "store" not in path.relative_to(folder).parts)
    return {path for path in below if not (path / "store").is_dir()}


def attempt(
    trial: Trial,
    launch: Launch,
    overrides: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run a trial and check exit code, line and folder."""
    for path, content in trial.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    for name, value in trial.environment.items():
        monkeypatch.setenv(name, value)
    before = listing(folder)
    arguments = ["method=cmap", *(word.replace("{here}", str(folder)) for word in trial.arguments)]
    code = launch("tracking=disabled", *about_circuits(overrides, arguments), *arguments)
    captured = capsys.readouterr()
    assert code == trial.code, captured.err
    lines = captured.err.rstrip("\n").split("\n")
    assert len(lines) == 1, captured.err
    assert re.match(r"entitrack: " + trial.says, lines[0]), lines[0]
    assert not _CONTROL.search(lines[0]), repr(lines[0])
    assert captured.out == "", captured.out
    assert listing(folder) - before == set()
    assert not list(folder.rglob("*.part"))
