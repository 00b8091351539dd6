"""How a decoder is built, and its parts put to use: what a layer does after attention, and the unembedding.

Shapes: `batch` prompts, `token` positions, `head` query heads, `d_head` their width, `d_model` the residual stream.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Anatomy(TypedDict):
    """How a decoder is built, as plain values: `entitrack.models.anatomy` writes it, the engine reads it.

    Paths of parts are relative to a layer; a part that an architecture lacks is an empty string.
    """

    layers: str
    final_norm: str
    unembed: str
    projections: dict[str, str]
    """Component (`q`, `k`, `v`) -> path of the module that computes it; one path for all when fused."""
    slots: dict[str, list[int]]
    """Component -> `[offset, stride, heads]`: head h starts at column `offset + h * stride` of that module's output."""
    o_proj: str
    pre_attention_norm: str
    post_attention_norm: str
    pre_mlp_norm: str
    mlp: str
    post_mlp_norm: str
    parallel: bool
    """The MLP reads the layer's input, not the stream after attention."""
    factorised: bool
    """The parts above are all there is in a layer, so that its end can be computed one token at a time."""
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    softcap: float
    """Logits are `softcap * tanh(logits / softcap)`; 0 when they are not capped."""
    windows: list[int]
    """Attention window of each layer in tokens; 0 where a layer sees everything before it."""
    cache: str
    """The name under which the model takes its cache and gives it back."""
    elsewhere: NotRequired[bool]
    """Modules are in another process than the session's code, which reaches them in traces alone: see `elsewhere`."""


def find(root: Any, path: str) -> Any:
    """The module at a dotted path below `root`; `root` itself for an empty path."""
    for name in path.split(".") if path else []:
        root = getattr(root, name)
    return root


def layer_at(model: Any, anatomy: Anatomy, layer: int) -> Any:
    """The decoder layer `layer`."""
    return find(model, anatomy["layers"])[layer]


def part(model: Any, anatomy: Anatomy, layer: int, name: str) -> Any:
    """A part of a layer by its name in the anatomy (`o_proj`, `mlp`, ...)."""
    return find(layer_at(model, anatomy, layer), anatomy[name])  # type: ignore[literal-required]


def projection(model: Any, anatomy: Anatomy, layer: int, component: str) -> Any:
    """The module whose output holds component `q`, `k` or `v`."""
    return find(layer_at(model, anatomy, layer), anatomy["projections"][component])


def through(model: Any, anatomy: Anatomy, layer: int, name: str, values: Tensor) -> Tensor:
    """Push values through a part of a layer; unchanged when the architecture has no such part."""
    if not anatomy[name]:  # type: ignore[literal-required]
        return values
    return part(model, anatomy, layer, name)(values)


def head_columns(anatomy: Anatomy, component: str, device: Any) -> Int[Tensor, "head d_head"]:
    """For each head, where it is in the output of its projection (`q`, `k`, `v`) or in the input of `o_proj` (`z`)."""
    n_heads, d_head = anatomy["n_heads"], anatomy["d_head"]
    offset, stride, heads = (0, d_head, n_heads) if component == "z" else anatomy["slots"][component]
    starts = offset + stride * torch.arange(heads, device=device)
    return starts[:, None] + torch.arange(d_head, device=device)


def split_heads(
    anatomy: Anatomy, component: str, values: Float[Tensor, "*batch width"]
) -> Float[Tensor, "*batch head d_head"]:
    """A projection's output, or `o_proj`'s input, by heads."""
    return values[..., head_columns(anatomy, component, values.device)]


def at(values: Float[Tensor, "batch token ..."], positions: Int[Tensor, " batch"]) -> Float[Tensor, "batch ..."]:
    """One token of every row."""
    return values[torch.arange(values.shape[0], device=values.device), positions.to(values.device)]


def unembed(model: Any, anatomy: Anatomy, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
    """Logits of a residual stream at the end of the last layer, in float32."""
    logits = find(model, anatomy["unembed"])(find(model, anatomy["final_norm"])(hidden)).float()
    cap = anatomy["softcap"]
    return cap * torch.tanh(logits / cap) if cap else logits


def unembed_words(
    model: Any, anatomy: Anatomy, hidden: Float[Tensor, "*batch d_model"], words: Int[Tensor, "*batch word"]
) -> Float[Tensor, "*batch word"]:
    """Logits of a few words alone, in float32: rows of the unembedding, where it is a plain matrix."""
    head = find(model, anatomy["unembed"])
    matrix = getattr(head, "_module", head)
    if type(matrix) is not torch.nn.Linear or matrix.bias is not None:
        return unembed(model, anatomy, hidden).gather(-1, words.to(hidden.device))
    rows = matrix.weight[words.to(matrix.weight.device)]
    logits = torch.einsum("...d,...wd->...w", find(model, anatomy["final_norm"])(hidden).to(rows.device), rows).float()
    cap = anatomy["softcap"]
    return cap * torch.tanh(logits / cap) if cap else logits


def last_logits(model: Any, anatomy: Anatomy, last: Int[Tensor, " batch"]) -> Float[Tensor, "batch vocab"]:
    """The model's logits at one token of every row, which alone is unembedded; to be called in a trace."""
    head = find(model, anatomy["unembed"])
    head.input = at(head.input, last)[:, None]
    return model.output.logits[:, 0]


def finish_layer(
    model: Any,
    anatomy: Anatomy,
    layer: int,
    resid_pre: Float[Tensor, "*batch d_model"],
    attention: Float[Tensor, "*batch d_model"],
) -> Float[Tensor, "*batch d_model"]:
    """The end of a layer, given what its attention adds to the stream: one token at a time, no attention.

    Layers may be on several devices: the stream goes to where this layer's modules have left what attention adds.

    Args:
        model: The model.
        anatomy: Its anatomy.
        layer: Which layer.
        resid_pre: The stream at the start of the layer.
        attention: Output of `o_proj` after the norm that follows it, if there is one.
    """
    resid_pre = resid_pre.to(attention.device)
    resid_mid = resid_pre + attention
    mlp_input = resid_pre if anatomy["parallel"] else resid_mid
    update = part(model, anatomy, layer, "mlp")(through(model, anatomy, layer, "pre_mlp_norm", mlp_input))
    return resid_mid + through(model, anatomy, layer, "post_mlp_norm", update)


def after_heads(
    model: Any,
    anatomy: Anatomy,
    layer: int,
    resid_pre: Float[Tensor, "*batch d_model"],
    z: Float[Tensor, "*batch width"],
) -> Float[Tensor, "*batch d_model"]:
    """The end of a layer, given the stream at its start and z: `o_proj`, the stream after attention, the MLP."""
    attention = through(model, anatomy, layer, "o_proj", z)
    attention = through(model, anatomy, layer, "post_attention_norm", attention)
    return finish_layer(model, anatomy, layer, resid_pre, attention)
