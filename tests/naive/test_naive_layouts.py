"""Laws that say whether a layout points at the right modules and columns, one tiny model per architecture."""

from typing import Any

import pytest
import torch
from torch import Tensor

from .hooks import editing, editing_layer_inputs, recording, recording_layer_inputs
from .layouts import layout_of
from .prompts import Prompts
from .tiny import ARCHITECTURES, tiny

NORMED_TOGETHER = {"olmo2", "olmo3"}
"""Here q and k are normed over all heads at once, so replacing one head moves the others."""
TOKENS = torch.arange(14).view(2, 7) + 3
KV_HEAD, TOKEN = 1, 3


def moved_z(model: Any, component: str, head: int, token: int | None) -> Tensor:
    """Return [token, head]: how far z of the first layer moves when `component` of one head is doubled."""
    layout, prompts = layout_of(model), Prompts(TOKENS)

    def double(layer: int, value: Tensor) -> Tensor:
        doubled = value.clone()
        doubled[:, slice(None) if token is None else token, head] *= 2
        return doubled if layer == 0 else value

    with torch.no_grad(), recording(model, layout, "z") as clean:
        prompts.logits(model)
    with torch.no_grad(), editing(model, layout, component, double), recording(model, layout, "z") as edited:
        prompts.logits(model)
    return (edited[0] - clean[0]).abs().amax(dim=(0, -1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_v_reaches_its_own_group_only_and_linearly(architecture: str) -> None:
    model = tiny(architecture)
    layout = layout_of(model)
    with torch.no_grad(), recording(model, layout, "z") as clean:
        Prompts(TOKENS).logits(model)
    own = torch.tensor([layout.kv_head(head) == KV_HEAD for head in range(layout.n_heads)])
    moved = moved_z(model, "v", KV_HEAD, None)
    assert not moved[:, ~own].any()
    if architecture != "olmo":  # its clipping follows the projection, so doubling v does not double what is used
        torch.testing.assert_close(moved[:, own], clean[0].abs().amax(dim=(0, -1))[:, own])
    assert (moved_z(model, "v", KV_HEAD, TOKEN)[TOKEN:, own] > 0).any()
    assert not moved_z(model, "v", KV_HEAD, TOKEN)[:TOKEN].any()


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"qwen3", "gemma3_text"}))
def test_q_reaches_its_token_only_and_k_the_later_ones(architecture: str) -> None:
    """Not where q and k are normed head by head: doubling them changes nothing there."""
    model = tiny(architecture)
    layout = layout_of(model)
    q, k = moved_z(model, "q", 2, TOKEN), moved_z(model, "k", KV_HEAD, TOKEN)
    assert q[TOKEN, 2] > 1e-4
    assert not q[[token for token in range(q.shape[0]) if token != TOKEN]].any()
    assert not k[:TOKEN].any()
    assert (k[TOKEN + 1 :, [h for h in range(layout.n_heads) if layout.kv_head(h) == KV_HEAD]] > 0).any()
    if architecture not in NORMED_TOGETHER:
        assert not q[:, [0, 1, 3]].any()
        assert not k[:, [h for h in range(layout.n_heads) if layout.kv_head(h) != KV_HEAD]].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("component", ["q", "k", "v", "z"])
def test_writing_back_what_was_read_changes_nothing(architecture: str, component: str) -> None:
    model = tiny(architecture)
    layout, prompts = layout_of(model), Prompts(TOKENS)
    with torch.no_grad(), recording(model, layout, component) as seen:
        clean = prompts.logits(model)
    with torch.no_grad(), editing(model, layout, component, lambda layer, _: seen[layer]):
        assert torch.equal(prompts.logits(model), clean)
    assert torch.equal(prompts.logits(model), clean), "the hooks are gone"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_another_prompts_first_layer_input_gives_its_logits(architecture: str) -> None:
    model = tiny(architecture)
    layout = layout_of(model)
    with torch.no_grad(), recording_layer_inputs(model, layout) as other:
        expected = Prompts(TOKENS.flip(0)).logits(model)

    def replace(layer: int, value: Tensor) -> Tensor:
        return other[0] if layer == 0 else value

    with torch.no_grad(), editing_layer_inputs(model, layout, replace):
        torch.testing.assert_close(Prompts(TOKENS).logits(model), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(architecture: str, side: str) -> None:
    model, padding = tiny(architecture), torch.zeros(2, 3, dtype=torch.long)
    ones, parts = torch.ones_like(TOKENS), slice(3, None) if side == "left" else slice(None, -3)
    order = (padding, TOKENS) if side == "left" else (TOKENS, padding)
    mask = torch.cat((padding, ones) if side == "left" else (ones, padding), dim=1)
    with torch.no_grad():
        padded = Prompts(torch.cat(order, dim=1), mask).logits(model)
        torch.testing.assert_close(padded[:, parts], Prompts(TOKENS).logits(model), atol=1e-4, rtol=1e-4)
