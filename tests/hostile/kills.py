"""Kill runs at random moments, go on, and look for what was lost, done twice, or is different.

python -m tests.hostile.kills --kills 50 --seed 0

Every method runs on the embedded family, once to the end in peace and once with kills. A kill comes when a random
number of units is finished, and a random moment after; the same command then goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

SHARED = ("tracking=disabled", "model=tiny", "donor=float", "model.device=cpu", "task.count=28", "batch_size=7")
METHODS: dict[str, tuple[str, ...]] = {
    "evaluate": (),
    "cmap": (),
    "cmap_order": ("method.controls=5",),
    "cmap_matrix": ("method.members=[llama,goat]", "method.controls=5"),
    "path_patching": ("method.force=true",),
    "attribution": ("method.force=true",),
    "stability": ("method.force=true", "method.seeds=[0,1]", "method.halves=2"),
    "faithfulness": ("method.mean_count=28", "method.random_circuits=5"),
    "circuit_curve": ("method.mean_count=28", "method.random_orders=2", "method.models=[llama]"),
    "completeness": ("method.mean_count=28", "method.random_sets=5"),
    "minimality": (
        "method.force=true",
        "method.mean_count=28",
    ),
    "positions": ("method.force=true", "method.mean_count=28", "method.most=2"),
    "attention_knockout": (),
    "ablation": ("method.mean_count=28",),
    "dcm": ("method.force=true", "method.steps=4", "method.evaluate_every=2", "method.desiderata=[object_value]"),
    "activation_patching": ("method.repeats=1", "method.desiderata=[object_value]"),
    "desiderata": (),
    "compare": (),
    "binding": ("method.force=true", "method.models=[llama]", "method.layers=[0,2]", "method.heads_of=llama"),
    "transfer": ("method.force=true", "method.models=[llama,goat]", "method.mean_count=28", "method.controls=5"),
}
"""Settings that make a method small."""

_LIMIT_S = 600.0


@dataclass(frozen=True)
class Trial:
    """What came of killing one method's runs.

    Attributes:
        method: The method.
        kills: How many runs were killed.
        units: Units that the method takes.
        lost: Records that were there after a kill and are not, or not the same, at the end.
        twice: Units that the last run computed although their records were there.
        differing: Arrays that differ from those of the run that was left in peace.
        litter: Files that should not be there: half-written ones, locks, results without their arrays.
    """

    method: str
    kills: int
    units: int
    lost: int
    twice: int
    differing: int
    litter: int

    @property
    def good(self) -> bool:
        """Whether killing did no harm."""
        return not (self.lost or self.twice or self.differing or self.litter)


def command(method: str, folder: Path) -> list[str]:
    """The command line of a small run that writes below `folder`."""
    return [
        sys.executable,
        "-m",
        "entitrack.run",
        f"method={method}",
        f"output_dir={folder}",
        *SHARED,
        *METHODS[method],
    ]


def finish(method: str, folder: Path) -> dict[str, int]:
    """Run a method to its end; gives its cost."""
    ran = subprocess.run(command(method, folder), capture_output=True, text=True, timeout=_LIMIT_S)
    if ran.returncode:
        raise RuntimeError(f"method={method} ended with {ran.returncode}: {ran.stderr}")
    return json.loads(result_of(method, folder).with_name("result.json").read_text())["cost"]


def result_of(method: str, folder: Path) -> Path:
    """The arrays of the method's last run."""
    return max((folder / method).rglob("result.json")).with_name("arrays.safetensors")


def records(folder: Path) -> dict[str, bytes]:
    """The finished units."""
    return {str(path): path.read_bytes() for path in (folder / "store").glob("??/*.safetensors")}


