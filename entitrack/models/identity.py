"""What a model is, so that no result is taken for another model's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entitrack.models.checkpoint import adapter_files, local_folder, text_files, weight_files
from entitrack.models.hashing import DigestCache, FileState, file_state, files_digest, record_digest

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from entitrack.models.sources import AdapterSource


@dataclass(frozen=True)
class Identity:
    """Everything about a model that its results depend on, as digests and short words; the device is not part of it.

    Attributes:
        weights: Of every byte of the weights' files and of the configuration; where weights are not here, the name and
            revision that they go by.
        adapter: Of every byte of the adapters' files, of their order, and of what becomes of each; empty without one.
        tokenizer: Of the tokenizer's files and of what was read from them.
        dtype: What the weights are held in.
        attention: Implementation of attention.
        quantisation: Of the configuration's quantisation; empty without one.
        anatomy: Of how the model is said to be built.
    """

    weights: str
    adapter: str = ""
    tokenizer: str = ""
    dtype: str = ""
    attention: str = ""
    quantisation: str = ""
    anatomy: str = ""

    @property
    def arithmetic(self) -> str:
        """What activations are computed in, see `engine.precision`: float32, if no quantised kernels choose."""
        return self.dtype if self.quantisation else "float32"

    def record(self) -> dict[str, str]:
        """All of it, by name."""
        return {**asdict(self), "arithmetic": self.arithmetic}

    @property
    def digest(self) -> str:
        """One short digest of all of it."""
        return record_digest(self.record())


def weights_identity(path: str, revision: str | None, loaded: bool, cache: DigestCache, place: str) -> str:
    """What the weights go by: a digest of their bytes where they were loaded, else name and revision.

    Args:
        path: A folder or a hub name.
        revision: The commit on the hub, as far as it is known.
        loaded: Weights were loaded here.
        cache: See `DigestCache`.
        place: The config key that named them.
    """
    folder = local_folder(path, revision) if loaded else None
    return files_digest(weight_files(folder), cache, place) if folder else f"{path}@{revision or 'main'}"


def gguf_identity(file: Path, cache: DigestCache, place: str) -> str:
    """What a model in one gguf goes by: every byte of that file, whatever it is called."""
    return files_digest({"model.gguf": file}, cache, place)


def adapters_identity(adapters: Sequence[AdapterSource], loaded: bool, cache: DigestCache) -> str:
    """What adapters go by, each like `weights_identity`, in order, with what becomes of it; empty without any."""
    found = [[_adapter_digest(adapter, loaded, cache), adapter.manner] for adapter in adapters]
    return record_digest(found) if found else ""


def _adapter_digest(adapter: AdapterSource, loaded: bool, cache: DigestCache) -> str:
    path, revision = adapter.path, adapter.revision
    folder = local_folder(path, revision) if loaded or Path(path).is_dir() else None
    return files_digest(adapter_files(folder), cache, adapter.place) if folder else f"{path}@{revision or 'main'}"


def tokenizer_identity(
    tokenizer: PreTrainedTokenizerBase,
    path: str,
    revision: str | None,
    cache: DigestCache,
    place: str,
    gguf: str | None = None,
) -> str:
    """What a tokenizer goes by: its files where they are here, and its content as it was read.

    Args:
        tokenizer: As it was read.
        path: A folder or a hub name.
        revision: The commit on the hub, as far as it is known.
        cache: See `DigestCache`.
        place: The config key that named it.
        gguf: What the gguf that it came in goes by: it stands for the files.
    """
    folder = local_folder(path, revision)
    files = gguf or _tokenizer_files(folder, path, revision, cache, place)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else ""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return record_digest([files, type(tokenizer).__name__, content, special])


def _tokenizer_files(folder: Path | None, path: str, revision: str | None, cache: DigestCache, place: str) -> str:
    """What the files of a tokenizer go by."""
    return files_digest(text_files(folder), cache, place) if folder else f"{path}@{revision or 'main'}"


def quantisation_identity(config: PretrainedConfig) -> str:
    """What a quantisation goes by; empty if there is none."""
    found: Any = getattr(config, "quantization_config", None)
    if not found:
        return ""
    plain = found if isinstance(found, dict) else found.to_dict()
    return record_digest(json.loads(json.dumps(plain, sort_keys=True, default=str)))


def file_states(path: str | None) -> dict[str, FileState]:
    """The states of all files of a folder: they tell whether it was written to while it was loaded."""
    folder = Path(path) if path else None
    if folder is None or not folder.is_dir():
        return {}
    return {file.name: file_state(file) for file in folder.iterdir() if file.is_file()}
