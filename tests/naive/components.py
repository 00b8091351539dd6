"""What a layer adds to the stream, and the stream itself, read and replaced at one position a prompt with hooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .hooks import editing_layer_inputs, recording_layer_inputs
from .layouts import Layout
from .prompts import Positions, Prompts

NORMS = {
    "gemma2": ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("", "post_feedforward_layernorm"),
    "olmo3": ("", "post_feedforward_layernorm"),
    "gpt2": ("ln_2", ""),
}
"""`model_type` to the norms before and after the MLP; of the others it is that of Llama, before it alone."""
AFTER_ATTENTION = dict.fromkeys(("gemma2", "gemma3_text", "olmo2", "olmo3"), "post_attention_layernorm")
"""`model_type` to the norm of what attention adds, where there is one."""


def _mlp(layer: nn.Module, model_type: str, stream: Tensor) -> Tensor:
    """What the MLP adds, given the stream that it reads."""
    before, after = NORMS.get(model_type, ("post_attention_layernorm", ""))
    normed = layer.get_submodule(before)(stream) if before else stream
    added = layer.get_submodule("mlp")(normed)
    return layer.get_submodule(after)(added) if after else added


@contextmanager
def _output_hook(layer: nn.Module, hook: Any) -> Iterator[None]:
    handle = layer.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def read_component(
    model: Any, layout: Layout, prompts: Prompts, component: str, number: int, positions: Positions
) -> Float[Tensor, "batch d_model"]:
    """Return a component without heads of one layer at one position a prompt."""
    rows, layer = torch.arange(len(prompts)), layout.layer_modules(model)[number]
    kind, parallel = model.config.model_type, getattr(model.config, "use_parallel_residual", False)
    ends: list[Tensor] = []

    def keep(_module: Any, _args: Any, _kwargs: Any, output: Any) -> None:
        ends.append((output[0] if isinstance(output, tuple) else output)[rows, positions])

    added: list[Tensor] = []
    after = NORMS.get(kind, ("", ""))[1]
    mlp = layer.get_submodule(after or "mlp").register_forward_hook(lambda _m, _a, out: added.append(out))
    attended: list[Any] = []
    path = AFTER_ATTENTION.get(kind, layout.attention)
    attention = layer.get_submodule(path).register_forward_hook(lambda _m, _a, out: attended.append(out))
    with recording_layer_inputs(model, layout) as streams, _output_hook(layer, keep):
        prompts.logits(model)
    mlp.remove()
    attention.remove()
    attn_out = attended[0][0] if isinstance(attended[0], tuple) else attended[0]
    stream, mlp_out = streams[number][rows, positions], added[0][rows, positions]
    resid_mid = ends[0] - mlp_out
    if component == "mlp_out":
        read = stream if parallel else resid_mid
        torch.testing.assert_close(mlp_out, _mlp(layer, kind, read), atol=1e-4, rtol=1e-4)
    read_here = {"attn_out": attn_out[rows, positions], "resid_mid": resid_mid, "mlp_out": mlp_out}
    return {"resid_pre": stream, **read_here}[component]


@torch.no_grad()
def component_patched_logits(
    model: Any,
    layout: Layout,
    prompts: Prompts,
    component: str,
    number: int,
    positions: Positions,
    values: Float[Tensor, "batch d_model"],
    last: Positions,
) -> Float[Tensor, "batch vocab"]:
    """Run `prompts` with one component of one layer replaced at one position a prompt.

    What the layer gives there follows from the definition: the stream after attention, plus what the MLP makes of it.
    """
    rows, layer = torch.arange(len(prompts)), layout.layer_modules(model)[number]
    if component == "resid_pre":

        def put(index: int, stream: Tensor) -> Tensor:
            patched = stream.clone()
            if index == number:
                patched[rows, positions] = values
            return patched

        with editing_layer_inputs(model, layout, put):
            return prompts.logits_at(model, last)
    if component == "attn_out":
        values = read_component(model, layout, prompts, "resid_pre", number, positions) + values
    mid = read_component(model, layout, prompts, "resid_mid", number, positions)
    if component == "mlp_out":
        end = mid + values
    elif getattr(model.config, "use_parallel_residual", False):
        end = values + read_component(model, layout, prompts, "mlp_out", number, positions)
    else:
        end = values + _mlp(layer, model.config.model_type, values)

    def replace(_module: Any, _args: Any, _kwargs: Any, output: Any) -> Any:
        patched = (output[0] if isinstance(output, tuple) else output).clone()
        patched[rows, positions] = end
        return (patched, *output[1:]) if isinstance(output, tuple) else patched

    with _output_hook(layer, replace):
        return prompts.logits_at(model, last)
