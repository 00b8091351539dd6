"""What a model runs in and on: dtypes and devices."""

from __future__ import annotations

import platform

import torch

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


def pick_device(name: str) -> str:
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
        raise UserError("model.device", f"unknown device {name!r}", ["auto", "cpu", "cuda", "cuda:0", "mps"]) from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 0):
        raise UserError("model.device", f"{name!r} is not there", fix="use model.device=cpu")
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
