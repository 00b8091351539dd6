"""Models whose modules are in another process than the session's code, as in NDIF's sandbox.

There

1. modules are reached in traces alone, and have no weights and no device here;
2. what is read comes as a copy, which goes back when the code moves on: changed in place, it need not be sent again,
   and what nothing there reads after that can be made small before;
3. what a cache is given there never comes back, so that runs go over whole prompts (`slots`);
4. a trace that is ended early takes the next one with it;
5. everything that is read, written and answered crosses a socket, the logits of all tokens too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, find, layer_at

KEEP = "logits_to_keep"
"""The argument with which most models are told which tokens to unembed."""

Intervention = TypeVar("Intervention", bound=Callable[..., Any])


def takes_gradients(function: Intervention) -> Intervention:
    """Mark an intervention as one that takes gradients: copies have none, so that it cannot run on them."""
    function.takes_gradients = True  # type: ignore[attr-defined]
    return function


def device_here(model: Any) -> torch.device:
    """Where tensors are that a session begins with; what is read from modules that are elsewhere may be on another."""
    if model.device.type != "meta":
        return model.device
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def stream_dtype(model: Any, anatomy: Anatomy) -> torch.dtype:
    """What the model computes in, by a run over one token."""
    token = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        with model.trace({"input_ids": token, **unembedded(model, anatomy, [0])}, use_cache=False):
            stream = layer_at(model, anatomy, 0).input
    return stream.dtype


def in_trace(model: Any, anatomy: Anatomy, work: Callable[[], Any]) -> Any:
    """What `work` returns, which calls modules by themselves: in a run over one token."""
    if not anatomy.get("elsewhere"):
        return work()
    token = torch.zeros(1, 1, dtype=torch.long)
    with model.trace({"input_ids": token, **unembedded(model, anatomy, [0])}, use_cache=False):
        result = work()
    return result


def give_back(anatomy: Anatomy, module: Any, side: str, values: Tensor, became: Tensor) -> None:
    """Replace what was read of a module, its `input` or `output`; elsewhere in place, which sends it once."""
    if anatomy.get("elsewhere"):
        values.copy_(became)
    else:
        setattr(module, side, became)


def unembedded(model: Any, anatomy: Anatomy, places: list[int]) -> dict[str, Tensor]:
    """The argument of a forward pass by which only some tokens are unembedded; nothing where it is not needed.

    Args:
        model: The model.
        anatomy: Its anatomy.
        places: Token indices, ascending.
    """
    if not anatomy.get("elsewhere"):
        return {}
    module = model._module
    module = module.get_base_model() if hasattr(module, "get_base_model") else module
    takes = KEEP in argument_names(type(module).forward)
    return {KEEP: torch.tensor(places)} if takes else {}


def argument_names(function: Any) -> list[str]:
    """Names of a function's arguments; servers need not let sessions import what tells them otherwise."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def read_logits(
    model: Any, anatomy: Anatomy, places: Int[Tensor, "row place"], kept: dict[str, Tensor]
) -> Float[Tensor, "row place vocab"]:
    """The model's logits at some tokens, which alone go through the unembedding; to be called in a trace.

    Args:
        model: The model.
        anatomy: Its anatomy.
        places: Token indices.
        kept: What the run was given of `unembedded`, which has them all.
    """
    rows = torch.arange(len(places), device=places.device)[:, None]
    if kept:
        answered = model.output
        logits = answered.logits
        if anatomy.get("elsewhere"):
            answered["logits"] = logits.new_zeros(1).expand(logits.shape)  # it would go back, and come once more
        index = torch.searchsorted(kept[KEEP].to(places.device), places.contiguous())
        return logits[rows.to(logits.device), index.to(logits.device)]
    head = find(model, anatomy["unembed"])
    stream = head.input
    head.input = stream[rows.to(stream.device), places.to(stream.device)]
    return model.output.logits
