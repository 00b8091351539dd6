"""Replacing z, q, k and v: golden logits, and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.engine.patching import answer, answer_patched, hold, patch_visits, read_sites
from entitrack.engine.runs import logits_with, read_z
from entitrack.models.family import Model
from entitrack.runtime.backends import Local

GROUPS = ["value_fetcher", "pos_transmitter", "pos_detector", "struct_reader"]


def golden_eval(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    tokens = golden["eval.tokens"]
    return {
        "tokens": tokens,
        "mask": torch.ones_like(tokens),
        "last": golden["eval.last"],
        "answers": golden["eval.labels"],
    }


def positions(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    last = golden["eval.last"]
    labels = golden["eval.tokens"][torch.arange(len(last)), last - 2]
    previous = (golden["eval.tokens"] == labels[:, None]).int().argmax(1)
    return {"last": last, "query_label": last - 2, "prev_query_label": previous}


def sites_of(circuit: Circuit, names: list[str], where: dict[str, Tensor]) -> list[dict[str, Any]]:
    sites = [
        {"component": "z", "layer": layer, "heads": [head], "position": where[group.role]}
        for group in circuit.groups
        if group.name in names
        for layer, head in group.heads
    ]
    return sorted(sites, key=lambda site: site["layer"])


def patched(model: Any, anatomy: Any, prompts: Any, sites: Any) -> dict[str, Tensor]:
    return {"logits": logits_with(model, anatomy, prompts, patch_visits(anatomy, sites))}


def run(model: Model, function: Any, **inputs: Any) -> Any:
    return Local().run(model, function, {"anatomy": model.anatomy, **inputs})


@pytest.mark.parametrize("group", [*GROUPS, "full"])
def test_transplanted_outputs_give_golden_logits(
    golden: dict[str, Tensor], golden_model: Model, golden_donor: Model, golden_circuit: Circuit, group: str
) -> None:
    prompts = golden_eval(golden)
    names = GROUPS if group == "full" else [group]
    sites = sites_of(golden_circuit, names, positions(golden))
    given = run(golden_donor, read_sites, prompts=prompts, sites=sites)["values"]
    filled = [{**site, "values": values} for site, values in zip(sites, given, strict=True)]
    logits = run(golden_model, patched, prompts=prompts, sites=filled)["logits"]
    expected = golden[f"cmap.out.{group}_logits"]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (logits.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("components", ["q", "k", "v", "qkv"])
def test_transplanted_inputs_give_golden_logits(
    golden: dict[str, Tensor], golden_model: Model, golden_donor: Model, golden_circuit: Circuit, components: str
) -> None:
    prompts = golden_eval(golden)
    sites = sites_of(golden_circuit, ["value_fetcher"], positions(golden))
    moved = [{**site, "component": name, "before": name != "q"} for site in sites for name in components]
    given = run(golden_donor, read_sites, prompts=prompts, sites=moved)["values"]
    filled = [{**site, "values": values} for site, values in zip(moved, given, strict=True)]

    def with_inputs(model: Any, anatomy: Any, prompts: Any, patches: Any) -> dict[str, Tensor]:
        visits = patch_visits(anatomy, patches)
        live: Any = sites
        hold(anatomy, visits, read_z(model, anatomy, prompts, range(4)), live, prompts["last"])
        return {"logits": logits_with(model, anatomy, prompts, visits)}

    logits = run(golden_model, with_inputs, prompts=prompts, patches=filled)["logits"]
    expected = golden[f"cmap.in.value_fetcher.{components}_logits"]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (logits.argmax(-1) == expected.argmax(-1)).all()


def test_own_answers_are_golden(golden: dict[str, Tensor], golden_model: Model, golden_donor: Model) -> None:
    prompts = golden_eval(golden)
    for model, key in ((golden_model, "eval.logits"), (golden_donor, "cmap.donor_logits")):
        found = run(model, answer, prompts=prompts)
        assert (found["prediction"] == golden[key].argmax(-1)).all()
        unpatched = run(model, patched, prompts=prompts, sites=[])["logits"]
        torch.testing.assert_close(unpatched, golden[key], atol=1e-4, rtol=0)


def test_all_heads_at_the_last_token_in_the_last_layer_carry_what_attention_adds(
    golden: dict[str, Tensor], golden_model: Model
) -> None:
    """Patching a model's own z into it changes nothing, whichever heads."""
    prompts = golden_eval(golden)
    where = positions(golden)
    sites = [
        {"component": "z", "layer": layer, "heads": list(range(6)), "position": where[role]}
        for layer in range(4)
        for role in ("prev_query_label", "query_label", "last")
    ]
    given = run(golden_model, read_sites, prompts=prompts, sites=sites)
    filled = [{**site, "values": values} for site, values in zip(sites, given["values"], strict=True)]
    variants = [[], list(range(len(filled)))]
    found = run(golden_model, answer_patched, prompts=prompts, patches=filled, variants=variants)
    torch.testing.assert_close(found["probability"][1], found["probability"][0], atol=1e-6, rtol=1e-5)


def test_a_set_of_heads_is_its_heads_together(
    golden: dict[str, Tensor], golden_model: Model, golden_donor: Model, golden_circuit: Circuit
) -> None:
    """One site with several heads equals one site a head."""
    prompts = golden_eval(golden)
    last = positions(golden)["last"]
    together = [{"component": "z", "layer": 1, "heads": [0, 2, 4], "position": last}]
    apart = [{"component": "z", "layer": 1, "heads": [head], "position": last} for head in (4, 0, 2)]
    logits = []
    for sites in (together, apart):
        given = run(golden_donor, read_sites, prompts=prompts, sites=sites)["values"]
        filled = [{**site, "values": values} for site, values in zip(sites, given, strict=True)]
        logits.append(run(golden_model, patched, prompts=prompts, sites=filled)["logits"])
    torch.testing.assert_close(logits[0], logits[1], atol=0, rtol=0)
