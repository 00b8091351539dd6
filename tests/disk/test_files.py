"""A file is there whole or not at all; what a kill leaves behind goes away, what is being written does not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entitrack.disk.files import appearing, clean_up

WRITER = """
import sys
from pathlib import Path
from entitrack.disk.files import appearing
with appearing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(path: Path) -> subprocess.Popen[bytes]:
    """A process in the midst of writing `path`; it goes on when its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def write_and_fail(path: Path, error: BaseException | None) -> None:
    with appearing(path) as stream:
        stream.write(b"half")
        if error:
            raise error


def full_disk() -> OSError:
    """As the system says it: no file is named."""
    return OSError(errno.ENOSPC, "No space left on device")


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file"
    with appearing(path) as stream:
        stream.write(b"content")
        assert not path.exists()
        assert [part.parent for part in parts(tmp_path)] == [path.parent]
    assert path.read_bytes() == b"content"
    assert parts(tmp_path) == []


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(path, KeyboardInterrupt())
    assert path.read_bytes() == b"before"
    assert parts(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_a_file_follows_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with appearing(tmp_path / "file") as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("moment", ["write", "fsync"])
def test_a_full_disk_names_the_file(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own error names no file; some file systems are found full only when all is flushed."""

    def fail(*_: object) -> None:
        raise full_disk()

    path = tmp_path / "file"
    if moment == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        write_and_fail(path, full_disk() if moment == "write" else None)
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_a_limit_on_file_sizes_leaves_nothing(tmp_path: Path) -> None:
    """A real refusal of the kernel in the midst of a write."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from entitrack.disk.files import appearing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with appearing(Path(sys.argv[1])) as stream: stream.write(bytes(100_000))\n"
        "except OSError as error: print(error.filename)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, text=True)
    assert ran.stdout == f"{tmp_path / 'file'}\n", ran.stderr
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError) as caught, appearing(tmp_path / "file") as stream:
        stream.write(b"x")
    assert caught.value.filename == str(tmp_path / "file")
    assert parts(tmp_path) == []


def test_what_a_kill_leaves_is_cleaned_up_and_nothing_else(tmp_path: Path) -> None:
    killed, alive = start_writer(tmp_path / "killed" / "file"), start_writer(tmp_path / "alive" / "file")
    foreign = [tmp_path / "film.mkv.part", tmp_path / "entitrack-notes.txt", tmp_path / "killed" / "other"]
    for path in foreign:
        path.write_bytes(b"not ours")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(parts(tmp_path / "killed")) == 1
    clean_up(tmp_path)
    assert parts(tmp_path / "killed") == []
    assert not (tmp_path / "killed" / "file").exists()
    assert all(path.exists() for path in foreign)
    alive.communicate()
    assert (tmp_path / "alive" / "file").read_bytes() == b"half"
    assert alive.returncode == 0


def test_what_another_machine_began_is_left_alone_for_a_day(tmp_path: Path) -> None:
    """Locks may not be seen across machines."""
    new, old = tmp_path / "entitrack-00000000-1.part", tmp_path / "entitrack-00000000-2.part"
    for path in (new, old):
        path.write_bytes(b"")
    day = time.time() - 25 * 60 * 60
    os.utime(old, (day, day))
    clean_up(tmp_path)
    assert (new.exists(), old.exists()) == (True, False)


def test_cleaning_up_where_nothing_is_does_nothing(tmp_path: Path) -> None:
    clean_up(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_cleaning_up_does_not_follow_links(tmp_path: Path) -> None:
    with appearing(tmp_path / "file"):
        name = parts(tmp_path)[0].name
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).symlink_to(treasure)
    clean_up(tmp_path / "folder")
    assert treasure.exists()


def test_a_file_is_written_although_another_process_cleans_up(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from entitrack.disk.files import clean_up\n"
        "print('cleaning', flush=True)\n"
        "while True: clean_up(Path(sys.argv[1]))\n"
    )
    cleaner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert cleaner.stdout is not None
        cleaner.stdout.readline()
        for number in range(200):
            with appearing(tmp_path / str(number)) as stream:
                stream.write(b"x")
    finally:
        cleaner.kill()
        cleaner.wait()
    assert len(os.listdir(tmp_path)) == 200
