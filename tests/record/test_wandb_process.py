"""The process that writes a run to W&B: what the library is told, and what becomes of a run whose record fails."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError
from entitrack.record import tracking, wandb_process
from entitrack.record.settings import TrackingSettings
from tests.record.test_wandb import COMMAND, METRICS, logged, some_result


class Kept(io.StringIO):
    """Text that can be read once it is closed."""

    def close(self) -> None:
        self.seek(0)


class Recorder(SimpleNamespace):
    """Stands in for the library, and keeps what it is told in order."""

    def __init__(self) -> None:
        super().__init__(told=[], Table=lambda **words: ("table", words), Image=lambda path: ("image", path))
        self.Settings = lambda **words: words

    def Artifact(self, name: str, kind: str, metadata: Any) -> SimpleNamespace:
        texts: dict[str, io.StringIO] = {}
        made = SimpleNamespace(name=name, kind=kind, texts=texts, files={})
        made.new_file = lambda name, encoding: texts.setdefault(name, Kept())
        made.add_file = lambda path, name, policy: made.files.update({name: (path, policy)})
        return made

    def log_artifact(self, made: SimpleNamespace) -> None:
        self.told.append(("left", made.name, made.kind))

    def use_artifact(self, made: SimpleNamespace) -> None:
        self.told.append(("taken", made.name, made.kind, *(text.getvalue() for text in made.texts.values())))

    def init(self, **words: Any) -> Recorder:
        self.told.append(words)
        return self

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.told.append("finished")


def test_the_library_is_told_curves_then_numbers_tables_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "figure.png").write_bytes(b"")
    library, given = Recorder(), logged(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", library)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given)))
    monkeypatch.setenv("WANDB_SILENT", "as it was")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    wandb_process.main()
    begun, *curve, (step, values), taken, left, whole, end = library.told
    settings = begun.pop("settings")
    assert begun == {
        "project": "mine", "mode": "online", "dir": str(tmp_path), "job_type": "cmap", "config": given["config"],
        "name": given["name"], "group": given["group"], "tags": given["tags"], "notes": given["notes"],
    }  # fmt: skip
    assert taken == ("taken", "circuit-llama", "circuit", given["artifacts"][0]["texts"]["circuit.json"])
    assert (left, whole) == (("left", "circuit-llama", "circuit"), ("left", "cmap-few", "result"))
    quiet = {"silent": True, "console": "off", "disable_git": True, "x_disable_stats": True}
    assert settings == quiet | {"x_save_requirements": False}, "neither the terminal nor the user's code is recorded"
    assert curve == [(0, {"loss/a": 4.0}), (1, {}), (2, {"loss/a": 3.0})]
    tables = [("table", {**table, "allow_mixed_types": True}) for table in given["tables"]]
    image = ("image", str(tmp_path / "figure.png"))
    assert step is None
    assert os.environ["WANDB_DATA_DIR"] == os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "wandb")
    assert values == METRICS | {"table_0": tables[0], "table_1": tables[1], "figure": image}
    assert (end, os.environ["WANDB_SILENT"]) == ("finished", "as it was")


ENV = ("NDIF_API_KEY", "secret-of-mine")
KEEPS = "import os, sys\nopen({path!r}, 'w').write(repr((sys.stdin.read(), dict(os.environ))))\n"
"""What stands in for the process: it leaves what it is given and its variables."""


def stand_in(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have another program run where the process that logs would."""
    popen = tracking.subprocess.Popen

    def start(command: list[str], **words: Any) -> Any:
        assert command[1:] == ["-P", "-m", "entitrack.record.wandb_process"]
        return popen([sys.executable, "-c", program], **words)

    monkeypatch.setattr(tracking.subprocess, "Popen", start)


def record(folder: Path, keys: Keys | None = None, **settings: Any) -> str | None:
    return tracking.record(some_result(), TrackingSettings(**settings), folder, keys or Keys())


def test_the_process_is_given_all_of_it_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*ENV)
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    stand_in(monkeypatch, KEEPS.format(path=str(tmp_path / "given")))
    keys = Keys()
    keys.add(COMMAND)
    assert record(tmp_path, keys) is None
    text, variables = eval((tmp_path / "given").read_text())
    assert json.loads(text)["metrics"] == METRICS
    assert COMMAND not in text
    assert ENV[0] not in variables
    assert variables["PYTHONPATH"] == os.pathsep.join(("somewhere", str(Path(tracking.__file__).parents[2])))


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; sys.stdin.read(); print('first\\nlast', file=sys.stderr); sys.exit(3)", "last"),
        ("import sys; sys.stdin.read(); sys.exit(3)", "its process ended with 3"),
        ("import sys; print('fine', file=sys.stderr); sys.stdin.read()", None),
    ],
)
def test_why_it_failed_is_its_last_line(
    program: str, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, program)
    assert record(tmp_path) == says


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = f"import time; time.sleep(1.5); open({str(tmp_path / 'alive')!r}, 'w')"
    hangs = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    stand_in(monkeypatch, hangs)
    assert record(tmp_path, timeout_s=0.5) == "it did not finish within tracking.timeout_s=0.5"
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


def test_nothing_is_started_where_it_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, KEEPS.format(path=str(tmp_path / "given")))
    assert record(tmp_path, mode="disabled") is None
    assert not (tmp_path / "given").exists()


@pytest.mark.parametrize(
    ("key", "netrc", "known"),
    [
        ("k", "", True),
        ("", "machine api.wandb.ai login user password p\n", True),
        ("", "machine other.org login user password p\n", False),
        ("", "machine\n", False),
    ],
)
def test_online_needs_an_account(
    key: str, netrc: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", key)
    tracking.check_tracking(TrackingSettings(mode="offline"))
    if known:
        tracking.check_tracking(TrackingSettings(mode="online"))
    else:
        with pytest.raises(UserError, match=r"^tracking: online recording needs an account and none is logged in; set"):
            tracking.check_tracking(TrackingSettings(mode="online"))
