"""A key is never printed or recorded, however it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from entitrack import run as door
from entitrack.cli.kinds import BACKENDS, BackendKind
from entitrack.core.confidential import Keys, hide_words
from entitrack.runtime.backends import Local
from entitrack.runtime.ndif.settings import Settings
from tests.conftest import Launch

KEY = "s3cret-of-mine"
FILES = {
    "experiment": ("my/experiment/e.yaml", f"# @package _global_\nbackend:\n  key: {KEY}\n"),
    "backend": ("my/backend/mine.yaml", f"name: ndif\nkey: '{KEY}'\n"),
}
GIVEN = {
    "plain": [f"backend.key={KEY}"],
    "added": [f"+backend.key={KEY}"],
    "forced": [f"++backend.key={KEY}"],
    "quoted": [f"backend.key='{KEY}'"],
    "quoted twice": [f'backend.key="{KEY}"'],
    "in a sweep": ["--multirun", f"backend.key={KEY},{KEY}-2"],
    "in a choice": ["--multirun", f"backend.key=choice({KEY},{KEY}-2)"],
    "with a line break at its end": [f"backend.key='{KEY}\n'"],
    "in an experiment": ["--config-dir", "my", "experiment=e"],
    "in a file of the backend": ["--config-dir", "my", "backend=mine"],
    "by a pointer": ["backend.key=${oc.env:SOME_VARIABLE}"],
    "as a password": [f"backend.host=https://me:{KEY}@host"],
    "as a password with a slash": [f"backend.host=https://me:{KEY}/x@host"],
    "twice": [f"backend.key={KEY}", f"++backend.key={KEY}-2"],
    "in the environment": [],
}
WORDS = {name: words for name, words in GIVEN.items() if words}


@pytest.fixture(autouse=True)
def _local_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that needs none, files that hold keys, and variables that do."""
    monkeypatch.setitem(BACKENDS, "ndif", BackendKind(lambda settings: Local(), Settings))
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.setenv("SOME_VARIABLE", KEY)
    for path, text in FILES.values():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)


def holding(folder: Path) -> list[Path]:
    """Files below a folder that have the key in them."""
    files = [path for path in folder.rglob("*") if path.is_file() and "my" not in path.relative_to(folder).parts]
    return [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("words", GIVEN.values(), ids=list(GIVEN))
def test_it_is_recorded_nowhere(
    words: list[str],
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in W&B's own record either, which has the command line of the process it runs in."""
    if not words:
        monkeypatch.setenv("NDIF_API_KEY", KEY)
    own = [] if "backend=mine" in words else ["backend=ndif"]
    assert launch("method=cmap", *own, *golden_overrides, *words) == 0
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    assert list(tmp_path.rglob("*.wandb"))
    assert list(tmp_path.rglob("result.json"))
    assert holding(tmp_path) == []


@pytest.mark.parametrize("words", WORDS.values(), ids=list(WORDS))
@pytest.mark.parametrize("wrong", ["backend.nope=1", "method.groups=[", "seed=x", "backend.in_flight=x", "donor=nope"])
def test_it_is_not_said_with_what_is_wrong(
    wrong: str,
    words: list[str],
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = [] if "backend=mine" in words else ["backend=ndif"]
    assert launch("method=cmap", *own, *golden_overrides, *words, wrong) in (1, 2)
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    assert holding(tmp_path) == []


@pytest.mark.parametrize(
    "word",
    [
        f"backend.key='{KEY}",
        f"backend.key=[{KEY}",
        f"backend.key={KEY}=x",
        f"backend.key={{a: {KEY}",
        f"backend.key=[{KEY}]",
        f"backend.key={KEY},other",
        f"backend={{name: ndif, key: {KEY}",
        f"+backend={{key: {KEY}}}",
        f"backend.keyy={KEY}",
        f"backend.host=me:{KEY}",
    ],
)
def test_it_is_not_said_where_it_cannot_be_read(
    word: str, launch: Launch, golden_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch("method=cmap", "backend=ndif", "tracking=disabled", *golden_overrides, word) in (0, 2)
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err


def test_a_command_to_go_on_with_has_no_key(
    launch: Launch,
    golden_overrides: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(config: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "execute", stop)
    assert launch("method=cmap", "backend=ndif", f"++backend.key={KEY}", *golden_overrides) == 130
    said = capsys.readouterr().err
    assert "to go on: python -m entitrack.run method=cmap backend=ndif '++backend.key=***'" in said
    assert KEY not in said


def test_a_fault_of_the_program_shows_no_key(
    launch: Launch,
    golden_overrides: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(config: object) -> object:
        raise AssertionError(f"header {KEY}")

    monkeypatch.setattr(door, "execute", fail)
    assert launch("method=cmap", "--config-dir", "my", "backend=mine", *golden_overrides) == 1
    said = capsys.readouterr().err
    assert "AssertionError: header ***" in said
    assert KEY not in said


@pytest.mark.parametrize("words", [GIVEN["forced"], GIVEN["in an experiment"], GIVEN["by a pointer"]])
@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--cfg", "all"], ["--info"], ["--cfg", "job", "--resolve"]])
def test_it_is_not_shown_with_the_configuration(
    flags: list[str], words: list[str], launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(*words, "backend=ndif", *flags) == 0
    captured = capsys.readouterr()
    assert "backend" in captured.out
    assert KEY not in captured.out + captured.err


def test_a_short_key_is_hidden_where_it_was_given_and_spoils_no_text() -> None:
    keys = Keys({})
    assert hide_words(["backend.key=ab", "circuit=abc"], keys) == ["backend.key=***", "circuit=abc"]
