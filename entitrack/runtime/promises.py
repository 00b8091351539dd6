"""What every intervention promises to return, and holding a result to it.

Those of the engine have their promise here. One that a method has of its own says it where it stands: it returns a
`TypedDict` whose fields are tensors with axes, or lists of such.

A result that comes from elsewhere, or from a mistake here, is checked before it is used or kept: a wrong one would
otherwise be found again under its key for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from jaxtyping import Float, Int, jaxtyped
from torch import Tensor

from entitrack.core.errors import UserError

Promise = Mapping[str, Any]
"""Name -> type and axes of a tensor; `[...]` around it for a list of such tensors, `(..., ...)` for one of several.

Axes of one name are of one size.
"""


def _outcomes(axes: str) -> Promise:
    """See `engine.answers.outcomes`."""
    return {"prediction": Int[Tensor, axes], "probability": Float[Tensor, axes], "margin": Float[Tensor, axes]}


def _verdict(axes: str) -> Promise:
    """See `engine.answers.verdict`."""
    return {"prediction": Int[Tensor, axes], "probability": Float[Tensor, axes]}


PROMISES: Mapping[str, Promise] = {
    "ablation.total_z": {"total": Float[Tensor, "layer token width"]},
    "ablation.model_without": _outcomes("circuit batch"),
    "attribution.attribution_effects": {"effect": Float[Tensor, "batch layer head"]},
    "circuits.circuit_answers": _outcomes("circuit batch"),
    "component_ablation.total_components": {"total": Float[Tensor, "component layer token d_model"]},
    "component_ablation.answer_ablated": _outcomes("variant batch"),
    "dcm.train_masks": {
        "masks": Float[Tensor, "step mask head"],
        "losses": Float[Tensor, "step mask"],
        "validated": Float[Tensor, "evaluation mask"],
        "validated_at": Int[Tensor, " evaluation"],
        "kept": Float[Tensor, "mask head"],
        "kept_accuracy": Float[Tensor, " mask"],
    },
    "first_order.first_order_suffix": {
        "effect": Float[Tensor, "batch layer head"],
        "change": Float[Tensor, "batch layer head"],
    },
    "knockout.knockout_answers": _outcomes("target first_layer batch"),
    "masks.masked_answers": {
        "prediction": Int[Tensor, "group mask batch"],
        "target_logit": Float[Tensor, "group mask batch"],
        "own": Int[Tensor, " batch"],
    },
    "moving.moved_answers": {
        "prediction": Int[Tensor, "group draw batch"],
        "target_logit": Float[Tensor, "group draw batch"],
        "own": Int[Tensor, " batch"],
    },
    "naive.naive_effects": {"effect": Float[Tensor, "batch sender"], "null": Float[Tensor, " batch"]},
    "patching.answer": _verdict("batch"),
    "patching.answer_logits": {"logits": Float[Tensor, "batch offered"], **_verdict("batch")},
    "patching.answer_patched": _verdict("variant batch"),
    "patching.read_sites": {
        "values": [(Float[Tensor, "batch _ ... d_head"], Float[Tensor, "batch d_model"])],
        **_verdict("batch"),
    },
    "path_patching.path_effects": {
        "effect": Float[Tensor, "batch layer head"],
        "null": Float[Tensor, " batch"],
        "probability": Float[Tensor, " batch"],
        "peak_bytes": Int[Tensor, "1"],
        "bytes_per_token": Float[Tensor, "2"],
    },
    "transplants.transplanted_answers": {"own": Int[Tensor, " batch"], **_verdict("set batch")},
    "positions.live_position_answers": _outcomes("candidate batch"),
}
"""Room and name of an intervention -> what it returns."""


class WrongResult(UserError):
    """A result is not what its intervention returns.

    Args:
        function: Name of the intervention.
        problem: What is wrong with its result.
    """

    def __init__(self, function: str, problem: str) -> None:
        super().__init__("backend", f"the result of {function} is not what it should be: {problem}", fix="not kept")


def check_result(function: Callable[..., Any], result: object) -> None:
    """Hold a result to what its intervention promises: names, types, axes, and sizes that must agree.

    Args:
        function: The intervention. One that promises nothing may return any dictionary.
        result: What came back.

    Raises:
        WrongResult: Naming the first thing that is wrong.
    """
    name = function.__qualname__
    if not isinstance(result, Mapping):
        raise WrongResult(name, f"it is {_describe(result)}, not a dictionary")
    promise = promise_of(function)
    if promise is None:
        return
    for missing in promise.keys() - result.keys():
        raise WrongResult(name, f"{missing!r} is missing")
    for more in result.keys() - promise.keys():
        raise WrongResult(name, f"{more!r} is not among what it returns")
    with jaxtyped("context"):  # within it, axes of one name have one size
        for field, kind in promise.items():
            _check_field(name, field, kind, result[field])


def promise_of(function: Callable[..., Any]) -> Promise | None:
    """What an intervention promises; None if it promises nothing."""
    package, _, room = function.__module__.rpartition(".")
    if package == "entitrack.engine":
        return PROMISES.get(f"{room}.{function.__qualname__}")
    returned = function.__annotations__.get("return")
    returned = function.__globals__.get(returned) if isinstance(returned, str) else returned
    if not is_typeddict(returned):
        return None
    fields = get_type_hints(returned)
    return {name: list(get_args(kind)) if get_origin(kind) is list else kind for name, kind in fields.items()}


def _check_field(function: str, field: str, kind: Any, value: Any) -> None:
    """Hold one entry to its type."""
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise WrongResult(function, f"{field!r} is {_describe(value)}, not a list")
        for place, entry in enumerate(value):
            _check_field(function, f"{field}[{place}]", kind[0], entry)
    elif not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(f"{one.dtype.__name__}[{one.dim_str.strip()}]" for one in kinds)
        raise WrongResult(function, f"{field!r} is {_describe(value)}, not {wanted}")


def _describe(value: Any) -> str:
    """What a value is, in few words."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return f"of type {type(value).__name__}"
