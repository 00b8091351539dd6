"""Patching counterfactual z into clean prompts: golden logits, and laws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from entitrack.backends import Local
from entitrack.circuits import Circuit
from entitrack.interventions.activation_patching import answer_from_source, logits_from_source
from entitrack.models.family import Model


def golden_side(golden: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    tokens = golden[f"dcm.object_value.{side}_input_ids"]
    last = golden[f"dcm.object_value.{side}_input_last_pos"]
    answers = golden["dcm.object_value.labels"]
    return {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": answers}


def roles(prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    last, tokens = prompts["last"], prompts["tokens"]
    asked = tokens[torch.arange(len(last)), last - 2]
    return {"last": last, "query_label": last - 2, "prev_query_label": (tokens == asked[:, None]).int().argmax(1)}


def golden_sites(golden: dict[str, Tensor], circuit: Circuit, shared: bool) -> list[dict[str, Any]]:
    """Sites of the whole circuit; `shared`: the structure reader's place is the clean prompt's, as published."""
    clean, source = roles(golden_side(golden, "base")), roles(golden_side(golden, "source"))
    sites = []
    for group in circuit.groups:
        read = clean if shared and group.role == "prev_query_label" else source
        for layer, head in group.heads:
            places = {"position": clean[group.role], "source_position": read[group.role]}
            sites.append({"layer": layer, "heads": [head], **places})
    return sorted(sites, key=lambda site: site["layer"])


def run(model: Model, function: Any, **inputs: Any) -> Any:
    return Local().run(model, function, {"anatomy": model.anatomy, **inputs})


def test_published_positions_give_golden_logits(
    golden: dict[str, Tensor], golden_model: Model, golden_circuit: Circuit
) -> None:
    def patched(model: Any, anatomy: Any, **inputs: Any) -> dict[str, Tensor]:
        return {"logits": logits_from_source(model, anatomy, **inputs)}

    inputs: dict[str, Any] = {"clean": golden_side(golden, "base"), "source": golden_side(golden, "source")}
    sites = golden_sites(golden, golden_circuit, shared=True)
    logits = run(golden_model, patched, **inputs, sites=sites)["logits"]
    torch.testing.assert_close(logits, golden["actpatch.logits"], atol=1e-4, rtol=0)
    own = run(golden_model, patched, **inputs, sites=golden_sites(golden, golden_circuit, shared=False))["logits"]
    assert (own - logits).abs().max() > 1e-3


def test_a_prompt_patched_with_itself_is_left_as_it_is(
    golden: dict[str, Tensor], golden_model: Model, golden_circuit: Circuit
) -> None:
    clean = golden_side(golden, "base")
    sites = [
        {**site, "source_position": site["position"]} for site in golden_sites(golden, golden_circuit, shared=True)
    ]
    variants: list[list[int]] = [[], list(range(len(sites)))]
    found = run(golden_model, answer_from_source, clean=clean, source=clean, sites=sites, variants=variants)
    torch.testing.assert_close(found["probability"][1], found["probability"][0], atol=1e-6, rtol=1e-5)
