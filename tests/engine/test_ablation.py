"""Ablation: golden means and logits, the naive twin on every architecture, and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine.ablation import model_without, total_z
from entitrack.engine.circuits import circuit_answers
from entitrack.engine.positions import live_position_answers
from entitrack.models.anatomy import ARCHITECTURES
from entitrack.models.family import Model
from entitrack.runtime.backends import Local, dry_run
from tests.engine.test_architectures import wrapped
from tests.naive import ablation as naive
from tests.naive import golden as golden_data
from tests.naive import layouts, tiny
from tests.naive.prompts import Prompts

GROUPS = ["value_fetcher", "pos_transmitter", "pos_detector", "struct_reader"]
ROLE_OF = {"struct_reader": 0, "pos_detector": 1, "value_fetcher": 2, "pos_transmitter": 2}
ARCHITECTURE_NAMES = sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES))


def run(model: Model, function: Any, backend: Local | None = None, **inputs: Any) -> dict[str, Tensor]:
    return (backend or Local()).run(model, function, {"anatomy": model.anatomy, **inputs})


def probability(logits: Tensor, answers: Tensor) -> Tensor:
    return logits.softmax(-1).gather(1, answers[:, None])[:, 0]


def golden_prompts(golden: dict[str, Tensor]) -> dict[str, Any]:
    """The evaluation prompts as `circuit_answers` takes them, less the circuits."""
    tokens, last, answers = golden["eval.tokens"], golden["eval.last"], golden["eval.labels"]
    where = golden_data.roles(tokens, last)
    prompts = {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": answers}
    # All but the answer are rivals, so that the margin pins the largest of the other logits.
    every = torch.arange(256).expand(len(tokens), -1)
    prompts["rivals"] = every[every != answers[:, None]].view(len(tokens), 255)
    positions = torch.stack([where["struct_reader"], where["pos_detector"], last], 1)
    return {"prompts": prompts, "positions": positions, "fill": {"values": golden["mean.z"]}}


def live(groups: dict[str, list[list[int]]]) -> Tensor:
    heads = torch.zeros(3, 4, 6, dtype=torch.bool)
    for name, listed in groups.items():
        for layer, head in listed:
            heads[ROLE_OF[name], layer, head] = True
    return heads


def check(found: dict[str, Tensor], logits: Tensor, answers: Tensor) -> None:
    """Prediction, probability and margin are those of the logits."""
    right = logits.gather(1, answers[:, None])[:, 0]
    others = logits.scatter(1, answers[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(found["margin"], right - others, atol=1e-4, rtol=0)
    torch.testing.assert_close(found["probability"], probability(logits, answers), atol=1e-4, rtol=0)
    assert (found["prediction"] == logits.argmax(1)).all()


def row(found: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: values[index] for name, values in found.items()}


def test_mean_z_is_golden(golden_model: Model, golden: dict[str, Tensor]) -> None:
    tokens = golden["mean.tokens"]
    total = torch.zeros(())
    for piece in tokens.split(128):
        total = total + run(golden_model, total_z, prompts={"tokens": piece, "mask": torch.ones_like(piece)})["total"]
    torch.testing.assert_close(total / len(tokens), golden["mean.z"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", [Local(), dry_run()], ids=["local", "dry_run"])
def test_circuits_are_golden(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], backend: Local
) -> None:
    inputs, circuit = golden_prompts(golden), golden_json["faith.circuit"]
    smaller = [live({name: heads for name, heads in circuit.items() if name != gone}) for gone in GROUPS]
    circuits = torch.stack([live(circuit), *smaller])
    answers = golden["eval.labels"]
    for reference in (torch.zeros(3, 4, 6, dtype=torch.bool), live(circuit), smaller[3]):
        more = {"circuits": circuits, "reference": reference, "gib": None}
        found = run(golden_model, circuit_answers, backend, **inputs, **more)
        check(row(found, 0), golden["faith.circuit_logits"], answers)
        for index, gone in enumerate(GROUPS, start=1):
            check(row(found, index), golden[f"complete.circuit_minus_{gone}_logits"], answers)


def test_the_model_without_heads_is_golden(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any]
) -> None:
    inputs, circuit = golden_prompts(golden), golden_json["faith.circuit"]
    removed = torch.stack([live({}), *(live({gone: circuit[gone]}) for gone in GROUPS)])
    found = run(golden_model, model_without, **inputs, removed=removed)
    check(row(found, 0), golden["faith.full_logits"], golden["eval.labels"])
    for index, gone in enumerate(GROUPS, start=1):
        check(row(found, index), golden[f"complete.model_minus_{gone}_logits"], golden["eval.labels"])


def random_circuits(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Circuits of all sizes; the first is empty, the second has every head, the third two heads of the last role."""
    generator = torch.Generator().manual_seed(seed)
    circuits = torch.rand(count, *shape, generator=generator) < torch.rand(count, 1, 1, 1, generator=generator)
    circuits[0], circuits[1], circuits[2] = False, True, False
    circuits[2, -1, -1, :2] = True
    return circuits


