"""One tiny random model per supported architecture."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

GROUPED = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
}
UNGROUPED = {k: v for k, v in GROUPED.items() if k not in ("num_key_value_heads", "head_dim")}
SHORT = {"sliding_window": 4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": GROUPED | SHORT,
    "qwen2": {k: v for k, v in GROUPED.items() if k != "head_dim"},
    "qwen3": GROUPED,
    "gemma": GROUPED,
    "gemma2": GROUPED | SHORT,
    "gemma3_text": GROUPED | SHORT,
    "olmo": {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"clip_qkv": 1.0},
    "olmo2": {k: v for k, v in GROUPED.items() if k != "head_dim"},
    "olmo3": {k: v for k, v in GROUPED.items() if k != "head_dim"} | SHORT,
    "phi3": {k: v for k, v in GROUPED.items() if k != "head_dim"} | {"pad_token_id": 0},
    "gpt2": {"n_embd": 24, "n_head": 4, "n_layer": 2},
    "gpt_neox": UNGROUPED,
}


def tiny(architecture: str) -> Any:
    """A random model of two layers, with weights large enough for attention to be far from uniform."""
    torch.manual_seed(0)
    options = ARCHITECTURES[architecture] | {"vocab_size": 32, "initializer_range": 0.4}
    config = AutoConfig.for_model(architecture, **options)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
