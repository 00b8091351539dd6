"""Copies of a small checkpoint in which one thing is another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Change = Callable[[Path], None]
"""Changes a folder."""


def copy(source: Path, target: Path, *changes: Change) -> Path:
    """A copy of a folder, changed; gives the copy."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copyfile(file, target / file.name)
    for change in changes:
        change(target)
    return target


def configured(**values: Any) -> Change:
    """Other values in the config.json; None removes a key."""
    return lambda folder: _merge(folder / "config.json", values)


def merged(name: str, **values: Any) -> Change:
    """Other values in a JSON file."""
    return lambda folder: _merge(folder / name, values)


def _merge(path: Path, values: dict[str, Any]) -> None:
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def written(name: str, content: str | bytes) -> Change:
    """Another file."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def removed(*names: str) -> Change:
    """Without these files."""

    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def cut(name: str, keep: float) -> Change:
    """Only the first part of a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return change


def flipped(name: str, offset: int, bits: int = 1) -> Change:
    """Other bits in one byte of a file."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[offset % len(content)] ^= bits
        (folder / name).write_bytes(content)

    return change


def retensored(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], name: str = "model.safetensors") -> Change:
    """Other tensors."""

    def apply(folder: Path) -> None:
        tensors = change(load_file(folder / name))
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, folder / name, {"format": "pt"})

    return apply


def without(*parts: str) -> Change:
    """Without the tensors whose names hold one of these parts."""
    return retensored(lambda found: {k: v for k, v in found.items() if not any(part in k for part in parts)})


def filled(part: str, value: float, name: str = "model.safetensors") -> Change:
    """One number in the first tensor whose name holds a part is another."""

    def change(found: dict[str, Tensor]) -> dict[str, Tensor]:
        key = next(key for key in sorted(found) if part in key)
        found[key].view(-1)[-1] = value
        return found

    return retensored(change, name)


def sharded(folder: Path) -> None:
    """The same weights in two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(folder: Path) -> None:
    """The same weights in a pickled file."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def adapter(folder: Path, base: Path, width: int = 96, layers: int = 4, **config: Any) -> Path:
    """A LoRA adapter on the value projections of a model of that width and depth."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.v_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, width, generator=generator) * 0.1
        tensors[f"{name}.lora_B.weight"] = torch.randn(width, 4, generator=generator) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    record = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["v_proj"],
        "inference_mode": True,
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(record))
    return folder
