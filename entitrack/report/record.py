"""What a run leaves in its folder: `result.json`, `arrays.safetensors`, and a circuit or masks where found."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from entitrack.backends import Cost
from entitrack.config import RunConfig
from entitrack.core.result import Result

LIBRARIES = ("entitrack", "torch", "transformers", "nnsight")


def write(config: RunConfig, result: Result, cost: Cost, seconds: float, folder: Path) -> None:
    """Write the record of a finished run; `result.json` comes last, so it is there only if all of it is."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: array.contiguous().clone() for name, array in result.arrays.items()}
    save_file(arrays, str(folder / "arrays.safetensors"))
    for name in ("circuit", "masks"):
        artefact = result.artefacts.get(name)
        if artefact is not None:
            artefact.write(folder / f"{name}.json")
    record = {
        "method": config.method,
        "tables": [asdict(table) for table in result.tables],
        "notes": list(result.notes),
        "cost": {name: round(value, 3) for name, value in {**asdict(cost), "seconds": seconds}.items()},
        "config": config.plain,
        "versions": {name: version(name) for name in LIBRARIES},
    }
    temporary = folder / "result.json.part"
    temporary.write_text(json.dumps(record, indent=1, default=_plain) + "\n")
    temporary.replace(folder / "result.json")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
