"""How each architecture is built: module names and head layout, described once.

An architecture that is not listed is refused, never guessed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from entitrack.core.errors import UserError
from entitrack.engine.anatomy import Anatomy, find

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

Head = tuple[int, int]
"""(layer, head), both from 0."""


@dataclass(frozen=True)
class Architecture:
    """Module names of a family of decoders. Paths in a layer are relative to it; "" means there is no such part.

    Attributes:
        layers: Path of the list of layers.
        final_norm: Path of the norm before the unembedding.
        o_proj: The attention's output projection.
        projections: q, k and v projections, or one fused path.
        fused: How a fused projection is laid out: `` (not fused), `blocks` (all q, all k, all v) or `heads` (q, k, v of
            the first head, then of the second, ...).
        pre_attention_norm: Norm of the attention's input.
        post_attention_norm: Norm of the attention's output, before it is added to the stream.
        pre_mlp_norm: Norm of the MLP's input.
        post_mlp_norm: Norm of the MLP's output.
        mlp: The MLP.
        parallel: The MLP reads the layer's input; `config` when the configuration decides.
        unembed: Path of the unembedding.
        factorised: These parts are all there is in a layer. Without it only `layers`, `o_proj` and `projections` count,
            and path patching takes the naive way.
    """

    layers: str = "model.layers"
    final_norm: str = "model.norm"
    o_proj: str = "self_attn.o_proj"
    projections: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    fused: str = ""
    pre_attention_norm: str = "input_layernorm"
    post_attention_norm: str = ""
    pre_mlp_norm: str = "post_attention_layernorm"
    post_mlp_norm: str = ""
    mlp: str = "mlp"
    parallel: bool | str = False
    unembed: str = "lm_head"
    factorised: bool = True


LLAMA = Architecture()
GEMMA_2 = Architecture(
    post_attention_norm="post_attention_layernorm",
    pre_mlp_norm="pre_feedforward_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
)
POST_NORM = Architecture(
    pre_attention_norm="",
    post_attention_norm="post_attention_layernorm",
    pre_mlp_norm="",
    post_mlp_norm="post_feedforward_layernorm",
)
PHI_3 = Architecture(projections=("self_attn.qkv_proj",), fused="blocks")
GPT_2 = Architecture(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    o_proj="attn.c_proj",
    projections=("attn.c_attn",),
    fused="blocks",
    pre_attention_norm="ln_1",
    pre_mlp_norm="ln_2",
)
GPT_NEOX = Architecture(
    layers="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    o_proj="attention.dense",
    projections=("attention.query_key_value",),
    fused="heads",
    parallel="use_parallel_residual",
)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": GEMMA_2,
    "gemma3_text": GEMMA_2,
    "olmo": LLAMA,
    "olmo2": POST_NORM,
    "olmo3": POST_NORM,
    "phi3": PHI_3,
    "gpt2": GPT_2,
    "gpt_neox": GPT_NEOX,
}
"""`model_type` of a transformers configuration -> how it is built."""


def given_architecture(names: Mapping[str, Any]) -> Architecture | None:
    """An architecture described in a configuration; None if nothing is given.

    It counts as not factorised unless it says so.

    Raises:
        UserError: A name is unknown, or one that every architecture needs is missing.
    """
    if not names:
        return None
    known = [entry.name for entry in fields(Architecture)]
    for name in names:
        if name not in known:
            raise UserError(f"model.architecture.{name}", "unknown key", known)
    for name in ("layers", "o_proj", "projections"):
        if name not in names:
            raise UserError(f"model.architecture.{name}", "has no value", fix="say where it is in the module tree")
    given = {"factorised": False, **names, "projections": tuple(names["projections"])}
    return Architecture(**given)


def describe(config: PretrainedConfig, given: Architecture | None = None) -> Anatomy:
    """The anatomy of a model with this configuration.

    Args:
        config: The model's configuration.
        given: How it is built, where the user says so.

    Raises:
        UserError: The architecture is neither given nor one of `ARCHITECTURES`: it is never guessed.
    """
    kind = config.model_type
    if given is None and kind not in ARCHITECTURES:
        fix = "give model.architecture its layers, o_proj and projections to have it scored the naive way"
        raise UserError("model", f"architecture {kind!r} is not described", sorted(ARCHITECTURES), fix)
    built = given or ARCHITECTURES[kind]
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    d_head = getattr(config, "head_dim", None) or config.hidden_size // heads
    paths = built.projections * 3 if built.fused else built.projections
    parallel = getattr(config, built.parallel) if isinstance(built.parallel, str) else built.parallel
    return Anatomy(
        layers=built.layers,
        final_norm=built.final_norm,
        unembed=built.unembed,
        projections=dict(zip("qkv", paths, strict=True)),
        slots=_slots(built.fused, heads, kv_heads, d_head),
        o_proj=built.o_proj,
        pre_attention_norm=built.pre_attention_norm,
        post_attention_norm=built.post_attention_norm,
        pre_mlp_norm=built.pre_mlp_norm,
        mlp=built.mlp,
        post_mlp_norm=built.post_mlp_norm,
        parallel=parallel,
        factorised=built.factorised,
        n_layers=config.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=kv_heads,
        d_head=d_head,
        softcap=float(getattr(config, "final_logit_softcapping", None) or 0),
        windows=_windows(config),
        cache=_cache_name(config),
    )


def _cache_name(config: PretrainedConfig) -> str:
    """What the model's forward calls its cache: versions of transformers differ, and so may a model from others."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    listed: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    built_as = listed[0] if isinstance(listed, tuple) else listed
    takes = inspect.signature(built_as.forward).parameters if built_as else ()
    return "cache" if "cache" in takes else "past_key_values"


