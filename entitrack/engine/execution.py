"""The body of every session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from entitrack.engine.elsewhere import device_here
from entitrack.engine.precision import float32_arithmetic, holds_half_precision


def execute(
    model: Any, function: Callable[..., Any], inputs: dict[str, Any], kept: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run an intervention with its tensors on the model's device, and bring its result to the CPU.

    It is computed in float32, whatever the weights are held in: rounded to half precision, scores near zero are noise.
    Servers run sessions under bfloat16 autocast, which is switched off. Where modules are in another process, they
    compute as that one does. What is in `kept` stays as it is and where it is.
    """
    device = device_here(model)
    shared = {} if kept is None else {"kept": kept}

    def run() -> dict[str, Any]:
        return move(function(model, **move(inputs, device), **shared), torch.device("cpu"))

    with torch.autocast(device.type, enabled=False):
        if model.device.type == "meta" or not holds_half_precision(model):
            return run()
        with float32_arithmetic(model):
            return run()


def present(model: Any) -> dict[str, Tensor]:
    """Nothing but a sign that a session ran: what asks a server to bring a model up.

    Returns:
        `present` `[1]`: 1.
    """
    return {"present": torch.ones(1)}


def move(value: Any, device: torch.device) -> Any:
    """The same containers with every tensor on `device`, detached."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, dict):
        return {name: move(entry, device) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [move(entry, device) for entry in value]
    return value
