"""A result out of its folder: without a model, a hub or a configuration. Nothing in a file is executed.

1. `result.json` is read by the letter of JSON, and says which format it is of.
2. Every file that it names must be there, as it was written.
3. Values, prompts and artefacts are put together; what does not fit together is refused, naming the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as unpacked
from torch import Tensor

from entitrack.core.circuits import Circuit, read_circuit
from entitrack.core.errors import UserError, quoted, reason
from entitrack.core.masks import Masks, read_masks
from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.plain import decode
from entitrack.core.result import Result
from entitrack.core.table import table_of
from entitrack.disk.reading import read_json
from entitrack.methods import method_names
from entitrack.record.folder import ARRAYS, ARTEFACTS, FORMAT, PROMPTS, RESULT
from entitrack.record.prompts import read_sets

_OWN = ("format", "method", "tables", "notes", "facts", "measurements", "prompt_sets", "words", "files")
_READ = (ARRAYS, PROMPTS, *(f"{name}.json" for name in ARTEFACTS))
_WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, SafetensorError)
"""What comes of content that is not what it should be."""


def load(folder: str | Path) -> Result:
    """The result that a run, or `Result.save`, left in a folder.

    Args:
        folder: The folder that holds `result.json`.

    Raises:
        UserError: There is none, it is of another format, or a file of it is not as it was written; it names the file.
    """
    folder = Path(folder)
    path = folder / RESULT
    if not path.is_file():
        raise UserError(str(path), "there is no such file", fix="pass the folder of a finished run, or of Result.save")
    record = _record(path)
    with _naming(path):
        contents = {name: _content(folder / name, record["files"][name]) for name in _READ if name in record["files"]}
        needed = (ARRAYS, PROMPTS) if record["prompt_sets"] else (ARRAYS,)
    for name in needed:
        if name not in contents:
            raise UserError(str(path), f"names no {name}", fix="restore it, or run again")
    with _naming(folder / ARRAYS):
        arrays = unpacked(contents[ARRAYS])
    with _naming(folder / PROMPTS):
        sets = read_sets(contents.get(PROMPTS, b"").decode(), record["prompt_sets"])
    artefacts = {name: _artefact(name, folder) for name in ARTEFACTS if f"{name}.json" in contents}
    with _naming(path):
        return _result(record, arrays, sets, artefacts)


def _record(path: Path) -> dict[str, Any]:
    """The content of `result.json`, if it is of the format that is read here."""
    raw = read_json(str(path), str(path))
    found = raw.get("format")
    if type(found) is not int:
        raise UserError(str(path), "names no format: it is no result that is read again", fix="run again")
    if found != FORMAT:
        fix = "read it with the entitrack that wrote it" if found < FORMAT else "read it with a later entitrack"
        raise UserError(str(path), f"is of format {found}, and format {FORMAT} is read here", fix=fix)
    with _naming(path):
        record: dict[str, Any] = decode(raw)
    if record.get("method") not in method_names():
        raise UserError(str(path), f"is of a method {quoted(record.get('method'))}, which there is not", method_names())
    return record


def _content(path: Path, digest: str) -> bytes:
    """The bytes of a file, if they are those that were written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        fix = "copy the whole folder, or run again"
        raise UserError(str(path), f"cannot be read ({error.strerror})", fix=fix) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(str(path), f"is not the file that {RESULT} was written with", fix="restore it, or run again")
    return content


def _artefact(name: str, folder: Path) -> Circuit | Masks:
    path = str(folder / f"{name}.json")
    return read_circuit(path, family="") if name == "circuit" else read_masks(path, place=path)


def _result(
    record: Mapping[str, Any],
    arrays: Mapping[str, Tensor],
    sets: Sequence[PromptSet],
    artefacts: Mapping[str, Circuit | Masks],
) -> Result:
    return Result(
        method=record["method"],
        facts=record["facts"],
        measurements={name: _measurement(about, arrays[name], sets) for name, about in record["measurements"].items()},
        artefacts=artefacts,
        words={int(token): word for token, word in record["words"].items()},
        tables=tuple(table_of(table) for table in record["tables"]),
        notes=tuple(record["notes"]),
        provenance={name: value for name, value in record.items() if name not in _OWN},
    )


def _measurement(about: Mapping[str, Any], values: Tensor, sets: Sequence[PromptSet]) -> Measurement:
    labels = {axis: tuple(names) for axis, names in about["labels"].items()}
    prompts = None if about["prompts"] is None else sets[about["prompts"]]
    return Measurement(values, tuple(about["axes"]), labels, prompts)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Content that is not what it should be is one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except _WRONG as error:
        raise UserError(str(path), f"is damaged ({reason(error)})", fix="restore it, or run again") from error
