"""A result is on the disk, whole, before it is shown or logged; and what it was computed from is in it."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from entitrack.core.circuits import Circuit
from entitrack.core.plain import decode, encode
from entitrack.disk import files
from entitrack.record import figures, terminal
from entitrack.record import folder as records
from tests.conftest import Launch
from tests.hostile.trial import listing

RUN = ("method=cmap", "tracking=disabled", "hydra.run.dir=run")
CONFIGURATION = {"hydra", "hydra/config.yaml", "hydra/overrides.yaml"}
WHOLE = {"arrays.safetensors", "prompts.jsonl", "figure.png", *CONFIGURATION, "result.json"}


def left_in(folder: Path) -> set[str]:
    """What a run left in its folder, but W&B's record."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if not name.startswith("wandb")}


def refuse_constants(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def read_result(folder: Path) -> dict[str, Any]:
    """The record of a run, by the letter of JSON."""
    return json.loads((folder / "result.json").read_text(), parse_constant=refuse_constants)


# What is shown and logged comes after


def test_the_record_is_whole_before_anything_is_shown(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    monkeypatch.setattr(terminal, "show", lambda result: seen.append(left_in(tmp_path / "run")))
    assert launch(*RUN, *golden_overrides) == 0
    assert seen == [WHOLE]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (SystemExit(1), ""),  # what rich makes of a closed pipe
        (OSError(errno.ENOSPC, "No space left on device"), "entitrack: warning: standard output takes no more"),
        (OSError(errno.EIO, "Input/output error"), "entitrack: warning: standard output takes no more"),
    ],
)
def test_a_terminal_that_takes_no_more_costs_nothing(
    error: BaseException,
    says: str,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(result: object) -> None:
        raise error

    monkeypatch.setattr(terminal, "show", fail)
    assert launch(*RUN, *golden_overrides) == 0
    assert left_in(tmp_path / "run") == WHOLE
    said = capsys.readouterr().err
    assert said.startswith(says)
    assert len(said.splitlines()) == bool(says)


def start(folder: Path, *words: str, out: int | IO[bytes] = subprocess.PIPE, **more: Any) -> subprocess.Popen[bytes]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "entitrack.run", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    environment |= more.pop("environment", {})
    return subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.PIPE, env=environment, **more)


def test_a_reader_who_leaves_costs_nothing(golden_overrides: list[str], tmp_path: Path) -> None:
    process = start(tmp_path, *RUN, *golden_overrides)
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert left_in(tmp_path / "run") == WHOLE


