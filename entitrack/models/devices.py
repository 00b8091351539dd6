"""What a model runs in and on: dtypes and devices."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import nn

from entitrack.core.errors import UserError


def pick_dtype(name: str) -> torch.dtype:
    """The torch dtype of that name.

    Raises:
        UserError: It is not one that models run in.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UserError("model.dtype", f"unknown dtype {name!r}", known)
    return known[name]


BALANCED = "balanced"
"""Spreads the layers over all CUDA devices."""


def pick_placement(given: str | Mapping[str, str], place: str = "model.device") -> str | dict[str, str]:
    """Where the parts of a model go, as `device_map` takes it.

    Args:
        given: A device; `balanced`; or part of the model -> its device, as accelerate takes it.
        place: The config key that says so.

    Raises:
        UserError: A device is unknown or not here, there are too few to balance, or parts would be moved to and fro:
            weights are read where they lie.
    """
    if isinstance(given, str):
        if given != BALANCED:
            return pick_device(given, place)
        if torch.cuda.device_count() < 2:
            problem = (
                f"{BALANCED!r} spreads layers over several CUDA devices, and there are {torch.cuda.device_count()}"
            )
            raise UserError(place, problem, fix="name one device, or auto")
        return BALANCED
    placed = {part: pick_device(name, f"{place}.{part or repr(part)}") for part, name in given.items()}
    kinds = sorted({torch.device(name).type for name in placed.values()})
    if not placed:
        raise UserError(place, "has no parts", fix="name a device, or {part of the model: its device}")
    if len(kinds) > 1:
        problem = f"parts are on {' and '.join(kinds)}, between which they would be moved to and fro"
        raise UserError(place, problem, fix="put all of them on accelerators, or all on cpu")
    return placed


def check_parts(module: nn.Module, placed: Mapping[str, str], place: str) -> None:
    """Refuse parts that a model does not have, and parameters that none of the parts has: they would be put anywhere.

    Raises:
        UserError: Naming the first.
    """
    parts = [name for name, _ in module.named_modules()]
    unknown = next((part for part in placed if part not in parts), None)
    if unknown is not None:
        known = [name for name in parts if name and name.count(".") < 2]
        raise UserError(f"{place}.{unknown}", "the model has no such part", known)
    for name, _ in module.named_parameters():
        if not any(not part or name.startswith(f"{part}.") for part in placed):
            raise UserError(place, f"says nothing of {name}", fix="give every part a device, or name one device")


def check_quantisation(kind: str | None, placement: str | dict[str, str], place: str) -> None:
    """Refuse quantised weights where they cannot be held.

    Raises:
        UserError: Naming what is lacking.
    """
    if kind is None:
        return
    devices = placement.values() if isinstance(placement, dict) else [placement]
    lacking = ["a CUDA device"] if not torch.cuda.is_available() else []
    lacking += ["the library bitsandbytes (pip install bitsandbytes)"] if find_spec("bitsandbytes") is None else []
    if not lacking and not all(name == BALANCED or name.startswith("cuda") for name in devices):
        lacking = [f"its weights there: they are to be on {', '.join(dict.fromkeys(devices))}"]
    if lacking:
        problem = f"{kind!r} needs {' and '.join(lacking)}"
        raise UserError(place, problem, fix="leave it out, and set model.dtype=bfloat16 to hold weights in half")


def pick_device(name: str, place: str = "model.device") -> str:
    """The device to run on; `auto` takes an accelerator where there is one.

    Raises:
        UserError: There is no such device, or not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        known = ["auto", "cpu", "cuda", "cuda:0", "mps", BALANCED]
        raise UserError(place, f"unknown device {name!r}", known) from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 0):
        raise UserError(place, f"{name!r} is not there", fix="use model.device=cpu")
    return name


def device_kind(device: torch.device) -> str:
    """The product that a device is, rather than its number: results differ in the last digits between products.

    Two accelerators of one product count as one; a CPU counts by its machine and by the vector instructions that torch
    uses on it.
    """
    if device.type == "cuda":
        return f"cuda/{torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu/{platform.machine()}/{torch.backends.cpu.get_cpu_capability()}"
    return f"{device.type}/{platform.machine()}"
