"""A result in a folder: all of it, or nothing. `entitrack.load` reads it again, see `record.loading`.

1. `arrays.safetensors` has the values of every measurement, `prompts.jsonl` the prompts that they are about.
2. `circuit.json` and `masks.json`, where found, are for other runs to take.
3. `figure.png` and `hydra/`, the configuration of a run, are for people; nothing is read from them.
4. `result.json` has all else and the digests of the first four files. It comes last: where it is, everything is. It is
   strict JSON; see `core.plain` for numbers that JSON has not.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save as packed

from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError
from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.notices import warn
from entitrack.core.plain import encode, plain
from entitrack.core.result import Result
from entitrack.disk.files import appearing, clean_up
from entitrack.record import figures
from entitrack.record.prompts import distinct_sets, number_of, prompt_lines, prompt_records, set_records

RESULT, ARRAYS, PROMPTS, FIGURE = "result.json", "arrays.safetensors", "prompts.jsonl", "figure.png"
ARTEFACTS = ("circuit", "masks")
FORMAT = 1
"""Number of this layout; `load` refuses another one."""


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


def save(result: Result, folder: Path) -> Path:
    """Write a result that may be anybody's; gives the folder. See `Result.save`."""
    folder = folder.absolute()
    check_folder(folder)
    problem = write(result, folder, Keys())
    if problem:
        warn(f"no figure could be drawn ({problem}); the result is in {folder}")
    return folder


def write(result: Result, folder: Path, keys: Keys) -> str | None:
    """Write a result: every file of it, or none.

    Args:
        result: The result.
        folder: Where it belongs; it is made. What a killed run left unfinished there and beside it is removed.
        keys: What may not be recorded.

    Returns:
        Why there is no figure, if it could not be drawn; the result is then recorded without one.

    Raises:
        OSError: Something could not be written; nothing of it is left.
    """
    clean_up(folder.parent)
    image, problem = _drawn(result)
    written: list[Path] = []
    made = [place for place in (folder / "hydra", folder, *folder.parents) if not place.exists()]
    try:
        digests: dict[str, str] = {}
        for name, put in _files(result, image, keys, digests):
            written.append(folder / name)
            put(folder / name)
            digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        for place in made:
            with suppress(OSError):  # another run has put something there meanwhile
                place.rmdir()
        raise
    return problem


def _files(
    result: Result, image: bytes | None, keys: Keys, digests: dict[str, str]
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name and writer of every file, `result.json` last; it names the `digests` that there are by then."""
    yield ARRAYS, _bytes(packed({name: array.contiguous().clone() for name, array in result.arrays.items()}))
    sets = distinct_sets(result.measurements.values())
    if sets:
        yield PROMPTS, _text(prompt_lines(keys.hide_within(record) for record in prompt_records(sets)))
    for name in ARTEFACTS:
        if name in result.artefacts:
            yield f"{name}.json", result.artefacts[name].write
    read_again = dict(digests)  # of what has been written when this goes on
    if image is not None:
        yield FIGURE, _bytes(image)
    record = keys.hide_within(result_record(result, sets, read_again))
    for name in ("config", "overrides"):
        if name in result.provenance:
            yield f"hydra/{name}.yaml", _text(yaml.safe_dump(record[name], sort_keys=False, allow_unicode=True))
    yield RESULT, _text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def result_record(result: Result, sets: Sequence[PromptSet], digests: dict[str, str]) -> dict[str, Any]:
    """The content of `result.json`; whatever is not the result's own is its provenance."""
    own = {
        "format": FORMAT,
        "method": result.method,
        "tables": [asdict(table) for table in result.tables],
        "notes": list(result.notes),
        "facts": result.facts,
        "measurements": {name: _about(entry, sets) for name, entry in result.measurements.items()},
        "prompt_sets": set_records(sets),
        "words": result.words,
        "files": digests,
    }
    record: dict[str, Any] = encode(plain({**own, **result.provenance}, otherwise=str))
    return record


def _about(measurement: Measurement, sets: Sequence[PromptSet]) -> dict[str, Any]:
    """A measurement without its values; prompts are the number of their set."""
    prompts = None if measurement.prompts is None else number_of(measurement.prompts, sets)
    return {"axes": measurement.axes, "labels": measurement.labels, "prompts": prompts}


def _drawn(result: Result) -> tuple[bytes | None, str | None]:
    """The figure as PNG, None for a method without one, and why it could not be drawn."""
    try:
        return figures.image(result), None
    except Exception as error:  # whatever a plotting library stumbles over, the numbers are not lost for it
        return None, f"{type(error).__name__}: {error}"


def _bytes(content: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        with appearing(path) as stream:
            stream.write(content)

    return put


def _text(content: str) -> Callable[[Path], None]:
    return _bytes(content.encode(errors="backslashreplace"))
