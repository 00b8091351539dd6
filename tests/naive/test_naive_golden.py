"""Every naive oracle gives what the paper's own procedure gave on the golden models."""

import random

import pytest
import torch
from torch import Tensor

from . import golden
from .ablation import (
    ablated_logits,
    circuit_live,
    mean_z,
    model_minus_live,
    pair_accuracies,
    without,
)
from .dcm import Desideratum, train_mask
from .layouts import llama_layout
from .patching import cmap_input_logits, cmap_output_logits, z_by_layer, z_patched_logits
from .path_patching import Path, Receivers, path_effects
from .prompts import Group, Positions, Prompts

pytestmark = golden.needs_golden
COMPONENT = {"pos_transmitter": "q", "pos_detector": "v", "struct_reader": "v"}
STAGES = ["value_fetcher", "pos_transmitter", "pos_detector", "struct_reader"]


@pytest.mark.parametrize("stage", STAGES)
def test_path_patching_scores(stage: str) -> None:
    """Six random heads a stage: the naive path takes two forwards a head."""
    data, base = golden.tensors(), golden.model("base")
    last = data["pp.last"]
    positions = golden.roles(data["pp.clean_tokens"], last)[stage]
    assert positions.equal(last) or stage in ("pos_detector", "struct_reader")
    read_at = data["pp.corrupt_label_position"] if stage == "struct_reader" else positions
    receivers = None
    if stage in COMPONENT:
        receivers = Receivers(COMPONENT[stage], golden.heads(golden.facts()["pp.receivers"][stage]))
    every_head = [(layer, head) for layer in range(4) for head in range(6)]
    senders = random.Random(stage).sample(every_head, 6)

    effects = path_effects(
        base,
        llama_layout(base),
        Prompts(data["pp.clean_tokens"]),
        Prompts(data["pp.corrupt_tokens"]),
        data["pp.labels"],
        Path(positions, read_at, last, receivers),
        senders,
    )

    layers, heads = zip(*senders, strict=True)
    expected = data[f"pp.score.{stage}"][layers, heads]
    torch.testing.assert_close(effects.mean(0)[layers, heads], expected, atol=1e-5, rtol=0)
    assert effects.isnan().sum() == effects[:, 0, 0].numel() * (24 - len(senders))


def golden_means() -> Tensor:
    """The golden mean z, as [layer, token, head, d_head]."""
    return golden.tensors()["mean.z"].unflatten(-1, (6, 16))


def evaluation() -> tuple[Prompts, Positions, dict[str, Positions]]:
    """The evaluation prompts, their last indices and the groups' positions."""
    data = golden.tensors()
    return (
        Prompts(data["eval.tokens"]),
        data["eval.last"],
        golden.roles(data["eval.tokens"], data["eval.last"]),
    )


def assert_logits(found: Tensor, key: str) -> None:
    torch.testing.assert_close(found, golden.tensors()[key], atol=1e-4, rtol=0)


def test_mean_z() -> None:
    base = golden.model("base")
    found = mean_z(base, llama_layout(base), Prompts(golden.tensors()["mean.tokens"]))
    torch.testing.assert_close(found, golden_means(), atol=1e-5, rtol=0)


def test_faithfulness() -> None:
    base, (prompts, last, positions) = golden.model("base"), evaluation()
    layout, means = llama_layout(base), golden_means()
    circuit = golden.circuit("faith.circuit", positions)

    live = circuit_live(layout, prompts, circuit)
    assert_logits(ablated_logits(base, layout, prompts, means, live, last), "faith.circuit_logits")
    everything = torch.ones_like(live)
    assert_logits(ablated_logits(base, layout, prompts, means, everything, last), "faith.full_logits")
    assert_logits(prompts.logits_at(base, last), "eval.logits")


@pytest.mark.parametrize("group", STAGES)
def test_completeness(group: str) -> None:
    base, (prompts, last, positions) = golden.model("base"), evaluation()
    layout, means = llama_layout(base), golden_means()
    circuit = golden.circuit("faith.circuit", positions)

    smaller = circuit_live(layout, prompts, without(circuit, group, circuit[group].heads))
    found = ablated_logits(base, layout, prompts, means, smaller, last)
    assert_logits(found, f"complete.circuit_minus_{group}_logits")
    rest = model_minus_live(layout, prompts, {group: circuit[group]})
    found = ablated_logits(base, layout, prompts, means, rest, last)
    assert_logits(found, f"complete.model_minus_{group}_logits")


