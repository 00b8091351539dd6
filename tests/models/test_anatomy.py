"""Architectures are described or refused, never guessed."""

from __future__ import annotations

import pytest
from transformers import AutoConfig
from transformers.models.auto import modeling_auto

from entitrack.core.errors import UserError
from entitrack.models.anatomy import check_heads, describe, given_architecture, kv_groups

GROUPED = {
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_hidden_layers": 3,
}


def test_grouped_heads_of_an_own_width() -> None:
    anatomy = describe(AutoConfig.for_model("llama", **GROUPED))
    assert (anatomy["n_heads"], anatomy["n_kv_heads"], anatomy["d_head"]) == (8, 2, 16)
    assert anatomy["slots"] == {"q": [0, 16, 8], "k": [0, 16, 2], "v": [0, 16, 2]}
    assert kv_groups(anatomy, [(0, 0), (0, 3), (0, 4), (1, 7)]) == [(0, 0), (0, 1), (1, 1)]


def test_fused_projections() -> None:
    blocks = describe(AutoConfig.for_model("phi3", **{**GROUPED, "head_dim": None, "pad_token_id": 0}))
    assert blocks["slots"] == {"q": [0, 8, 8], "k": [64, 8, 2], "v": [80, 8, 2]}
    by_head = describe(AutoConfig.for_model("gpt_neox", hidden_size=64, num_attention_heads=8, num_hidden_layers=2))
    assert by_head["slots"] == {"q": [0, 24, 8], "k": [8, 24, 8], "v": [16, 24, 8]}


def test_windows_layer_by_layer() -> None:
    anatomy = describe(AutoConfig.for_model("gemma2", num_hidden_layers=4, sliding_window=8))
    assert anatomy["windows"] == [8, 0, 8, 0]
    assert describe(AutoConfig.for_model("qwen2", num_hidden_layers=2))["windows"] == [0, 0]


def test_a_cache_goes_by_the_name_that_the_models_forward_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of transformers of both spellings, and of a model that transformers has no class for."""
    config = AutoConfig.for_model("llama", **GROUPED)
    recent = type("Recent", (), {"forward": lambda self, input_ids, cache=None: None})
    old = type("Old", (), {"forward": lambda self, input_ids, past_key_values=None: None})
    for classes, name in (({type(config): recent}, "cache"), ({type(config): old}, "past_key_values")):
        monkeypatch.setattr(modeling_auto, "MODEL_FOR_CAUSAL_LM_MAPPING", classes)
        assert describe(config)["cache"] == name
    monkeypatch.setattr(modeling_auto, "MODEL_FOR_CAUSAL_LM_MAPPING", {})
    assert describe(config)["cache"] == "past_key_values"


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UserError, match=r"model: architecture 'bloom' is not described; available: gemma, .*naive way"):
        describe(AutoConfig.for_model("bloom"))


def test_a_given_architecture_is_not_trusted_to_be_complete() -> None:
    names = {"layers": "transformer.h", "o_proj": "attn.out", "projections": ["attn.qkv"], "fused": "heads"}
    given = given_architecture(names)
    assert given is not None
    anatomy = describe(AutoConfig.for_model("bloom"), given)
    assert anatomy["layers"] == "transformer.h"
    assert not anatomy["factorised"]
    assert given_architecture({}) is None


def test_a_given_architecture_names_what_is_wrong() -> None:
    with pytest.raises(UserError, match=r"model\.architecture\.out: unknown key; available: layers"):
        given_architecture({"layers": "h", "out": "x"})
    with pytest.raises(UserError, match=r"model\.architecture\.o_proj: has no value"):
        given_architecture({"layers": "h"})


def test_heads_that_do_not_exist_are_named() -> None:
    anatomy = describe(AutoConfig.for_model("llama", **GROUPED))
    check_heads(anatomy, [(2, 7)], "x")
    for head in ((3, 0), (0, 8), (-1, 0)):
        with pytest.raises(UserError, match=r"x: no head .*; available: layers 0 to 2, heads 0 to 7"):
            check_heads(anatomy, [head], "x")
