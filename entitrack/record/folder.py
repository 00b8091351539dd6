"""What a run leaves in its folder: all of it, or nothing.

`arrays.safetensors`, a circuit or masks where found, `figure.png`, the configuration in `hydra/`, and `result.json`,
which comes last, so that it is there only if everything else is. Numbers that JSON cannot say are written as the texts
`nan`, `inf` and `-inf`, which Python's `float` reads; null is an empty cell.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from entitrack.cli.config import RunConfig
from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.disk.files import appearing, clean_up
from entitrack.record import figures
from entitrack.runtime.backends import Cost

RESULT = "result.json"
FIGURE = "figure.png"


@dataclass(frozen=True)
class Finished:
    """A run that is done, before anybody was told.

    Attributes:
        config: Its configuration.
        result: What its method found.
        provenance: What it was computed from, see `entitrack.record.provenance`.
        cost: What it cost.
        seconds: How long it took.
    """

    config: RunConfig
    result: Result
    provenance: Mapping[str, Any]
    cost: Cost
    seconds: float


def check_folder(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, before anything is computed.

    Raises:
        UserError: It already holds a result.
        OSError: It cannot be made: something that is no folder is in its way, or may not be written to.
    """
    if (folder / RESULT).exists():
        raise UserError(str(folder), f"already holds a {RESULT}", fix="choose another folder")
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def write(finished: Finished, folder: Path, keys: Keys) -> str | None:
    """Write the record of a finished run: every file of it, or none.

    Args:
        finished: The run.
        folder: Where it belongs; it is made. What a killed run left unfinished there and beside it is removed.
        keys: What may not be recorded.

    Returns:
        Why there is no figure, if it could not be drawn; the result is then recorded without one.

    Raises:
        OSError: Something could not be written; nothing of it is left.
    """
    clean_up(folder.parent)
    image, problem = _drawn(finished.result)
    written: list[Path] = []
    made = [place for place in (folder / "hydra", folder, *folder.parents) if not place.exists()]
    try:
        for name, put in _files(finished, image, keys):
            written.append(folder / name)
            put(folder / name)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        for place in made:
            with suppress(OSError):  # another run has put something there meanwhile
                place.rmdir()
        raise
    return problem


def _files(finished: Finished, image: bytes | None, keys: Keys) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name and writer of every file, `result.json` last."""
    arrays = {name: array.contiguous().clone() for name, array in finished.result.arrays.items()}
    yield "arrays.safetensors", _bytes(save(arrays))
    for name in ("circuit", "masks"):
        artefact = finished.result.artefacts.get(name)
        if artefact is not None:
            yield f"{name}.json", artefact.write
    if image is not None:
        yield FIGURE, _bytes(image)
    record = keys.hide_within(plain_record(finished))
    yield "hydra/config.yaml", _text(yaml.safe_dump(record["config"], sort_keys=False, allow_unicode=True))
    yield "hydra/overrides.yaml", _text(yaml.safe_dump(record["overrides"], allow_unicode=True))
    yield RESULT, _text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def plain_record(finished: Finished) -> dict[str, Any]:
    """The content of `result.json`."""
    cost = {**asdict(finished.cost), "seconds": finished.seconds}
    record = {
        "method": finished.config.method,
        "tables": [asdict(table) for table in finished.result.tables],
        "notes": list(finished.result.notes),
        "cost": {name: round(value, 3) for name, value in cost.items()},
        **finished.provenance,
        "config": finished.config.plain,
    }
    plain: dict[str, Any] = plain_values(record)
    return plain


def _drawn(result: Result) -> tuple[bytes | None, str | None]:
    """The figure as PNG, None for a method without one, and why it could not be drawn."""
    try:
        return figures.draw(result), None
    except Exception as error:  # whatever a plotting library stumbles over, the numbers are not lost for it
        return None, f"{type(error).__name__}: {error}"


def _bytes(content: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        with appearing(path) as stream:
            stream.write(content)

    return put


def _text(content: str) -> Callable[[Path], None]:
    return _bytes(content.encode(errors="backslashreplace"))


def plain_values(value: Any) -> Any:
    """A value as JSON has it, with no number that JSON has not."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain_values(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