@pytest.mark.parametrize("group", ["value_fetcher", "pos_detector", "struct_reader"])
def test_minimality_pairs(group: str) -> None:
    """One pair a group has one index in two layers; its accuracy is the same whatever is then removed."""
    base, (prompts, last, positions) = golden.model("base"), evaluation()
    heads = golden.heads(golden.facts()[f"minimality.pairs_over.{group}"])
    found = pair_accuracies(
        base,
        llama_layout(base),
        prompts,
        golden.tensors()["eval.labels"],
        golden_means(),
        golden.circuit("minimality.circuit", positions),
        group,
        heads,
        last,
        compat_paper=True,
    )
    published = golden.facts()[f"minimality.pairs.{group}"]
    name = "('model.layers.{}.self_attn.o_proj', {})"
    expected = {(a, b): published[name.format(*a)][name.format(*b)] for a in heads for b in heads}
    assert found == expected


def test_activation_patching() -> None:
    """Published: the base prompt's prev_query_label is used to read the source's z too."""
    base, data = golden.model("base"), golden.tensors()
    tokens, last = data["dcm.object_value.base_input_ids"], data["dcm.object_value.base_input_last_pos"]
    groups = golden.circuit("patch.circuit", golden.roles(tokens, last)).values()
    z = z_by_layer(base, llama_layout(base), Prompts(data["dcm.object_value.source_input_ids"]))
    read_at = [(group, group.positions) for group in groups]
    found = z_patched_logits(base, llama_layout(base), Prompts(tokens), z, read_at, last)
    assert_logits(found, "actpatch.logits")


@pytest.mark.parametrize("group", [*STAGES, "full"])
def test_cmap_output(group: str) -> None:
    base, donor, (prompts, last, positions) = golden.model("base"), golden.model("donor"), evaluation()
    circuit = golden.circuit("patch.circuit", positions)
    groups: list[Group] = list(circuit.values()) if group == "full" else [circuit[group]]
    found = cmap_output_logits(base, donor, llama_layout(base), prompts, groups, last)
    assert_logits(found, f"cmap.out.{group}_logits")
    assert_logits(prompts.logits_at(donor, last), "cmap.donor_logits")


@pytest.mark.parametrize("components", ["q", "k", "v", "qkv"])
def test_cmap_input(components: str) -> None:
    base, donor, (prompts, last, positions) = golden.model("base"), golden.model("donor"), evaluation()
    group = golden.circuit("patch.circuit", positions)["value_fetcher"]
    found = cmap_input_logits(base, donor, llama_layout(base), prompts, group, components, last)
    assert_logits(found, f"cmap.in.value_fetcher.{components}_logits")


@pytest.mark.parametrize("key", ["object_value.value_fetcher", "positional.pos_detector", "positional.struct_reader"])
def test_dcm(key: str) -> None:
    """Training reads each prompt's z at its own role; the two halves take turns."""
    base, data, (desideratum, name) = golden.model("base"), golden.tensors(), key.split(".")
    prefix = f"dcm.{desideratum}"
    tokens, source = data[f"{prefix}.base_input_ids"], data[f"{prefix}.source_input_ids"]
    last, source_last = data[f"{prefix}.base_input_last_pos"], data[f"{prefix}.source_input_last_pos"]
    read_at = golden.roles(source, source_last)[name]
    pairs = Desideratum(Prompts(tokens), Prompts(source), read_at, last, data[f"{prefix}.labels"])
    group = Group(golden.heads(golden.facts()[f"dcm.{key}.heads"]), golden.roles(tokens, last)[name])

    halves = [slice(0, len(tokens) // 2), slice(len(tokens) // 2, None)]
    found = train_mask(base, llama_layout(base), pairs, group, halves, steps=8)

    torch.testing.assert_close(found.masks, data[f"dcm.{key}.mask_trajectory"], atol=1e-4, rtol=0)
    losses = torch.tensor(golden.facts()[f"dcm.{key}.losses"])
    torch.testing.assert_close(found.losses, losses, atol=1e-4, rtol=0)
