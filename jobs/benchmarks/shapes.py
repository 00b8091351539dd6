"""Models to measure on: the embedded base, and Llamas of given sizes with random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nnsight import TransformersModel
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from entitrack.models.anatomy import describe
from entitrack.models.family import ZOO, Model
from entitrack.models.identity import Identity


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama; see `transformers.LlamaConfig` for the words."""

    layers: int
    heads: int
    kv_heads: int
    hidden: int
    intermediate: int
    vocabulary: int
    dtype: str = "float32"


SHAPES = {
    "12-layer": Shape(12, 12, 12, 768, 2048, 512),
    "llama-3.2-1b": Shape(16, 32, 8, 2048, 8192, 128256, "bfloat16"),
    "llama-7b": Shape(32, 32, 32, 4096, 11008, 32000, "bfloat16"),
}


def embedded_base(device: str = "cpu") -> Model:
    """The embedded family's base."""
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "tiny" / "llama")
    module = LlamaForCausalLM.from_pretrained(ZOO / "tiny" / "llama", dtype=torch.float32, device_map=device)
    return wrap("tiny", module, tokenizer)


def golden_base(folder: Path, device: str = "cpu") -> Model:
    """The base of the golden data."""
    module = LlamaForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, device_map=device)
    return wrap("golden", module, AutoTokenizer.from_pretrained(folder / "base"))


def random_llama(name: str, device: str = "cpu", seed: int = 0, layers: int = 0, heads: int = 0) -> Model:
    """A Llama of one of `SHAPES` with random weights; its tokenizer is the embedded family's.

    Weights are scaled so that attention is neither uniform nor saturated.

    Args:
        name: One of `SHAPES`.
        device: Where it is.
        seed: Seed of its weights.
        layers: So many layers instead of the shape's, where given.
        heads: So many heads, of as many KV groups, instead of the shape's, where given; they share its width.
    """
    shape = SHAPES[name]
    if layers:
        shape = replace(shape, layers=layers)
    if heads:
        shape = replace(shape, heads=heads, kv_heads=heads)
    config = LlamaConfig(
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary,
        initializer_range=1 / shape.hidden**0.5,
        max_position_embeddings=2048,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        torch.set_default_dtype(getattr(torch, shape.dtype))
        try:
            module = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(torch.float32)
    return wrap(name, module, AutoTokenizer.from_pretrained(ZOO / "tiny" / "llama"))


def wrap(name: str, module: LlamaForCausalLM, tokenizer: object) -> Model:
    """A transformers model as the methods take it."""
    module.eval().requires_grad_(False)
    envoy = TransformersModel(module, task="text-generation", tokenizer=tokenizer)
    return Model.of(name, envoy, describe(module.config), Identity(f"bench/{name}"))
