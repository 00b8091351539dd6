"""What a person launches answers `--help`, and what writes over something wants to be told so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.relative_to(ROOT) for path in (ROOT / "jobs").glob("*.py"))
MODULES = ("entitrack.run", "entitrack.report", "entitrack.runs", "entitrack.store", "tests.remote", "tests.mutations")
WRITING = ("train_zoo.py", "tune_donor.py", "find_zoo_circuits.py", "dashboard.py", "bench.py")


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_every_job_answers_help(job: Path) -> None:
    answered = ask(str(job), "--help")
    assert answered.returncode == 0, answered.stderr
    assert job.name in answered.stdout or "usage" in answered.stdout


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_is_run_answers_help(module: str) -> None:
    answered = ask("-m", module, "--help")
    assert answered.returncode == 0, answered.stderr
    assert len(answered.stdout.splitlines()) > 3


@pytest.mark.parametrize("job", WRITING)
def test_what_writes_starts_only_if_it_is_told_what(job: str) -> None:
    answered = ask(f"jobs/{job}")
    assert answered.returncode == 2
    assert len(answered.stderr.splitlines()) <= 20


def test_a_word_that_is_no_folder_starts_no_server() -> None:
    answered = ask("-m", "tests.remote", "nowhere")
    assert answered.returncode == 2
    assert "no golden data at nowhere" in answered.stderr
