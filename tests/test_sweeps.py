"""A sweep ends with one table over what was varied, goes on where it was, and runs where its launcher says."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entitrack import load
from entitrack.cli.kinds import LAUNCHERS
from entitrack.core.settings import defaults
from entitrack.launch import launching
from entitrack.launch.settings import SubmititSettings
from tests.conftest import Launch

WORDS = ("method=cmap", "model=tiny", "task.count=42", "method.controls=0", "model.device=cpu", "batch_size=21")
OVER = ("donor=float,goat", "task.seed=0,1")
PLAIN = ("--multirun", *WORDS, "tracking=disabled", "hydra.sweep.dir=swept")
SWEEP = (*PLAIN, *OVER)
LAUNCHED = {
    "local": (),
    "joblib": ("launcher.jobs=2",),
    "submitit": ("launcher.cluster=local", "launcher.jobs=2", "launcher.cpus=1", "launcher.memory_gb=2"),
    "ray": ("launcher.cpus=1",),
}
"""Words with which a launcher runs two jobs at a time on this machine, if it runs several."""


def test_every_launcher_is_tried() -> None:
    assert LAUNCHED.keys() == LAUNCHERS.keys()
    assert launching.LAUNCHERS.keys() | {"local"} == LAUNCHERS.keys()


def units(folder: Path) -> int:
    """Finished units in the store."""
    return len(list((folder / "outputs" / "store").glob("??/*.safetensors")))


def costs(folder: Path) -> dict[str, dict[str, int]]:
    """What each job that has ended has cost."""
    return {path.parent.name: load(path.parent).provenance["cost"] for path in folder.glob("swept/*/result.json")}


def needs(launcher: str) -> None:
    if launcher != "local" and importlib.util.find_spec(launcher) is None:
        pytest.skip(f"{launcher} is not installed")


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_a_sweep_ends_with_one_table_and_one_figure(
    launcher: str, launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs(launcher)
    assert launch(*SWEEP, f"launcher={launcher}", *LAUNCHED[launcher]) == 0
    told = capsys.readouterr()
    lines = [line.rstrip() for line in told.out.splitlines()]
    assert lines[0] == f"4 jobs over donor, task.seed; into {tmp_path / 'swept'}"
    assert sorted(line.split()[0] for line in lines[1:5]) == ["1/4", "2/4", "3/4", "4/4"]
    assert lines[5] == "cmap over donor; means over seeds, with 95 % intervals over them"
    assert lines[-1] == f"  recorded in {tmp_path / 'swept'}, drawn in sweep.png"
    assert (tmp_path / "swept" / "sweep.png").is_file()
    assert sum(cost["units"] for cost in costs(tmp_path).values()) == units(tmp_path), "every unit is computed once"
    groups = {load(tmp_path / "swept" / str(number)).provenance["config"]["tracking"]["group"] for number in range(4)}
    assert groups == {"sweep swept"}


@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_jobs_share_their_units(launcher: str, launch: Launch, tmp_path: Path) -> None:
    """The base answers the same prompts in both jobs; whoever comes first, it is asked once."""
    needs(launcher)
    words = [word for word in PLAIN if not word.startswith(("method", "batch"))]
    models = "method.models=[llama],[llama,float]"
    assert launch(*words, "method=evaluate", "batch_size=7", models, f"launcher={launcher}", *LAUNCHED[launcher]) == 0
    spent = costs(tmp_path)
    assert sum(cost["units"] for cost in spent.values()) == units(tmp_path) > 0
    assert sum(cost["units"] + cost["reused"] for cost in spent.values()) == 1.5 * units(tmp_path)


def test_a_sweep_goes_on_where_it_was(launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(*SWEEP, "method.groups=[nope]") == 1
    assert not (tmp_path / "swept").exists()
    assert launch(*PLAIN, "donor=float,goat") == 0
    capsys.readouterr()
    assert launch(*PLAIN, "donor=float,goat,vicuna") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"3 jobs (2 of them done before) over donor; into {tmp_path / 'swept'}"
    assert next(line for line in lines if "/3 donor=" in line).startswith("  3/3 donor=vicuna: ")
    assert len(costs(tmp_path)) == 3
    assert launch(*PLAIN, "donor=goat,float") == 1
    assert "holds a result of another configuration (donor)" in capsys.readouterr().err


@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_a_sweep_that_is_killed_computes_nothing_twice(launcher: str, tmp_path: Path) -> None:
    """All its processes are killed once a third of its units are done; the same command then does the rest."""
    needs(launcher)
    peace, war = tmp_path / "peace", tmp_path / "war"
    command = [sys.executable, "-m", "entitrack.run", *SWEEP]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for folder in (peace, war):
        folder.mkdir()
    subprocess.run(command, cwd=peace, env=environment, check=True, capture_output=True)
    launched = [*command, f"launcher={launcher}", *LAUNCHED[launcher]]
    process = subprocess.Popen(
        launched, cwd=war, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and units(war) < units(peace) // 3:
        time.sleep(0.02)
    assert process.poll() is None, "the sweep was faster than the kill"
    for found in descendants(process.pid):
        os.kill(found, signal.SIGKILL)
    process.wait()
    survived = units(war)
    assert 0 < survived < units(peace)
    before = costs(war)
    done = subprocess.run(launched, cwd=war, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert units(war) == units(peace)
    after = costs(war)
    assert sum(after[number]["units"] for number in after.keys() - before.keys()) == units(peace) - survived
    assert json.loads((war / "swept" / "sweep.json").read_text())["jobs"][3]["failed"] is None
    for number in range(4):
        left, right = (load(folder / "swept" / str(number)) for folder in (peace, war))
        assert dict(left.measurements) == dict(right.measurements)


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, wherever they have gone since."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def test_a_key_is_given_to_no_other_process(launch: Launch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("backend=ndif", "backend.key=s3cret-of-mine", "launcher=joblib")
    assert launch(*SWEEP, *words) == 2
    told = capsys.readouterr()
    assert "launcher: words with a key in them are not given to other processes; set the key in" in told.err
    assert "s3cret" not in told.out + told.err
    assert not (tmp_path / "swept").exists()


def test_a_launcher_that_is_not_installed_is_named(
    launch: Launch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert launch(*SWEEP, "launcher=ray") == 2
    assert "launcher: needs ray" in capsys.readouterr().err


def test_a_cluster_that_there_is_not_is_named(
    launch: Launch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))  # no srun
    assert launch(*SWEEP, "launcher=submitit") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("entitrack: launcher.cluster: RuntimeError: Could not detect")
    assert said.endswith("launcher.cluster=local tries it on this machine")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_run_takes_no_notice_of_a_launcher(launcher: str, launch: Launch) -> None:
    assert launch("method=desiderata", f"launcher={launcher}", "tracking=disabled", "hydra.run.dir=one") == 0
    assert load("one").provenance["config"]["launcher"] == {"name": launcher, **defaults(LAUNCHERS[launcher])}


def test_slurm_is_asked_in_its_own_words() -> None:
    asked = launching._resources(SubmititSettings(jobs=3, partition="gpu", more={"account": "mine"}))
    assert asked["slurm_array_parallelism"] == 3
    assert asked["slurm_partition"] == "gpu"
    assert asked["slurm_additional_parameters"] == {"account": "mine"}
    assert (asked["timeout_min"], asked["cpus_per_task"], asked["mem_gb"]) == (60, 4, 16)
    assert not [name for name in launching._resources(SubmititSettings(cluster="local")) if name.startswith("slurm")]
