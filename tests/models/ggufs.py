"""Small models written as gguf files, for what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS, HEADS, KV_HEADS, WIDTH, MLP, CONTEXT = 2, 4, 2, 32, 48, 64
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def words() -> tuple[list[str], list[str]]:
    """A byte-level vocabulary with one merge, and its merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*sorted(ByteLevel.alphabet()), "ab", "<s>", "</s>"], ["a b"]


def random_llama(seed: int = 0) -> LlamaForCausalLM:
    """A Llama that was never trained, with the vocabulary of `words`."""
    torch.manual_seed(seed)
    tokens, _ = words()
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(path: Path, model: LlamaForCausalLM, *, without: str = "") -> Path:
    """Write a Llama as llama.cpp's converter does, in float32.

    Args:
        path: Where to.
        model: From `random_llama`.
        without: Tensors whose names have this in them are left out.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    _write_settings(writer)
    for name, tensor in model.state_dict().items():
        if not without or without not in name:
            writer.add_tensor(_name(name), _ordered(name, tensor).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_settings(writer: Any) -> None:
    tokens, merges = words()
    writer.add_name("random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 2) + [3, 3])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)


def _name(name: str) -> str:
    """The name of a tensor in a gguf."""
    if name in WHOLE or name == "lm_head.weight":
        return WHOLE.get(name, "output.weight")
    _, _, layer, *part = name.split(".")
    return f"blk.{layer}.{PARTS['.'.join(part[:-1])]}.weight"


def _ordered(name: str, tensor: Tensor) -> Tensor:
    """A tensor as a gguf holds it: the rows of q and k that turn together lie side by side."""
    heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else 0
    return tensor.view(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape) if heads else tensor
