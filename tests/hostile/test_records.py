"""A store that something is wrong with, seen from the command line: said in one line, and never a wrong number."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from entitrack.core import notices
from entitrack.disk.records import pack, unpack
from tests.conftest import Launch, about_circuits

METHOD = ("method=evaluate", "method.models=[llama]", "tracking=disabled", "store={here}/store")


@dataclass(frozen=True)
class Kept:
    """A run that is finished.

    Attributes:
        store: Its store, with two records.
        arrays: The arrays of its result.
        overrides: The command line.
    """

    store: Path
    arrays: Path
    overrides: list[str]


@pytest.fixture
def kept(launch: Launch, golden_overrides: list[str], tmp_path: Path, pytestconfig: pytest.Config, capsys: Any) -> Kept:
    """The store of a good run, made once and copied for every trial."""
    cache: dict[str, Path] = pytestconfig.__dict__.setdefault("_kept_run", {})
    words = [word.replace("{here}", str(tmp_path)) for word in METHOD]
    words += about_circuits(golden_overrides, words)
    if "folder" not in cache:
        folder = tmp_path.parent / "kept"
        assert launch(*words) == 0
        shutil.copytree(tmp_path, folder)
        shutil.rmtree(tmp_path / "outputs")
        shutil.rmtree(tmp_path / "store")
        cache["folder"] = folder
    (arrays,) = cache["folder"].rglob("arrays.safetensors")
    shutil.copytree(cache["folder"] / "store", tmp_path / "store")
    capsys.readouterr()
    notices.warn.cache_clear()
    return Kept(tmp_path / "store", arrays, words)


def records(store: Path) -> list[Path]:
    return sorted(path for path in store.glob("??/*.safetensors"))


def content(folder: Path) -> dict[Path, bytes]:
    """All files, read in a way that trials do not meddle with."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                found[path] = stream.read()
    return found


def key_of(record: Path) -> str:
    return record.parent.name + record.stem


