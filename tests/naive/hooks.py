"""Read and replace z, q, k, v and layer inputs of a plain `transformers` model, with torch hooks only."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .layouts import Layout

Heads = Float[Tensor, "batch token head d_head"]
Edit = Callable[[int, Tensor], Tensor]
"""(layer, what the model computed) to what it shall use instead. It must not write to what it is given."""


def _edit_z(model: nn.Module, layout: Layout, layer: int, edit: Edit) -> Any:
    """Register `edit` on the input of one layer's output projection; return torch's handle."""

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        z = rearrange(args[0], "batch token (head d_head) -> batch token head d_head", head=layout.n_heads)
        return (rearrange(edit(layer, z), "batch token head d_head -> batch token (head d_head)"),)

    module = layout.layer_modules(model)[layer].get_submodule(layout.output)
    return module.register_forward_pre_hook(hook)


def _edit_projection(model: nn.Module, layout: Layout, layer: int, component: str, edit: Edit) -> Any:
    """Register `edit` on one component of one layer's projection output; return torch's handle."""
    columns = layout.columns(component)

    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        edited = output.clone()
        edited[..., columns] = edit(layer, output[..., columns])
        return edited

    module = layout.layer_modules(model)[layer].get_submodule(layout.projections[component])
    return module.register_forward_hook(hook)


@contextmanager
def editing(model: nn.Module, layout: Layout, component: str, edit: Edit) -> Iterator[None]:
    """Pass `component` of every layer through `edit`, as [batch, token, head, d_head], in forwards within.

    `z` is the input of the output projection; `q`, `k` and `v` are the outputs of theirs, before rotary
    embedding and any norm, and `k` and `v` have a head per key-value head. Contexts apply in the order they
    are entered: an inner one sees what an outer one has written.
    """
    with ExitStack() as stack:
        for layer in range(layout.n_layers):
            if component == "z":
                handle = _edit_z(model, layout, layer, edit)
            else:
                handle = _edit_projection(model, layout, layer, component, edit)
            stack.callback(handle.remove)
        yield


@contextmanager
def recording(model: nn.Module, layout: Layout, component: str) -> Iterator[dict[int, Heads]]:
    """Yield a dictionary that each forward within fills with `component` by layer, detached and copied."""
    seen: dict[int, Heads] = {}

    def read(layer: int, value: Heads) -> Heads:
        seen[layer] = value.detach().clone()
        return value

    with editing(model, layout, component, read):
        yield seen


@contextmanager
def editing_layer_inputs(model: nn.Module, layout: Layout, edit: Edit) -> Iterator[None]:
    """Pass the residual stream before every layer (resid_pre) through `edit`, as [batch, token, d_model]."""

    def hook_of(layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                return (edit(layer, args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": edit(layer, kwargs["hidden_states"])}

        return hook

    with ExitStack() as stack:
        for layer, module in enumerate(layout.layer_modules(model)):
            handle = module.register_forward_pre_hook(hook_of(layer), with_kwargs=True)
            stack.callback(handle.remove)
        yield


@contextmanager
def recording_layer_inputs(
    model: nn.Module, layout: Layout
) -> Iterator[dict[int, Float[Tensor, "batch token d_model"]]]:
    """Yield a dictionary that each forward within fills with resid_pre by layer, detached and copied."""
    seen: dict[int, Float[Tensor, "batch token d_model"]] = {}

    def read(layer: int, value: Tensor) -> Tensor:
        seen[layer] = value.detach().clone()
        return value

    with editing_layer_inputs(model, layout, read):
        yield seen


@contextmanager
def editing_attention_mask(model: nn.Module, layout: Layout, edit: Edit) -> Iterator[None]:
    """Pass the additive mask [batch, 1, query, key] that every attention module is given through `edit`.

    Raises:
        TypeError: a module got no 4-D floating mask; load the model with `attn_implementation="eager"`.
    """

    def hook_of(layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            mask = kwargs.get("attention_mask")
            if not isinstance(mask, Tensor) or mask.ndim != 4 or not mask.is_floating_point():
                raise TypeError(f"layer {layer}: no 4-D additive mask; load with attn_implementation='eager'")
            return args, kwargs | {"attention_mask": edit(layer, mask)}

        return hook

    with ExitStack() as stack:
        for layer, module in enumerate(layout.layer_modules(model)):
            attention = module.get_submodule(layout.attention)
            handle = attention.register_forward_pre_hook(hook_of(layer), with_kwargs=True)
            stack.callback(handle.remove)
        yield