def test_a_full_device_costs_one_line(golden_overrides: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(tmp_path, *RUN, *golden_overrides, out=full)
        _, error = process.communicate()
    assert process.returncode == 0
    (line,) = error.decode().splitlines()
    assert line.startswith("entitrack: warning: standard output takes no more (No space left on device)")
    assert left_in(tmp_path / "run") == WHOLE


def test_a_terminal_of_ascii_shows_what_it_can(golden_overrides: list[str], tmp_path: Path) -> None:
    process = start(tmp_path, *RUN, *golden_overrides, environment={"PYTHONIOENCODING": "ascii"})
    out, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert b"float (donor)" in out


# A disk that takes no more


@pytest.mark.parametrize("last", range(6))
def test_a_disk_that_is_full_leaves_nothing(
    last: int,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever of the files it is that does not fit."""
    before = listing(tmp_path)
    sync, count = os.fsync, iter(range(100))

    def fill(handle: int) -> None:
        if next(count) == last:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", fill)
    assert launch(*RUN, "store=null", *golden_overrides) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"entitrack: cannot use '{tmp_path / 'run'}")
    assert line.endswith("(No space left on device)")
    assert captured.out == ""
    assert listing(tmp_path) == before


def test_a_limit_on_files_leaves_nothing(golden_overrides: list[str], tmp_path: Path) -> None:
    """The arrays fit, the figure does not."""
    before = listing(tmp_path)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = start(tmp_path, *RUN, "store=null", *golden_overrides, preexec_fn=limit)
    out, error = process.communicate()
    assert (process.returncode, out) == (2, b"")
    (line,) = error.decode().splitlines()
    assert "(File too large)" in line
    assert listing(tmp_path) == before


def test_a_folder_that_another_may_not_write_to_is_refused_first(
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked of the system, since a superuser may write anywhere."""
    (tmp_path / "theirs").mkdir()
    access = os.access

    def theirs(path: Any, mode: int) -> bool:
        return False if Path(path).name == "theirs" else access(path, mode)

    monkeypatch.setattr(records.os, "access", theirs)
    monkeypatch.setattr("entitrack.run.execute", lambda config: pytest.fail("it was run"))
    assert launch("method=cmap", "output_dir=theirs", *golden_overrides) == 2
    assert capsys.readouterr().err == f"entitrack: cannot use '{tmp_path / 'theirs'}' (Permission denied)\n"


def test_what_a_kill_left_is_removed_by_the_next_run(
    launch: Launch, golden_overrides: list[str], tmp_path: Path
) -> None:
    writer = (
        "import os, pathlib, signal\nfrom entitrack.disk.files import appearing\n"
        "with appearing(pathlib.Path('outputs/cmap/killed/arrays.safetensors')) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", writer], cwd=tmp_path, env=environment, check=False)
    assert list(tmp_path.rglob("*.part"))
    assert launch("method=cmap", "tracking=disabled", *golden_overrides) == 0
    assert not list(tmp_path.rglob("*.part"))


def test_a_figure_that_cannot_be_drawn_costs_no_result(
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(result: object) -> None:
        raise ValueError("no\nfonts")

    monkeypatch.setattr(figures, "figure", fail)
    assert launch(*RUN, *golden_overrides) == 0
    assert left_in(tmp_path / "run") == WHOLE - {"figure.png"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("entitrack: warning: no figure could be drawn (ValueError: no fonts); the result is in ")


# W&B

RAISES = "def init(**words): raise {0}\n"
SETTINGS = "import time\nclass Settings:\n    def __init__(self, **words): pass\n"
IN_FINISH = (
    "class Run:\n    def log(self, *words, **more): pass\n    def finish(self): {0}\n"
    "    log_artifact = use_artifact = _log_artifact = log\n"
    "class Artifact:\n    def __init__(self, *words, **more): pass\n    add_file = __init__\n"
    "    def new_file(self, *words, **more): import io; return io.StringIO()\n"
    "def init(**words): return Run()\nclass Table:\n    def __init__(self, **words): pass\n"
    "class Image:\n    def __init__(self, path): pass\n"
)
ONLINE = {"WANDB_API_KEY": "0123456789" * 4}
FOLDERS = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")


@pytest.mark.parametrize(
    ("wandb", "says"),
    [
        (RAISES.format("RuntimeError('two\\nlines')"), "RuntimeError: two lines"),
        (RAISES.format("SystemExit(0)"), "SystemExit: 0"),
        (RAISES.format("KeyboardInterrupt"), "KeyboardInterrupt"),
        ("import os\ndef init(**words): os.kill(os.getpid(), 9)\n", "its process ended with -9"),
        ("def init(**words): time.sleep(1000)\n", "it did not finish within tracking.timeout_s=4"),
        (IN_FINISH.format("time.sleep(1000)"), "it did not finish within tracking.timeout_s=4"),
        (IN_FINISH.format("raise OSError('gone')"), "OSError: gone"),
        (IN_FINISH.format("print('words' * 100_000); raise ValueError('after many words')"), "after many words"),
        ("raise ImportError('broken')\n", "ImportError: broken"),
    ],
)
def test_wandb_that_fails_costs_one_line(
    wandb: str,
    says: str,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(SETTINGS + wandb)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    patience = "tracking.timeout_s=4" if "timeout" in says else "tracking.timeout_s=100"
    assert launch("method=cmap", "hydra.run.dir=run", patience, *golden_overrides) == 0
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("entitrack: warning: W&B has no record (")
    assert says in line
    assert "float (donor)" in captured.out
    assert left_in(tmp_path / "run") == WHOLE


@pytest.mark.parametrize(
    ("name", "variables", "words"),
    [
        ("no home", {"HOME": ""}, ()),
        ("a home that is a file", {"HOME": "/dev/null"}, ()),
        ("folders that are files", dict.fromkeys(FOLDERS, "/dev/null"), ()),
        ("a project of slashes", {}, ("tracking.project=a/b",)),
        ("a project without end", {}, (f"tracking.project={'p' * 500}",)),
        ("no network", ONLINE | {"WANDB_BASE_URL": "http://127.0.0.1:9"}, ("tracking=online", "tracking.timeout_s=8")),
        ("an address that is none", ONLINE | {"WANDB_BASE_URL": "nowhere"}, ("tracking=online",)),
    ],
)
def test_wandb_itself_costs_no_more_than_one_line(
    name: str,
    variables: dict[str, str],
    words: tuple[str, ...],
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert launch("method=cmap", "hydra.run.dir=run", *golden_overrides, *words) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) <= 1, captured.err
    assert all(line.startswith("entitrack: warning: W&B has no record (") for line in lines)
    if "tracking=online" in words:
        assert lines
    assert left_in(tmp_path / "run") == WHOLE


# What it was computed from


def test_a_result_names_what_it_was_computed_from(
    launch: Launch, golden_overrides: list[str], golden_circuit: Circuit, tmp_path: Path
) -> None:
    assert launch(*RUN, *golden_overrides) == 0
    found = read_result(tmp_path / "run")
    (circuit,) = found["circuit"]
    assert circuit["file"] == str(tmp_path / "circuit.json")
    heads = {group["name"]: group["heads"] for group in circuit["groups"]}
    assert heads == {group.name: [list(head) for head in group.heads] for group in golden_circuit.groups}
    assert set(found["models"]) == {"llama", "float"}
    assert found["models"]["llama"] != found["models"]["float"]
    assert found["prompts"]["count"] == 42
    assert any("cpu" in device for device in found["device"])
    assert found["command"].startswith("python -m entitrack.run method=cmap")
    assert found["date"][-6] in "+-"
    assert {"python", "torch", "transformers", "nnsight", "entitrack"} <= set(found["versions"])
    assert found["cost"]["seconds"] > 0


def test_digests_change_with_what_they_are_of(
    launch: Launch, golden_overrides: list[str], golden_circuit: Circuit, tmp_path: Path
) -> None:
    lines = (tmp_path / "boxes.jsonl").read_text().splitlines()
    fewer = Circuit(golden_circuit.groups[:1])
    fewer.write(tmp_path / "fewer.json")
    (tmp_path / "other.jsonl").write_text("\n".join(lines[7:] + lines[:7]))
    runs: dict[str, list[str]] = {
        "same": [],
        "again": [],
        "circuit": [f"circuit={tmp_path / 'fewer.json'}"],
        "prompts": [f"task.path={tmp_path / 'other.jsonl'}"],
    }
    for name, words in runs.items():
        assert launch("method=cmap", "tracking=disabled", *golden_overrides, f"hydra.run.dir={name}", *words) == 0
    digests = {}
    for name in runs:
        found = read_result(tmp_path / name)
        digests[name] = (found["circuit"][0]["digest"], found["prompts"]["digest"])
    assert digests["same"] == digests["again"]
    assert digests["circuit"][0] != digests["same"][0]
    assert digests["circuit"][1] == digests["same"][1]
    assert digests["prompts"][0] == digests["same"][0]
    assert digests["prompts"][1] != digests["same"][1]


def test_numbers_that_json_has_not_are_objects_that_say_which() -> None:
    values = {"a": [float("nan"), [float("-inf"), 1.5]], "b": None, "c": "nan"}
    written = json.dumps(encode(values), allow_nan=False)
    assert written == '{"a": [{"$number": "nan"}, [{"$number": "-inf"}, 1.5]], "b": null, "c": "nan"}'
    assert str(decode(json.loads(written))) == str(values)


def test_a_run_is_made_again_with_the_words_it_left(
    launch: Launch, golden_overrides: list[str], tmp_path: Path
) -> None:
    assert launch(*RUN, *golden_overrides, "seed=3") == 0
    first = read_result(tmp_path / "run")
    assert launch(*first["overrides"], "hydra.run.dir=again") == 0
    second = read_result(tmp_path / "again")
    for part in ("tables", "circuit", "prompts", "models", "config"):
        assert first[part] == second[part]


@pytest.mark.parametrize("name", ["run", "again"])
def test_a_result_is_never_replaced(
    name: str, launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(*RUN, *golden_overrides) == 0
    before = (tmp_path / "run" / "result.json").read_bytes()
    assert launch(*RUN, *golden_overrides, f"hydra.run.dir={name}") == (2 if name == "run" else 0)
    assert (tmp_path / "run" / "result.json").read_bytes() == before
