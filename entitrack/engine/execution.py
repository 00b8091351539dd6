"""The body of every session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def execute(
    model: Any, function: Callable[..., Any], inputs: dict[str, Any], kept: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run an intervention with its tensors on the model's device, and bring its result to the CPU.

    Servers run sessions under bfloat16 autocast; scores near zero are noise then, so it is switched off. What is in
    `kept` stays as it is and where it is.
    """
    device = model.device
    shared = {} if kept is None else {"kept": kept}
    with torch.autocast(device.type, enabled=False):
        return move(function(model, **move(inputs, device), **shared), torch.device("cpu"))


def move(value: Any, device: torch.device) -> Any:
    """The same containers with every tensor on `device`, detached."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, dict):
        return {name: move(entry, device) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [move(entry, device) for entry in value]
    return value
