"""Where each supported architecture keeps its layers, its heads' outputs and its q, k and v."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

Columns = Callable[[str], Int[Tensor, "head d_head"]]


@dataclass(frozen=True)
class Layout:
    """The module names of one decoder, relative as written, and the columns that belong to each head.

    Attributes:
        layers: the list of layers, from the model with its language-model head.
        attention: the attention module, from a layer.
        output: the projection after attention ("o_proj"), from a layer; z is its input.
        projections: component (`q`, `k`, `v`) to the linear module that yields it, from a layer. A fused
            projection is named three times.
        columns: component to the output columns of its projection, one row of indices per head; `k` and `v`
            have a row per key-value head.
    """

    layers: str
    attention: str
    output: str
    projections: Mapping[str, str]
    columns: Columns
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int

    def layer_modules(self, model: nn.Module) -> list[nn.Module]:
        """Return the layers, first to last."""
        layers = model.get_submodule(self.layers)
        assert isinstance(layers, nn.ModuleList)
        return list(layers)

    def kv_head(self, head: int) -> int:
        """Return the key-value head that query head `head` reads."""
        return head // (self.n_heads // self.n_kv_heads)


def _sizes(config: Any) -> dict[str, int]:
    """Read the head counts; an absent `num_key_value_heads` means one per query head."""
    heads = config.num_attention_heads
    return {
        "n_layers": config.num_hidden_layers,
        "n_heads": heads,
        "n_kv_heads": getattr(config, "num_key_value_heads", None) or heads,
        "d_head": getattr(config, "head_dim", None) or config.hidden_size // heads,
    }


def _blocks(start: int, heads: int, d_head: int) -> Int[Tensor, "head d_head"]:
    """Index `heads` blocks of `d_head` columns that lie side by side from `start` on."""
    return start + torch.arange(heads * d_head).view(heads, d_head)


def llama_layout(model: Any) -> Layout:
    """Separate q_proj, k_proj, v_proj: Llama, Mistral, Qwen2, Qwen3, Gemma 2, Gemma 3 text, OLMo, OLMo 2."""
    sizes = _sizes(model.config)
    projections = {component: f"self_attn.{component}_proj" for component in "qkv"}

    def columns(component: str) -> Int[Tensor, "head d_head"]:
        heads = sizes["n_heads"] if component == "q" else sizes["n_kv_heads"]
        return _blocks(0, heads, sizes["d_head"])

    return Layout("model.layers", "self_attn", "self_attn.o_proj", projections, columns, **sizes)


def _contiguous(sizes: Mapping[str, int]) -> Columns:
    """Return the columns of a fused projection that holds all q, then all k, then all v."""

    def columns(component: str) -> Int[Tensor, "head d_head"]:
        heads, kv_heads, d_head = sizes["n_heads"], sizes["n_kv_heads"], sizes["d_head"]
        start = {"q": 0, "k": heads * d_head, "v": (heads + kv_heads) * d_head}[component]
        return _blocks(start, heads if component == "q" else kv_heads, d_head)

    return columns


def phi3_layout(model: Any) -> Layout:
    """Phi-3: one fused projection, [all q | all k | all v], with key-value groups."""
    sizes = _sizes(model.config)
    projections = dict.fromkeys("qkv", "self_attn.qkv_proj")
    return Layout("model.layers", "self_attn", "self_attn.o_proj", projections, _contiguous(sizes), **sizes)


def gpt2_layout(model: Any) -> Layout:
    """GPT-2: one fused Conv1D, whose output columns are [all q | all k | all v]."""
    sizes = _sizes(model.config)
    projections = dict.fromkeys("qkv", "attn.c_attn")
    return Layout("transformer.h", "attn", "attn.c_proj", projections, _contiguous(sizes), **sizes)


def gpt_neox_layout(model: Any) -> Layout:
    """GPT-NeoX: one fused projection, [q | k | v] of the first head, then of the second, and so on."""
    sizes = _sizes(model.config)
    heads, d_head = sizes["n_heads"], sizes["d_head"]
    projections = dict.fromkeys("qkv", "attention.query_key_value")

    def columns(component: str) -> Int[Tensor, "head d_head"]:
        starts = 3 * d_head * torch.arange(heads) + d_head * "qkv".index(component)
        return starts[:, None] + torch.arange(d_head)

    return Layout("gpt_neox.layers", "attention", "attention.dense", projections, columns, **sizes)


_BY_MODEL_TYPE: dict[str, Callable[[Any], Layout]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo", "olmo2"), llama_layout),
    **dict.fromkeys(("gemma", "olmo3"), llama_layout),
    "phi3": phi3_layout,
    "gpt2": gpt2_layout,
    "gpt_neox": gpt_neox_layout,
}


def layout_of(model: Any) -> Layout:
    """Return the layout of `model`, by its config's `model_type`.

    Raises:
        KeyError: no layout is written for that type.
    """
    return _BY_MODEL_TYPE[model.config.model_type](model)
