"""Where a model is, and which files of it are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from entitrack.core.errors import UserError
from entitrack.core.settings import NO_VALUE, Settings

ZOO = Path(__file__).parent / "zoo"
_ZOO_SCHEME = "zoo://"
_TEXTS = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".spm"}
_LAYOUTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names under which transformers looks for weights, in its order: the first that is there is read."""


class Adapter(Settings):
    """Where an adapter is, and whether it stays one."""

    path: str = Field(description="a folder, a hub name, or zoo://FAMILY/NAME for what is embedded")
    revision: str | None = Field(None, description="revision on the hub")
    merged: bool = Field(
        False,
        description="it is added to the weights, rounded to their dtype, once they are loaded; false: it stays beside"
        " them, and they are shared with the base",
    )


Quantisation = Literal["8bit", "4bit"]
"""How bitsandbytes holds weights: LLM.int8() or NF4."""


class Checkpoint(Settings):
    """Where a model's weights are, and how they are held."""

    path: str = Field(
        description="a folder, a hub name, a .gguf file, package://PACKAGE/FILE.gguf for one in an installed package,"
        " or zoo://FAMILY/NAME for what is embedded"
    )
    adapter: str | None = Field(
        None, description="a peft adapter on top of it: a folder, a hub name, or zoo://FAMILY/NAME"
    )
    adapters: list[Adapter] = Field(
        [], description="several peft adapters on top of it, in order, each merged into the weights or kept beside them"
    )
    revision: str | None = Field(None, description="revision of `path` on the hub")
    quantisation: Quantisation | None = Field(
        None, description="weights in 8 or 4 bits, on CUDA with bitsandbytes; null holds them in model.dtype"
    )
    device: str | dict[str, str] | None = Field(
        None, description="where this member is, see model.device; null: where the family is"
    )
    hosted: str | None = Field(
        None,
        description="name under which a server hosts it, if that is not the path; structure and tokenizer then come"
        " from the path, which needs no weights",
    )

    def __init__(self, path: str = NO_VALUE, adapter: str | None = None, **more: Any) -> None:
        super().__init__(path=path, adapter=adapter, **more)

    @field_validator("adapters")
    @classmethod
    def _are_named_once(cls, value: list[Adapter], info: Any) -> list[Adapter]:
        if value and info.data.get("adapter") is not None:
            raise ValueError("is not used with adapter; name that one first among adapters")
        return value

    @field_validator("quantisation")
    @classmethod
    def _is_not_merged_into(cls, value: str | None, info: Any) -> str | None:
        if value and any(adapter.merged for adapter in info.data.get("adapters", ())):
            raise ValueError("adapters cannot be merged into quantised weights; keep them (merged: false)")
        return value

    @property
    def every_adapter(self) -> list[Adapter]:
        """All adapters, whichever way they are named."""
        return [Adapter(path=self.adapter)] if self.adapter is not None else list(self.adapters)


def resolve(path: str, place: str) -> str:
    """A place as transformers takes it: `zoo://FAMILY/NAME` is a folder of an embedded family.

    Raises:
        UserError: It looks like a folder, and there is none; `place` is the config key that named it.
    """
    if path.startswith(_ZOO_SCHEME):
        known = sorted({f"{file.parts[-3]}/{file.parts[-2]}" for file in ZOO.glob("*/*/*config.json")})
        name = path.removeprefix(_ZOO_SCHEME)
        if name not in known:
            raise UserError(
                place, f"no embedded family has {name!r}", [_ZOO_SCHEME + known_name for known_name in known]
            )
        return str(ZOO / name)
    if not path.strip():
        raise UserError(place, "is empty", fix="name a folder or a model of the hub")
    if Path(path).is_dir():
        return path
    if Path(path).exists():
        raise UserError(place, f"{path!r} is a file", fix="name the folder that it is in")
    if path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise UserError(place, f"there is no folder {path!r}")
    return path


def local_folder(path: str, revision: str | None) -> Path | None:
    """The folder that a place is read from: itself, or the hub's snapshot of that revision on this machine."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("config.json", "adapter_config.json"):
        try:
            found = try_to_load_from_cache(path, name, revision=revision)
        except (HFValidationError, ValueError):
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def weight_files(folder: Path) -> dict[str, Path]:
    """The files that a model's weights are read from: its configuration, the index if there is one, and all shards.

    Raises:
        ValueError: The index is broken, or names files outside of the folder.
    """
    files = {"config.json": folder / "config.json"}
    first = next((name for name in _LAYOUTS if (folder / name).is_file()), None)
    if first is None:
        raise ValueError(f"there is none of {', '.join(_LAYOUTS)}")
    files[first] = folder / first
    if first.endswith(".index.json"):
        files |= {name: folder / name for name in _shards(folder / first)}
    return files


def _shards(index: Path) -> list[str]:
    """The files that an index names."""
    content = json.loads(index.read_bytes())
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index.name} has no weight_map")
    for name in names.values():
        if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{index.name} names {name!r}, which is not in the folder")
        if not (index.parent / name).is_file():
            raise ValueError(f"{index.name} names {name!r}, which is not there")
    return sorted(set(names.values()))


def text_files(folder: Path) -> dict[str, Path]:
    """Every file beside the weights that a tokenizer may be read from."""
    found = {file.name: file for file in sorted(folder.iterdir()) if file.suffix in _TEXTS and file.is_file()}
    return {name: file for name, file in found.items() if not name.endswith(".index.json") and name != "config.json"}


def adapter_files(folder: Path) -> dict[str, Path]:
    """Every file of an adapter."""
    found = sorted(file for file in folder.iterdir() if file.is_file())
    return {file.name: file for file in found if file.suffix in {".safetensors", ".bin", *_TEXTS}}
