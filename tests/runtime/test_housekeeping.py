"""What is in a store: who used it, what may go, and what is damaged; by the command line that people give."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from entitrack import store as door
from entitrack.runtime.housekeeping import Choice, prune, units
from entitrack.runtime.store import Store
from entitrack.runtime.uses import RUNS, Use, note_use, uses

OLD, NEW, NOBODYS = "aa" * 32, "bb" * 32, "cc" * 32
DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of three units: one of two runs, 40 days old; one of a later run; one of none."""
    made = Store(tmp_path / "store")
    for key in (OLD, NEW, NOBODYS):
        made.put(key, {"values": torch.zeros(100)})
    (old,) = (unit.path for unit in units(made.root) if unit.key == OLD)
    os.utime(old, (time.time() - 40 * DAY,) * 2)
    note_use(made.root, Use("outputs/cmap/first", "cmap", "2026-01-01", {OLD: "llama"}))
    note_use(made.root, Use("outputs/cmap/second", "cmap", "2026-02-01", {OLD: "llama", NEW: "float"}))
    note_use(made.root, Use("outputs/evaluate/third", "evaluate", "2026-03-01", {NEW: "float"}))
    return made


def ask(store: Store, *words: str) -> int:
    action, *more = words
    return door.main([action, "--store", str(store.root), *more])


def keys(store: Store, **choice: object) -> set[str]:
    chosen = Choice(**choice)  # type: ignore[arg-type]
    return {unit.key for unit in units(store.root) if chosen.takes(unit, time.time())}


def test_units_are_chosen_by_age_run_method_and_model(store: Store) -> None:
    assert keys(store) == {OLD, NEW, NOBODYS}
    assert keys(store, older_s=30 * DAY) == {OLD}
    assert keys(store, run="second") == {OLD, NEW}
    assert keys(store, run="cmap/first") == {OLD}
    assert keys(store, run="irst") == set()
    assert keys(store, method="evaluate") == {NEW}
    assert keys(store, model="llama") == {OLD}
    assert keys(store, unclaimed=True) == {NOBODYS}
    assert keys(store, model="llama", older_s=50 * DAY) == set()


def test_a_store_is_listed_by_what_is_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(store, "list") == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if "outputs/" in line}
    assert lines["outputs/cmap/second"][:2] == ["cmap", "llama,"]
    assert lines["outputs/cmap/second"][3] == "2"
    assert lines["outputs/cmap/first"][-2:] == ["40.0", "d"]
    assert ask(store, "list", "--by", "model", "--method", "cmap") == 0
    shown = capsys.readouterr().out
    assert "2 units" in shown
    assert "llama" in shown
    assert door.NOBODY not in shown
    assert ask(store, "list", "--by", "method") == 0
    assert door.NOBODY in capsys.readouterr().out


def test_nothing_is_removed_before_it_is_meant(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(store, "prune", "--older", "30d") == 0
    assert capsys.readouterr().out.startswith("would remove 1 units")
    assert keys(store) == {OLD, NEW, NOBODYS}
    assert ask(store, "prune", "--older", "30d", "--yes") == 0
    assert capsys.readouterr().out.startswith("removed 1 units")
    assert keys(store) == {NEW, NOBODYS}
    assert store.get(OLD) is None
    assert store.get(NEW) is not None


def test_a_unit_that_is_at_work_stays(store: Store) -> None:
    lock = Store(store.root).lock(NEW)
    assert lock.take()
    try:
        pid = os.fork()
        if pid == 0:  # another process
            gone = prune(store, units(store.root))
            os._exit(0 if {unit.key for unit in gone} == {OLD, NOBODYS} else 1)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        lock.free()
    assert keys(store) == {NEW}


def test_damage_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(store, "verify") == 0
    assert capsys.readouterr().out == "3 units, 0 damaged\n"
    (path,) = (unit.path for unit in units(store.root) if unit.key == NEW)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert ask(store, "verify") == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}: ")
    assert last.startswith("3 units, 1 damaged")
    assert path.read_bytes() == content


def test_a_note_of_a_run_in_the_same_place_is_replaced_and_rubbish_is_passed_over(store: Store) -> None:
    note_use(store.root, Use("outputs/cmap/first", "cmap", "2026-04-01", {NEW: "float"}))
    (store.root / RUNS / "rubbish.json").write_text("{")
    (store.root / RUNS / "other.json").write_text('{"run": 1}')
    assert [use.run for use in uses(store.root)] == [
        "outputs/cmap/second",
        "outputs/evaluate/third",
        "outputs/cmap/first",
    ]
    assert keys(store, run="first") == {NEW}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list", "--older", "soon"], "--older: 'soon' is no age; say 12h, 30d or 8w"),
        (["verify", "--store", "nowhere"], "--store: 'nowhere' is no folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs/store").mkdir(parents=True)
    assert door.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"entitrack.store: {complaint}")


@pytest.mark.parametrize("action", ["list", "prune", "verify"])
def test_help_starts_nothing(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        door.main([action, "--help"])
    assert left.value.code == 0
    assert "--older" in capsys.readouterr().out