def kill_one(method: str, folder: Path, units: int, seconds: float, drawn: random.Random) -> bool:
    """Start a run and kill it; False if it was faster.

    Args:
        method: The method.
        folder: Where the run writes.
        units: How many units it takes in all.
        seconds: How long it takes in all.
        drawn: Where the moment is drawn from.
    """
    process = subprocess.Popen(command(method, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = time.monotonic()
    done = len(records(folder))
    awaited = drawn.randint(done, units)
    later = drawn.uniform(0, seconds / (units + 2)) if units > done else drawn.uniform(0, seconds)
    while process.poll() is None and _count(folder) < awaited:
        if time.monotonic() - begun > _LIMIT_S:
            break
        time.sleep(0.002)
    until = time.monotonic() + later
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    killed = process.poll() is None
    process.kill()
    process.wait()
    return killed


def _count(folder: Path) -> int:
    return sum(1 for _ in (folder / "store").glob("??/*.safetensors"))


def torment(method: str, kills: int, seed: int, folder: Path) -> Trial:
    """Kill a method's runs until `kills` of them have died, then finish it, and compare with a run in peace."""
    drawn = random.Random(f"{method}/{seed}")
    peace, war = folder / "peace", folder / "war"
    war.mkdir(parents=True)
    begun = time.monotonic()
    cost = finish(method, peace)
    seconds = time.monotonic() - begun
    units = cost["units"]
    survived: dict[str, bytes] = {}
    killed = lost = different = 0
    while killed < kills:
        if kill_one(method, war, units, seconds, drawn):
            killed += 1
            survived |= records(war)
        else:  # faster than the kill: looked at, and begun again from nothing
            lost += missing(survived, war)
            different += differing(result_of(method, peace), result_of(method, war))
            survived = {}
            shutil.rmtree(war)
            war.mkdir()
    before = len(records(war))
    last = finish(method, war)
    return Trial(
        method=method,
        kills=killed,
        units=units,
        lost=lost + missing(survived, war),
        twice=last["units"] - (units - before),
        differing=different + differing(result_of(method, peace), result_of(method, war)),
        litter=litter(war),
    )


def missing(survived: dict[str, bytes], folder: Path) -> int:
    """How many of the records that survived kills are not there, or not the same."""
    there = records(folder)
    return sum(there.get(path) != content for path, content in survived.items())


def differing(one: Path, other: Path) -> int:
    """How many arrays of two results are not the same, bit for bit."""
    left, right = load_file(one), load_file(other)
    same = [name for name in left.keys() & right.keys() if bits(left[name]) == bits(right[name])]
    return len(left.keys() | right.keys()) - len(same)


def bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """Type, shape and bytes."""
    return tensor.dtype, tensor.shape, tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def litter(folder: Path) -> int:
    """How many files there are that should not be."""
    half = list(folder.rglob("*.part"))
    odd = [path for name in ("locks", "set_aside") for path in (folder / "store" / name).glob("*")]
    broken = [path for path in folder.rglob("result.json") if not whole(path)]
    return len(half) + len(odd) + len(broken)


def whole(result: Path) -> bool:
    """Whether a result is JSON, and its arrays are there."""
    try:
        json.loads(result.read_text())
        load_file(result.with_name("arrays.safetensors"))
    except (ValueError, OSError):
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Torment every method, print what came of it; 1 if any harm was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="over all methods")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    given = parser.parse_args(arguments)
    shares = [given.kills // len(given.methods)] * len(given.methods)
    for place in range(given.kills % len(given.methods)):
        shares[place] += 1
    trials = []
    print(f"{'method':20}{'kills':>6}{'units':>6}{'lost':>6}{'twice':>6}{'differing':>10}{'litter':>7}", flush=True)
    for method, kills in zip(given.methods, shares, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            trial = torment(method, kills, given.seed, Path(folder))
        numbers = f"{trial.lost:6}{trial.twice:6}{trial.differing:10}{trial.litter:7}"
        print(f"{method:20}{trial.kills:6}{trial.units:6}{numbers}", flush=True)
        trials.append(trial)
    print(f"{'all':20}{sum(trial.kills for trial in trials):6}{sum(trial.units for trial in trials):6}")
    return int(not all(trial.good for trial in trials))


if __name__ == "__main__":
    raise SystemExit(main())
