"""Finished work is kept whole or not at all, under a key of everything it depends on, and trusted only as it was."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core import notices
from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.models.family import Model
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.keys import unit_key
from entitrack.runtime.store import Store
from tests.processes import holding, kill_while_writing

KEY, OTHER = "ab" + "0" * 62, "ab" + "1" * 62
RESULT: dict[str, Any] = {"a": torch.arange(3), "b": [torch.ones(2), torch.zeros(1)]}
NOTE = {"id": "job-1", "host": "http://here", "submitted": 1.5, "damaged": False}


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> None:
    notices.warn.cache_clear()


def record(store: Store, key: str = KEY) -> Path:
    return store.root / key[:2] / f"{key[2:]}.safetensors"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_put_is_got(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(KEY, RESULT)
    found = store.get(KEY)
    assert found is not None
    assert torch.equal(found["a"], RESULT["a"])
    assert store.get(OTHER) is None
    assert (store.has(KEY), store.has(OTHER)) == (True, False)


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": flip,
    "a cut": lambda content: content[:-1],
    "nothing": lambda content: b"",
    "more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "a record of an earlier version": lambda content: b"PK\x03\x04archive/data.pkl",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_said_and_set_aside_and_never_deleted(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.put(KEY, RESULT)
    content = damage(record(store).read_bytes())
    record(store).write_bytes(content)
    assert store.get(KEY) is None
    assert store.get(KEY) is None
    ((aside, kept),) = files(tmp_path).items()
    assert aside.startswith("set_aside/ab-")
    assert kept == content
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"entitrack: warning: store: {record(store)} cannot be trusted: ")
    assert said[0].endswith(f"; set aside as {tmp_path / aside}; computed again")


def test_the_record_of_another_key_is_foreign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    store.put(KEY, RESULT)
    record(store).rename(record(store, OTHER))
    assert store.get(OTHER) is None
    assert f"it is the record of another unit, {KEY}" in capsys.readouterr().err
    assert list(files(tmp_path / "set_aside"))


def test_setting_aside_replaces_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(3):
        record(store).parent.mkdir(exist_ok=True)
        record(store).write_bytes(b"%d" % number)
        assert store.get(KEY) is None
    assert sorted(files(tmp_path / "set_aside").values()) == [b"0", b"1", b"2"]


def test_a_damaged_record_is_left_to_the_process_that_is_at_work_on_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(KEY, RESULT)
    record(store).write_bytes(b"damaged")
    with holding(tmp_path, KEY):
        assert store.get(KEY) is None
        assert record(store).read_bytes() == b"damaged"
    assert store.get(KEY) is None
    assert not record(store).exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ESTALE])
@pytest.mark.parametrize("content", ["good", "damaged"])
def test_an_error_of_the_system_is_no_damage(
    code: int, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.put(KEY, RESULT)
    if content == "damaged":
        record(store).write_bytes(b"damaged")
    before = files(tmp_path)

    def fail(path: Path) -> bytes:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        store.get(KEY)
    assert caught.value.filename == str(record(store))
    monkeypatch.undo()
    assert files(tmp_path) == before


def test_no_file_handles_is_no_damage(tmp_path: Path) -> None:
    """The real thing: the system gives no more handles."""
    store = Store(tmp_path)
    store.put(KEY, RESULT)
    before = files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            store.get(KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.filename == str(record(store))
    assert files(tmp_path) == before


def test_no_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put(KEY, RESULT)

    def fail(path: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UserError, match=r"store: no memory to read .*; it is left as it is"):
        store.get(KEY)
    monkeypatch.undo()
    assert store.get(KEY) is not None


def test_a_damaged_record_that_cannot_be_moved_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    record(store).parent.mkdir()
    record(store).write_bytes(b"damaged")

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        store.get(KEY)
    assert files(tmp_path) == {f"ab/{KEY[2:]}.safetensors": b"damaged"}


@pytest.mark.parametrize("where", ["store", "ab", "record"])
def test_what_stands_in_the_way_is_an_error(where: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    if where == "record":
        record(store).mkdir(parents=True)
    else:
        path = store.root if where == "store" else record(store).parent
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"in the way")
    for attempt in (lambda: store.get(KEY), lambda: store.put(KEY, RESULT)):
        with pytest.raises(OSError, match=r"directory|exists") as caught:
            attempt()
        assert caught.value.filename is not None


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, moment, full_disk)
    store = Store(tmp_path)
    with pytest.raises(OSError, match="No space left") as caught:
        store.put(KEY, RESULT)
    assert caught.value.filename == str(record(store))
    assert files(tmp_path) == {}


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_records_notes_and_folders_follow_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "store")
        store.put(KEY, RESULT)
        store.note_job(KEY, NOTE)
        lock = store.lock(KEY)
        assert lock.take()
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in store.root.rglob("*")}
        lock.free()
    finally:
        os.umask(before)
    assert len(modes) == 6
    for path, mode in modes.items():
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_a_store_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is found without a lock, a folder or a file being made."""
    store = Store(tmp_path)
    store.put(KEY, RESULT)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("written to")

    for name in ("mkdir", "unlink", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(Store, "lock", refuse)
    assert store.get(KEY) is not None
    assert store.get(OTHER) is None


def test_a_noted_job_is_found_until_its_result_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.job(KEY) is None
    store.note_job(KEY, NOTE)
    assert store.job(KEY) == NOTE
    assert (store.job(OTHER), store.job_count()) == (None, 1)
    store.put(KEY, RESULT)
    assert (store.job(KEY), store.job_count()) == (None, 0)


def test_every_bit_of_a_note_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    store.note_job(KEY, NOTE)
    path = tmp_path / "jobs" / f"{KEY}.json"
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert store.job(KEY) is None, bit
        assert not path.exists()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 8 * len(content) == len(list((tmp_path / "set_aside").iterdir()))
    assert all(line.endswith("; a job that it told of may be run again") for line in said)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"note": 1}',
        b'{"note": {}}',
        b"[" * 100_000,
        b'{"id": "job-1"}',
        b"1" * 5000,
    ],
)
def test_what_is_no_note_is_set_aside(note: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = tmp_path / "jobs" / f"{KEY}.json"
    path.parent.mkdir()
    path.write_bytes(note)
    assert store.job(KEY) is None
    assert list(files(tmp_path).values()) == [note]
    assert not path.exists()


def test_the_note_of_another_unit_is_foreign(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.note_job(KEY, NOTE)
    (tmp_path / "jobs" / f"{KEY}.json").rename(tmp_path / "jobs" / f"{OTHER}.json")
    assert store.job(OTHER) is None
    assert list((tmp_path / "set_aside").iterdir())


@pytest.fixture
def prompts(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    tokens = golden["eval.tokens"][:4]
    masks = torch.ones_like(tokens)
    return {"tokens": tokens, "mask": masks, "last": golden["eval.last"][:4], "answers": golden["eval.labels"][:4]}


def test_finished_units_are_not_run_again(tmp_path: Path, prompts: dict[str, Tensor], golden_model: Model) -> None:
    first, second = Runner(Local(), Store(tmp_path)), Runner(Local(), Store(tmp_path))
    results = [runner.run(golden_model, answer, {"prompts": prompts}) for runner in (first, first, second)]
    assert [(runner.cost.units, runner.cost.reused) for runner in (first, second)] == [(1, 1), (0, 1)]
    assert all(torch.equal(results[0]["probability"], other["probability"]) for other in results[1:])


def test_a_damaged_unit_is_computed_again(tmp_path: Path, prompts: dict[str, Tensor], golden_model: Model) -> None:
    (right,) = Runner(Local(), Store(tmp_path)).map(golden_model, answer, [{"prompts": prompts}])
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(flip(path.read_bytes()))
    runner = Runner(Local(), Store(tmp_path))
    again = runner.run(golden_model, answer, {"prompts": prompts})
    assert (runner.cost.units, runner.cost.reused) == (1, 0)
    assert torch.equal(again["probability"], right["probability"])
    assert Store(tmp_path).get(f"{path.parent.name}{path.stem}") is not None


def test_a_wrong_result_is_not_kept(
    tmp_path: Path, prompts: dict[str, Tensor], golden_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a server that leaves something out."""
    right = Local().run(golden_model, answer, {"anatomy": golden_model.anatomy, "prompts": prompts})
    del right["probability"]
    monkeypatch.setattr(Local, "run", lambda *_: right)
    runner = Runner(Local(), Store(tmp_path))
    with pytest.raises(UserError, match="the result of answer is not what it should be: 'probability' is missing"):
        runner.run(golden_model, answer, {"prompts": prompts})
    assert files(tmp_path) == {}


def test_what_killed_runs_left_is_cleaned_up_when_work_begins(
    tmp_path: Path, prompts: dict[str, Tensor], golden_model: Model
) -> None:
    kill_while_writing(tmp_path, KEY)
    assert [path for path in files(tmp_path) if path.endswith(".part")]
    assert [path for path in files(tmp_path) if path.startswith("locks/")]
    Runner(Local(), Store(tmp_path)).run(golden_model, answer, {"prompts": prompts})
    (left,) = files(tmp_path)
    assert left.endswith(".safetensors")


def test_keys_of_interventions_of_one_name_in_two_rooms_differ() -> None:
    assert unit_key("one.answer", "m", "cpu", {}) != unit_key("other.answer", "m", "cpu", {})
