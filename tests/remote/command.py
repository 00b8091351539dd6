"""The program as a user starts it, on the loopback server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.remote import matrix
from tests.remote.harness import Loopback

ROOT = Path(__file__).parents[2]
BATCHES = 3


class Command:
    """`entitrack.run` on the server, as a user starts it."""

    def __init__(self, server: Loopback, golden: Path, folder: Path) -> None:
        self.folder = folder
        prompts = matrix.experiment_prompts(golden, BATCHES * 2)
        (folder / "prompts.jsonl").write_text("".join(json.dumps({"sentence": line}) + "\n" for line in prompts))
        self.arguments = [
            "method=evaluate",
            "method.models=[llama]",
            "task=boxes_file",
            f"task.path={folder / 'prompts.jsonl'}",
            "model.name=golden",
            f"model.members.llama.path={golden / 'base'}",
            "batch_size=2",
            "tracking=disabled",
            "backend=ndif",
            f"backend.host={server.address}",
            "backend.poll_s=0.05",
            "backend.key=secret-of-mine",
            f"output_dir={folder}",
        ]
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "entitrack.run", *self.arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
            cwd=ROOT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's "&" ignores it
        )

    def finish(self) -> tuple[str, str]:
        process = self.start()
        said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    def noted(self) -> int:
        """How many jobs are noted in the store."""
        return len(list((self.folder / "store" / "jobs").glob("*.json")))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
