"""What of a checkpoint's tensors is there, and what of them landed in the model.

1. Headers say names, kinds and shapes before anything is read: a damaged file is refused by them.
2. What transformers did not find, or found in another shape, it fills with random numbers: that is refused here.
3. Every number must be finite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.models.sources import CONTROL, Source, reason

_SHOWN = 3
_NO_WEIGHTS = re.compile("[IU]\\d+|BOOL|F8_.*|F4")


def check_headers(files: Mapping[str, Path]) -> dict[str, tuple[str, list[int]]]:
    """Refuse safetensors files that are cut short or damaged, by name.

    Returns:
        Name of each tensor -> its dtype and shape.

    Raises:
        ValueError: Naming the file.
    """
    from safetensors import SafetensorError, safe_open

    headers = {}
    for name, path in files.items():
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt") as opened:
                    for tensor in opened.keys():  # noqa: SIM118 - it is no mapping
                        part = opened.get_slice(tensor)
                        headers[tensor] = (str(part.get_dtype()), list(part.get_shape()))
            except SafetensorError as error:
                raise ValueError(f"{name}: {reason(error)}") from error
    return headers


def stored_bytes(files: Mapping[str, Path], dtype: torch.dtype) -> int:
    """Bytes that the tensors of files take when they are held in a dtype; pickled ones are taken as they lie.

    Raises:
        ValueError: A file is damaged.
    """
    numbers = sum(math.prod(shape) for _, shape in check_headers(files).values())
    pickled = sum(file.stat().st_size for file in files.values() if file.suffix == ".bin")
    return numbers * dtype.itemsize + pickled


def check_sizes(config: Any, headers: Mapping[str, tuple[str, list[int]]]) -> None:
    """Refuse matrices that are no weights, and a configuration of a model far larger than the files.

    Tensors that a file lacks are made before it is known that it lacks them: an absurd size would take all memory.

    Raises:
        ValueError: Naming the tensor, or the key of config.json.
    """
    for name, (dtype, shape) in headers.items():
        if len(shape) == 2 and _NO_WEIGHTS.fullmatch(dtype):
            raise ValueError(f"{name} is stored as {dtype}, and config.json names no quantisation")
    held = sum(math.prod(shape) for _, shape in headers.values())
    if config.num_hidden_layers > len(headers):
        raise ValueError(f"num_hidden_layers is {config.num_hidden_layers}, and the files hold {len(headers)} tensors")
    for key in ("vocab_size", "intermediate_size", "num_attention_heads"):
        if (getattr(config, key, None) or 0) * config.hidden_size > held:
            raise ValueError(f"{key} is {getattr(config, key)}, and the files hold {held} numbers")


def check_account(account: Mapping[str, Any], source: Source) -> None:
    """Refuse a checkpoint whose tensors are not those of the model.

    What transformers knows to be harmless (tied weights, buffers that older releases saved) is not in the account.

    Raises:
        UserError: Naming the first tensors.
    """
    shapes = [
        f"{name} is {tuple(there)} in the file and {tuple(here)} by its config.json"
        for name, there, here in sorted(account["mismatched_keys"])
    ]
    for found, words in (
        (shapes, "tensors of another shape"),
        (sorted(account["missing_keys"]), "missing tensors"),
        (sorted(account["unexpected_keys"]), "tensors that the model has no place for"),
        (list(account["error_msgs"]), "tensors that cannot be read"),
    ):
        if found:
            raise UserError(source.place, f"the checkpoint {source.path!r} has {_count(found, words)}")


def _count(found: Collection[str], words: str) -> str:
    """How many there are, and the first of them."""
    shown = ", ".join(CONTROL.sub(" ", name) for name in list(found)[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{words}: {shown}{more}"


def check_finite(tensors: Iterable[tuple[str, Tensor]], place: str, dtype: torch.dtype) -> None:
    """Refuse weights, by name, that are not all finite: what is computed with them is nothing.

    Raises:
        UserError: Naming the first tensor that is not.
    """
    for name, tensor in tensors:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if not (bool(tensor.max().isfinite()) and bool(tensor.min().isfinite())):
            fix = "" if dtype == torch.float32 else "if it is finite in its file, set model.dtype=float32"
            raise UserError(place, f"{name} holds numbers that are not finite", fix=fix)