def tiny_inputs(n_tokens: int = 9) -> dict[str, Any]:
    """Random prompts of one length, and roles at different positions in each."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 32, (5, n_tokens), generator=generator)
    last = torch.full((5,), n_tokens - 1)
    positions = torch.stack([torch.tensor([0, 1, 3, 2, 4]), torch.tensor([6, 5, 4, 7, 6]), last], 1)
    prompts = {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": torch.arange(5) + 3}
    return {"prompts": {**prompts, "rivals": torch.arange(10, 14).expand(5, -1)}, "positions": positions}


def naive_live(circuit: Tensor, positions: Tensor, n_tokens: int) -> Tensor:
    """A circuit as the oracle takes it: `[batch, layer, token, head]`."""
    heads = torch.zeros(len(positions), circuit.shape[1], n_tokens, circuit.shape[2], dtype=torch.bool)
    for index, places in enumerate(positions):
        heads[index, :, places] = circuit.transpose(0, 1)
    return heads


@pytest.mark.parametrize("architecture", ARCHITECTURE_NAMES)
def test_fast_is_naive(architecture: str) -> None:
    module, model = wrapped(architecture)
    inputs, layout = tiny_inputs(), layouts.layout_of(module)
    tokens, positions = inputs["prompts"]["tokens"], inputs["positions"]
    background = torch.randint(1, 32, (7, 9), generator=torch.Generator().manual_seed(2))
    means = naive.mean_z(module, layout, Prompts(background))
    total = run(model, total_z, prompts={"tokens": background, "mask": torch.ones_like(background)})["total"]
    torch.testing.assert_close(total / 7, means.flatten(2), atol=1e-5, rtol=1e-5)
    circuits = random_circuits(12, (3, 2, 4))
    fast: dict[str, Any] = {**inputs, "fill": {"values": means.flatten(2)}, "gib": 1e-4}
    found = run(model, circuit_answers, **fast, circuits=circuits, reference=circuits[5])
    del fast["gib"]
    rest = run(model, model_without, **fast, removed=circuits[:4])
    scale = 1 + found["margin"].abs().max()
    for index, circuit in enumerate(circuits):
        heads = naive_live(circuit, positions, 9)
        arguments = (module, layout, Prompts(tokens), means)
        logits = naive.ablated_logits(*arguments, heads, inputs["prompts"]["last"])
        right = logits.gather(1, inputs["prompts"]["answers"][:, None])[:, 0]
        margin = right - logits[:, 10:14].amax(1)
        torch.testing.assert_close(found["margin"][index] / scale, margin / scale, atol=2e-5, rtol=0)
        if index < 4:
            logits = naive.ablated_logits(*arguments, ~heads, inputs["prompts"]["last"])
            expected = probability(logits, inputs["prompts"]["answers"])
            torch.testing.assert_close(rest["probability"][index], expected, atol=1e-4, rtol=0)
    assert found["margin"].std() > 1e-2


def test_results_do_not_depend_on_what_goes_together() -> None:
    """Neither on the reference, nor on the chunks, nor on the other circuits and prompts."""
    _, model = wrapped("qwen3")
    inputs: dict[str, Any] = tiny_inputs()
    inputs["fill"] = {"values": torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(3))}
    circuits = random_circuits(20, (3, 2, 4))
    none = torch.zeros_like(circuits[0])
    whole = run(model, circuit_answers, **inputs, circuits=circuits, reference=none, gib=None)
    for reference, gib in ((circuits[7], None), (circuits[1], 2e-4), (none, 1e-9)):
        again = run(model, circuit_answers, **inputs, circuits=circuits, reference=reference, gib=gib)
        torch.testing.assert_close(again["margin"], whole["margin"], atol=2e-4, rtol=1e-4)
    alone = run(model, circuit_answers, **inputs, circuits=circuits[4:5], reference=none, gib=None)
    torch.testing.assert_close(alone["margin"][0], whole["margin"][4], atol=2e-4, rtol=1e-4)
    part = {name: values[2:4] for name, values in inputs["prompts"].items()}
    few = {**inputs, "prompts": part, "positions": inputs["positions"][2:4]}
    found = run(model, circuit_answers, **few, circuits=circuits, reference=none, gib=None)
    torch.testing.assert_close(found["margin"], whole["margin"][:, 2:4], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_every_head_at_every_position_is_the_model(architecture: str) -> None:
    """Faithfulness 1, whichever values ablated heads would take."""
    module, model = wrapped(architecture)
    inputs = tiny_inputs()
    inputs["positions"] = torch.arange(9).expand(5, -1)
    width = model.anatomy["n_heads"] * model.anatomy["d_head"]
    fill = {"values": torch.full((2, 9, width), 5.0)}
    everything = torch.ones(1, 9, 2, 4, dtype=torch.bool)
    more: dict[str, Any] = {"circuits": everything, "reference": torch.zeros_like(everything[0]), "gib": 1e-496}
    found = run(model, circuit_answers, **inputs, fill=fill, **more)
    with torch.no_grad():
        logits = Prompts(inputs["prompts"]["tokens"]).logits_at(module, inputs["prompts"]["last"])
    expected = probability(logits, inputs["prompts"]["answers"])
    torch.testing.assert_close(found["probability"][0], expected, atol=1e-4, rtol=0)


def test_resampling_from_the_prompts_themselves_changes_nothing() -> None:
    """Ablating with a prompt's own z leaves the model as it is, for every circuit."""
    module, model = wrapped("llama")
    inputs = tiny_inputs()
    own = {name: inputs["prompts"][name] for name in ("tokens", "mask")}
    circuits = random_circuits(6, (3, 2, 4))
    more: dict[str, Any] = {"circuits": circuits, "reference": circuits[4], "gib": 1e-4}
    found = run(model, circuit_answers, **inputs, fill=own, **more)
    with torch.no_grad():
        logits = Prompts(inputs["prompts"]["tokens"]).logits_at(module, inputs["prompts"]["last"])
    expected = probability(logits, inputs["prompts"]["answers"]).expand(6, -1)
    torch.testing.assert_close(found["probability"], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox"])
def test_live_positions_are_naive(architecture: str) -> None:
    """Every head at some positions, a different set for each candidate."""
    module, model = wrapped(architecture)
    inputs, layout = tiny_inputs(), layouts.layout_of(module)
    prompts, last = inputs["prompts"], inputs["prompts"]["last"]
    means = torch.randn(2, 9, 4, model.anatomy["d_head"], generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(5)
    drawn = torch.stack([torch.stack([torch.randperm(8, generator=generator)[:2] for _ in range(5)]) for _ in range(6)])
    slots = torch.cat([drawn.sort(2).values, last.expand(6, -1)[:, :, None]], 2)
    flags = torch.ones(6, 3, dtype=torch.bool)
    flags[::2, 2] = False
    arguments: dict[str, Any] = {"fill": {"values": means.flatten(2)}, "slots": slots, "live": flags}
    whole = run(model, live_position_answers, prompts=prompts, **arguments, gib=None)
    pieces = run(model, live_position_answers, prompts=prompts, **arguments, gib=1e-9)
    torch.testing.assert_close(whole["margin"], pieces["margin"], atol=2e-4, rtol=1e-4)
    for index in range(6):
        heads = torch.zeros(5, 2, 9, 4, dtype=torch.bool)
        for number in range(5):
            heads[number, :, slots[index, number][flags[index]]] = True
        logits = naive.ablated_logits(module, layout, Prompts(prompts["tokens"]), means, heads, last)
        expected = probability(logits, prompts["answers"])
        torch.testing.assert_close(whole["probability"][index], expected, atol=1e-4, rtol=0)