def change_bit(number: int) -> Callable[[Path], None]:
    def change(record: Path) -> None:
        content = bytearray(record.read_bytes())
        place = number % (8 * len(content))
        content[place // 8] ^= 1 << place % 8
        record.write_bytes(content)

    return change


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def replace(record: Path) -> None:
        record.write_bytes(change(record.read_bytes()))

    return replace


def plausible(record: Path) -> None:
    """What another program would write: right names, types and shapes, and no digest."""
    save_file(load_file(record), record)


def other_numbers(record: Path) -> None:
    """Other numbers with the old header."""
    content = record.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    record.write_bytes(content[:size] + bytes(len(content) - size))


def swap(record: Path) -> None:
    """Two good records change places; the other one is damaged by it as well."""
    other = records(record.parents[1])[1]
    content = record.read_bytes()
    record.write_bytes(other.read_bytes())
    other.write_bytes(content)


def resigned(record: Path) -> None:
    """A whole record with a good digest, of another key."""
    record.write_bytes(pack("0" * 64, unpack(key_of(record), record.read_bytes())))


def pickled(record: Path) -> None:
    torch.save({"prediction": torch.zeros(21)}, record)


DAMAGE: dict[str, tuple[Callable[[Path], None], int]] = {
    "first bit": (change_bit(0), 1),
    "length of the header": (change_bit(12), 1),
    "a bit of the header": (change_bit(8 * 60 + 1), 1),
    "a bit of the digest": (change_bit(8 * 400 + 3), 1),
    "last bit": (change_bit(-1), 1),
    "a bit of a number": (change_bit(-30), 1),
    "empty": (rewrite(lambda content: b""), 1),
    "half": (rewrite(lambda content: content[: len(content) // 2]), 1),
    "twice": (rewrite(lambda content: content + content), 1),
    "a byte more": (rewrite(lambda content: content + b"\n"), 1),
    "line ends changed": (rewrite(lambda content: content.replace(b"\0", b"\r\n")), 1),
    "zeros": (rewrite(lambda content: bytes(len(content))), 1),
    "compressed": (rewrite(zlib.compress), 1),
    "text": (rewrite(lambda content: b"<html>quota exceeded</html>"), 1),
    "a header without end": (rewrite(lambda content: b"\xff" * 8 + content[8:]), 1),
    "a git lfs pointer": (rewrite(lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), 1),
    "another program's": (plausible, 1),
    "other numbers": (other_numbers, 1),
    "another key's": (resigned, 1),
    "a pickle": (pickled, 1),
    "an empty safetensors file": (rewrite(lambda content: save({})), 1),
    "two records swapped": (swap, 2),
}


@pytest.mark.parametrize(("damage", "count"), DAMAGE.values(), ids=DAMAGE)
def test_what_cannot_be_trusted_is_said_and_set_aside_and_computed_again(
    damage: Callable[[Path], None], count: int, kept: Kept, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = {path: path.read_bytes() for path in records(kept.store)}
    damage(records(kept.store)[0])
    wrong = sorted(path.read_bytes() for path in records(kept.store) if path.read_bytes() != right[path])
    assert launch(*kept.overrides) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("entitrack: ")]
    assert len(said) == len(wrong) == count
    assert all("cannot be trusted" in line and "computed again" in line for line in said)
    assert sorted(path.read_bytes() for path in (kept.store / "set_aside").iterdir()) == wrong
    assert [unpack(key_of(path), path.read_bytes()) for path in records(kept.store)]
    here = kept.store.parent
    (arrays,) = (here / "outputs").rglob("arrays.safetensors")
    assert arrays.read_bytes() == kept.arrays.read_bytes()
    cost = json.loads(arrays.with_name("result.json").read_text())["cost"]
    assert (cost["units"], cost["reused"]) == (count, 2 - count)


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """A call of the system fails for every file of the store."""
    real = getattr(os, name)

    def call(path: Any, *arguments: Any, **named: Any) -> Any:
        if not isinstance(path, (str, Path)) or "store" in str(path):
            raise OSError(code, os.strerror(code), *([str(path)] if isinstance(path, (str, Path)) else []))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, name, call)


def system_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def no_reading(error: Exception) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def arrange(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        real = Path.read_bytes

        def read(path: Path) -> bytes:
            if path.suffix == ".safetensors" and "store" in path.parts:
                raise error
            return real(path)

        monkeypatch.setattr(Path, "read_bytes", read)

    return arrange


def no_writing(name: str, code: int) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def arrange(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        records(store)[0].unlink()
        refuse(monkeypatch, name, code)

    return arrange


def in_the_way(what: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    """A file where a folder should be, or the other way round."""

    def arrange(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        record = records(store)[0]
        record.unlink()
        if what == "record":
            record.mkdir()
        elif what == "folder":
            shutil.rmtree(record.parent)
            record.parent.write_bytes(b"")
        else:
            (store / what).rmdir()
            (store / what).write_bytes(b"")

    return arrange


def not_movable(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Another user's damaged record."""
    records(store)[0].write_bytes(b"damaged")
    (store / "set_aside").write_bytes(b"")


CANNOT = r"cannot use '.*store.*' \({}\)"
SYSTEM: dict[str, tuple[Callable[[pytest.MonkeyPatch, Path], None], str]] = {
    "no rights to read": (no_reading(system_error(errno.EACCES)), CANNOT.format("Permission denied")),
    "no handles": (no_reading(system_error(errno.EMFILE)), CANNOT.format("Too many open files")),
    "no handles in the system": (
        no_reading(system_error(errno.ENFILE)),
        CANNOT.format("Too many open files in system"),
    ),
    "a disk that fails": (no_reading(system_error(errno.EIO)), CANNOT.format("Input/output error")),
    "a server that is gone": (no_reading(system_error(errno.ESTALE)), CANNOT.format("Stale file handle")),
    "no kernel memory": (no_reading(system_error(errno.ENOMEM)), CANNOT.format("Cannot allocate memory")),
    "no memory": (no_reading(MemoryError()), r"store: no memory to read .*; it is left as it is; .*batch_size"),
    "a full disk": (no_writing("fsync", errno.ENOSPC), CANNOT.format("No space left on device")),
    "no quota": (no_writing("fsync", errno.EDQUOT), CANNOT.format("Disk quota exceeded")),
    "a disk that fails to write": (no_writing("fsync", errno.EIO), CANNOT.format("Input/output error")),
    "a disk for reading only": (no_writing("open", errno.EROFS), CANNOT.format("Read-only file system")),
    "no rights to write": (no_writing("open", errno.EACCES), CANNOT.format("Permission denied")),
    "no rights to replace": (no_writing("replace", errno.EACCES), CANNOT.format("Permission denied")),
    "a folder in a record's place": (in_the_way("record"), CANNOT.format("Is a directory")),
    "a file in a folder's place": (in_the_way("folder"), CANNOT.format("Not a directory")),
    "a file in the locks' place": (in_the_way("locks"), CANNOT.format("File exists")),
    "a damaged record that cannot be moved": (not_movable, CANNOT.format("File exists")),
}


@pytest.mark.parametrize(("arrange", "says"), SYSTEM.values(), ids=SYSTEM)
def test_an_error_of_the_system_is_one_line_and_nothing_is_touched(
    arrange: Callable[[pytest.MonkeyPatch, Path], None],
    says: str,
    kept: Kept,
    launch: Launch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        arrange(monkeypatch, kept.store)
        before = content(kept.store)
        code = launch(*kept.overrides)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("entitrack: ")]
    assert code == 2
    assert len(said) == 1

    assert re.fullmatch(f"entitrack: {says}", said[0]), said[0]
    assert content(kept.store) == before
    assert not list(kept.store.parent.rglob("result.json"))


def test_records_of_earlier_versions_are_not_read(
    kept: Kept, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stay where they are, and nothing is said of them."""
    for record in records(kept.store):
        record.rename(record.with_suffix(".pt"))
    assert launch(*kept.overrides) == 0
    assert "warning" not in capsys.readouterr().err
    assert len(records(kept.store)) == len(list(kept.store.rglob("*.pt"))) == 2
    assert not (kept.store / "set_aside").exists()
