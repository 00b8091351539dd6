"""Activations of one prompt in another: what do the patched heads carry? (paper, section 5)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from entitrack.interventions.evaluation import answer_patched, logits_patched, read_heads
from entitrack.interventions.sites import Anatomy


def answer_from_source(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    source: dict[str, Tensor],
    sites: list[dict[str, Any]],
    variants: list[list[int]],
) -> dict[str, Tensor]:
    """Answers to clean prompts with z of given heads taken from their counterfactuals, for several sets of heads.

    Replaced: those z, read at the counterfactual's own role. Recomputed: everything after them. Frozen: nothing.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: The prompts that are run, `answers` being the targets; see `answer`.
        source: Their counterfactuals.
        sites: Each `{"layer", "heads", "position" [batch], "source_position" [batch]}`, layers in ascending order.
        variants: For each variant the numbers of the sites that are patched; none of them leaves the model as it is.

    Returns:
        See `answer_patched`: the activations themselves never leave the session.
    """
    return answer_patched(model, anatomy, clean, fill(model, anatomy, source, sites), variants)


def logits_from_source(
    model: Any, anatomy: Anatomy, clean: dict[str, Tensor], source: dict[str, Tensor], sites: list[dict[str, Any]]
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token with all sites patched at once; see `answer_from_source`."""
    return logits_patched(model, anatomy, clean, fill(model, anatomy, source, sites))


def fill(model: Any, anatomy: Anatomy, source: dict[str, Tensor], sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sites with their `values`, read in the counterfactuals."""
    read = [{**site, "position": site["source_position"]} for site in sites]
    values = read_heads(model, anatomy, source, read)["values"]
    return [{**site, "values": found} for site, found in zip(sites, values, strict=True)]
