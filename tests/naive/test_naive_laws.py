"""Laws of the naive knockout, patching and ablation where the golden data has nothing to compare with."""

import pytest
import torch

from .ablation import ablated_logits, mean_z
from .hooks import recording
from .knockout import knockout_accuracies, knockout_logits
from .layouts import layout_of
from .patching import cmap_input_logits, cmap_output_logits, z_by_layer
from .prompts import Group, Prompts
from .tiny import ARCHITECTURES, tiny

TOKENS = torch.arange(16).view(2, 8) + 3
PROMPTS, LAST = Prompts(TOKENS), torch.tensor([7, 7])
SOURCE, TARGET = torch.tensor([7, 6]), torch.tensor([3, 2])
EVERY_HEAD = [(layer, head) for layer in range(2) for head in range(4)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_knockout_acts_from_its_first_layer_on_and_at_its_source_only(architecture: str) -> None:
    model = tiny(architecture)
    layout = layout_of(model)
    plain = z_by_layer(model, layout, PROMPTS)
    with recording(model, layout, "z") as z:
        knockout_logits(model, layout, PROMPTS, SOURCE, SOURCE - 1, 1, LAST)
    assert torch.equal(z[0], plain[0])
    moved = (z[1] - plain[1]).abs().amax(dim=(-1, -2)) > 1e-6
    assert moved.tolist() == [[t == s for t in range(8)] for s in SOURCE.tolist()]


def test_knockout_of_no_layer_is_the_plain_model() -> None:
    model = tiny("llama")
    layout, answers = layout_of(model), torch.tensor([4, 5])
    with torch.no_grad():
        plain = PROMPTS.logits_at(model, LAST)
    assert torch.equal(knockout_logits(model, layout, PROMPTS, SOURCE, TARGET, 2, LAST), plain)
    curve = knockout_accuracies(model, layout, PROMPTS, answers, SOURCE, TARGET, LAST)
    assert len(curve) == 3


def test_knockout_gives_no_attention_to_the_target() -> None:
    """The attention weights themselves: nothing at the pair in a blocked layer, and rows still sum to one."""
    model = tiny("llama")
    layout, weights, rows = layout_of(model), [], torch.arange(2)
    for module in layout.layer_modules(model):
        attention = module.get_submodule(layout.attention)
        attention.register_forward_hook(lambda _module, _args, output: weights.append(output[1]))
    knockout_logits(model, layout, PROMPTS, SOURCE, TARGET, 1, LAST)
    assert [bool(layer[rows, :, SOURCE, TARGET].any()) for layer in weights] == [True, False]
    torch.testing.assert_close(weights[1].sum(-1), torch.ones(2, 4, 8))


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gpt2"])
def test_a_donor_equal_to_the_recipient_changes_nothing(architecture: str) -> None:
    model, group = tiny(architecture), Group(EVERY_HEAD, SOURCE)
    layout = layout_of(model)
    with torch.no_grad():
        plain = PROMPTS.logits_at(model, LAST)
    torch.testing.assert_close(cmap_output_logits(model, model, layout, PROMPTS, [group], LAST), plain)
    torch.testing.assert_close(cmap_input_logits(model, model, layout, PROMPTS, group, "qkv", LAST), plain)


def test_nothing_live_leaves_only_the_tokens_own_path() -> None:
    """With every z at its mean, the answer depends on the last token alone."""
    model = tiny("llama")
    layout = layout_of(model)
    means = mean_z(model, layout, PROMPTS)
    dead = torch.zeros(2, layout.n_layers, 8, layout.n_heads, dtype=torch.bool)
    other = TOKENS.clone()
    other[:, :-1] += 5
    torch.testing.assert_close(
        ablated_logits(model, layout, PROMPTS, means, dead, LAST),
        ablated_logits(model, layout, Prompts(other), means, dead, LAST),
    )
