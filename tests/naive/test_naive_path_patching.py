"""Laws of the naive path patching, on random models with and without key-value groups."""

import pytest
import torch
from torch import Tensor

from .layouts import layout_of
from .path_patching import Path, Receivers, path_effects
from .prompts import Prompts
from .tiny import tiny

CLEAN, COUNTERFACTUAL = torch.arange(16).view(2, 8) + 3, torch.arange(16).view(2, 8).flip(1) + 9
ANSWERS, LAST = torch.tensor([4, 5]), torch.tensor([7, 7])
MIDDLE = torch.tensor([2, 4])
RECEIVERS = {"logits": None, **{c: Receivers(c, [(1, 0), (1, 1)]) for c in "qkv"}}


def effects(architecture: str, receivers: str, clean: Prompts, counterfactual: Prompts, shift: Tensor) -> Tensor:
    model = tiny(architecture)
    at = LAST if receivers in ("logits", "q") else MIDDLE
    path = Path(at + shift, MIDDLE + shift, LAST + shift, RECEIVERS[receivers])
    return path_effects(model, layout_of(model), clean, counterfactual, ANSWERS, path)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gpt2", "phi3"])
@pytest.mark.parametrize("receivers", RECEIVERS)
def test_only_heads_before_the_receivers_have_an_effect(architecture: str, receivers: str) -> None:
    found = effects(architecture, receivers, Prompts(CLEAN), Prompts(COUNTERFACTUAL), torch.zeros(2).long())
    assert (found[:, 0].abs() > 1e-6).all()
    assert (found[:, 1].abs() > 1e-6).all() == (receivers == "logits")


def test_a_prompt_is_its_own_null_counterfactual() -> None:
    model = tiny("llama")
    path = Path(LAST, LAST, LAST, RECEIVERS["q"])
    found = path_effects(model, layout_of(model), Prompts(CLEAN), Prompts(CLEAN), ANSWERS, path)
    assert found.abs().max() < 1e-5


@pytest.mark.parametrize("receivers", RECEIVERS)
def test_rows_may_be_padded_on_either_side(receivers: str) -> None:
    zero = torch.zeros(2, 2).long()
    sides = (torch.cat((zero[0], CLEAN[0])), torch.cat((CLEAN[1], zero[1])))
    mask = torch.tensor([[0] * 2 + [1] * 8, [1] * 8 + [0] * 2])
    others = (torch.cat((zero[0], COUNTERFACTUAL[0])), torch.cat((COUNTERFACTUAL[1], zero[1])))
    padded = effects(
        "llama",
        receivers,
        Prompts(torch.stack(sides), mask),
        Prompts(torch.stack(others), mask),
        torch.tensor([2, 0]),
    )
    plain = effects("llama", receivers, Prompts(CLEAN), Prompts(COUNTERFACTUAL), torch.zeros(2).long())
    torch.testing.assert_close(padded, plain, atol=1e-5, rtol=1e-4)
