"""What a person launches says what it does, and does nothing until it is told to."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from entitrack.cli.command_line import composer
from entitrack.cli.config import check_values
from entitrack.cli.flags import parse

JOBS = Path(__file__).parents[1] / "jobs"
SCRIPTS = sorted(JOBS.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
@pytest.mark.parametrize("words", [[], ["--help"], ["method=cmap"]])
def test_it_says_what_it_does_and_starts_nothing(script: Path, words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [script, *words], capture_output=True, text=True, check=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}
    )
    assert f"Start it: jobs/{script.name} go" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_it_starts_is_a_command(script: Path, tmp_path: Path) -> None:
    """The command that it would start, caught by a program of its name, is one that can be checked."""
    (tmp_path / "entitrack").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    (tmp_path / "entitrack").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NDIF_API_KEY": "a-key-of-none"}
    done = subprocess.run([script, "go", "seed=3"], capture_output=True, text=True, check=True, env=environment)
    flags = parse(done.stdout.splitlines())
    assert flags.overrides[-1] == "seed=3"
    with composer(flags) as jobs:
        job = jobs.jobs(flags.overrides)[-1]
        checked = check_values(jobs.compose(job).config)
    assert checked.general.seed == 3
    expected = {"donor_sweep": "joblib", "slurm_array": "submitit", "ray_cluster": "ray"}
    assert checked.launcher == expected.get(script.stem, "local")
    assert shlex.join(flags.words).startswith("--multirun") == (checked.launcher != "local")