def _slots(fused: str, heads: int, kv_heads: int, d_head: int) -> dict[str, list[int]]:
    """Where each head of q, k and v starts in its projection's output."""
    if fused == "heads":
        return {name: [index * d_head, 3 * d_head, heads] for index, name in enumerate("qkv")}
    k_start = heads * d_head if fused else 0
    v_start = k_start + kv_heads * d_head if fused else 0
    return {"q": [0, d_head, heads], "k": [k_start, d_head, kv_heads], "v": [v_start, d_head, kv_heads]}


def _windows(config: PretrainedConfig) -> list[int]:
    """The attention window of every layer; 0 where there is none."""
    window = getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return [window if kind == "sliding_attention" else 0 for kind in kinds]
    everywhere = window if getattr(config, "use_sliding_window", True) else 0
    return [everywhere] * config.num_hidden_layers


def check_anatomy(module: nn.Module, anatomy: Anatomy) -> None:
    """Refuse an anatomy that is not this model's: parts that are not there, or not as wide as its heads.

    Raises:
        UserError: Naming the key of `model.architecture`.
    """
    fused = len(set(anatomy["projections"].values())) == 1
    layers = _part(module, anatomy["layers"], "layers")
    if not hasattr(layers, "__len__") or len(layers) != anatomy["n_layers"]:
        raise UserError(
            "model.architecture.layers", f"{anatomy['layers']!r} is no list of {anatomy['n_layers']} layers"
        )
    names = ["o_proj"]
    if anatomy["factorised"]:
        names += ["pre_attention_norm", "post_attention_norm", "pre_mlp_norm", "mlp", "post_mlp_norm"]
        for name in ("final_norm", "unembed"):
            _part(module, anatomy[name], name)  # type: ignore[literal-required]
    for layer in layers:
        for name in names:
            _part(layer, anatomy[name], name)  # type: ignore[literal-required]
        _check_width(_part(layer, anatomy["o_proj"], "o_proj"), 0, anatomy["n_heads"] * anatomy["d_head"], "o_proj")
        for component, path in anatomy["projections"].items():
            offset, stride, heads = anatomy["slots"][component]
            width = offset + stride * (heads - 1) + anatomy["d_head"]
            _check_width(_part(layer, path, "projections"), 1, width, "projections", fused)


def _part(root: nn.Module, path: str, key: str) -> Any:
    """A part by its path."""
    try:
        return find(root, path)
    except AttributeError as error:
        known = [name for name, _ in root.named_modules() if name.count(".") <= path.count(".") and name]
        raise UserError(f"model.architecture.{key}", f"there is no {path!r}", known) from error


def _check_width(part: Any, side: int, width: int, key: str, fused: bool = False) -> None:
    """Refuse a projection whose input (side 0) or output (side 1) is not as wide as the heads that it should hold."""
    names = (("in_features", "out_features"), ("nx", "nf"))  # nn.Linear; the transposed one of GPT-2
    found = next((getattr(part, pair[side]) for pair in names if hasattr(part, pair[side])), None)
    if found is not None and (found < width if fused else found != width):
        sort = ("input", "output")[side]
        problem = f"its {sort} has {found} columns, the heads {width}"
        raise UserError(f"model.architecture.{key}", problem, fix="name the projection of the attention")


def check_heads(anatomy: Anatomy, heads: Iterable[Sequence[int]], place: str) -> None:
    """Refuse heads that the model does not have.

    Raises:
        UserError: Naming the first of them.
    """
    layers, width = anatomy["n_layers"], anatomy["n_heads"]
    for layer, head in heads:
        if not (0 <= layer < layers and 0 <= head < width):
            problem = f"no head [{layer}, {head}]"
            raise UserError(place, problem, [f"layers 0 to {layers - 1}", f"heads 0 to {width - 1}"])


def kv_groups(anatomy: Anatomy, heads: Iterable[Head]) -> list[Head]:
    """The (layer, KV group) of query heads, each once, in order.

    With grouped-query attention several query heads share one k and v.
    """
    size = anatomy["n_heads"] // anatomy["n_kv_heads"]
    return list(dict.fromkeys((layer, head // size) for layer, head in heads))
