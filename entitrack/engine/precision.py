"""Float32 arithmetic on weights that are held in half precision.

1. Weights stay as they are. One is cast up when a function computes with it, and the copy is gone when that is done;
   of an embedding the rows that are looked up are cast, not the table.
2. What is float32 stays so: wherever half precision is asked for, as by adapters that cast what comes in to what their
   weights are, float32 is given.
3. For a gradient, autograd keeps what a function computed with. Of a weight's copy it is made to keep the weight.

So activations, keys and values, masks, and whatever goes from one model to another are float32, and effects are those
of a float32 model with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

HALF = (torch.bfloat16, torch.float16)

LOOKUP = "embedding"

LEFT = frozenset(
    f"{LOOKUP} __getitem__ index_select gather select narrow split chunk tensor_split unbind t transpose swapaxes "
    "permute movedim view view_as reshape flatten unflatten expand expand_as squeeze unsqueeze repeat as_strided "
    "contiguous clone detach to cpu cuda type pin_memory size dim ndimension numel nelement element_size stride "
    "storage_offset untyped_storage data_ptr is_contiguous is_floating_point is_complex get_device __len__ "
    "__reduce_ex__".split()
)
"""Functions that say what a tensor is or move its numbers: what comes of a weight is cast when it is computed with."""

WRITES = frozenset(["__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"])
"""Functions that write to their first argument, besides those whose names end in `_`."""


def holds_half_precision(model: Any) -> bool:
    """Whether weights are in half precision; a quantised model is left to its kernels."""
    if getattr(getattr(model, "config", None), "quantization_config", None):
        return False
    return any(parameter.dtype in HALF for parameter in model.parameters())


def unrounded_buffers(model: Any) -> dict[int, Float[Tensor, ""]]:
    """By identity, buffers that are held in half precision though the model knows their numbers exactly.

    Those are the scales of Gemma's embeddings, which a float32 model does not round.
    """
    found: dict[int, Tensor] = {}
    for module in model.modules():
        scale, exact = getattr(module, "embed_scale", None), getattr(module, "scalar_embed_scale", None)
        if isinstance(scale, Tensor) and scale.dtype in HALF and exact is not None:
            found[id(scale)] = torch.full_like(scale, exact, dtype=torch.float32)
    return found


def entries(value: Any) -> Iterator[Any]:
    """A function's arguments, and those within its lists, tuples and dictionaries."""
    if type(value) in (list, tuple, dict):
        for entry in value.values() if type(value) is dict else value:
            yield from entries(entry)
    else:
        yield value


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """A function's arguments, each as `change` gives it."""
    if type(value) is dict:
        return {name: changed(entry, change) for name, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)([changed(entry, change) for entry in value])
    return change(value)


def asks_for_float32(arguments: Any) -> bool:
    """Whether among arguments there is a float32 tensor or a type of half precision, for which float32 is given."""
    return any(
        value.dtype == torch.float32 if isinstance(value, Tensor) else isinstance(value, torch.dtype) and value in HALF
        for value in entries(arguments)
    )


def with_weights_kept(call: Callable[[], Any], weights: dict[int, Tensor]) -> Any:
    """What a call returns; in the place of copies of weights, by their storage, autograd keeps the weights."""

    def pack(saved: Tensor) -> Any:
        weight = weights.get(saved.untyped_storage()._cdata)
        if weight is None:
            return saved
        return weight, saved.shape, saved.stride(), saved.storage_offset()

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        weight, *layout = kept
        return weight.to(torch.float32).as_strided(*layout)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return call()


def float32_arithmetic(model: Any) -> Any:
    """A mode in which models whose weights are in half precision compute in float32, see above.

    It holds for all that its thread runs: forward passes, modules that are called by themselves, functions of torch.
    """

    class Float32(TorchFunctionMode):  # made here, so that it is made where this runs
        unrounded = unrounded_buffers(model)

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, kwargs = getattr(func, "__name__", ""), kwargs or {}
            if name == "__get__":
                return func(*args, **kwargs)
            if name in ("bfloat16", "half"):
                func, args, name = torch.Tensor.to, (args[0], torch.float32), "to"
            if name in LEFT and not asks_for_float32((args, kwargs)):
                result = func(*args, **kwargs)
                return result.to(torch.float32) if name == LOOKUP and result.dtype in HALF else result
            return self.computed(func, name, args, kwargs)

        def computed(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
            """What a function gives when everything in half precision is float32, but for what it writes to."""
            copies: list[Tensor] = []
            weights: dict[int, Tensor] = {}

            def cast_up(value: Any) -> Any:
                """A float32 copy of what is in half precision; anything else as it is."""
                if isinstance(value, torch.dtype):
                    return torch.float32 if value in HALF else value
                if not isinstance(value, Tensor) or value.dtype not in HALF:
                    return value
                if id(value) in self.unrounded:
                    return self.unrounded[id(value)]
                copies.append(value.to(torch.float32))
                weights[copies[-1].untyped_storage()._cdata] = value
                return copies[-1]

            writes = name in WRITES or (name.endswith("_") and not name.endswith("__"))
            first, rest = (args[:1], args[1:]) if writes else ((), args)
            out = {"out": kwargs.pop("out")} if "out" in kwargs else {}
            rest, kwargs = changed(rest, cast_up), {**changed(kwargs, cast_up), **out}
            if copies and torch.is_grad_enabled():
                return with_weights_kept(lambda: func(*first, *rest, **kwargs), weights)
            return func(*first, *rest, **kwargs)

    return Float32()
