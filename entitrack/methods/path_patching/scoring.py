"""Scoring the heads of a stage: exactly, or some of them to first order, or the naive way, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.stages import Stage
from entitrack.engine.attribution import attribution_effects
from entitrack.engine.first_order import first_order_suffix
from entitrack.engine.memory import budget_bytes
from entitrack.engine.naive import naive_effects
from entitrack.engine.passes import passes_bytes
from entitrack.engine.path_patching import path_effects
from entitrack.methods.experiment import Experiment, clusters
from entitrack.methods.path_patching.selection import select
from entitrack.methods.path_patching.settings import Settings
from entitrack.methods.path_patching.stages import stage_batches
from entitrack.methods.path_patching.suffixes import LONG, Screened, screened
from entitrack.methods.path_patching.verification import Verified, verify
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.tasks.protocol import Pair


@dataclass(frozen=True)
class Search:
    """What the stages of a run have in common.

    Attributes:
        experiment: The run.
        settings: Its settings.
        stages: The stages it goes through.
        model: The model whose circuit is searched.
        pairs: Clean and counterfactual prompts.
        passes: The clean and the counterfactual pass of each batch, as the first stage that needs them leaves them;
            None for those that did not fit the budget.
    """

    experiment: Experiment
    settings: Settings
    stages: Sequence[Stage]
    model: Model
    pairs: Sequence[Pair]
    passes: list[dict[str, Any] | None] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class StageScores:
    """What was measured in a stage.

    Attributes:
        effects: Effect of each head on each prompt; NaN for heads that were not scored.
        null_effects: Effect of a sender whose z is left alone: the arithmetic's own noise.
        probability: Of the right answer in the clean run; None where the heads were scored the naive way.
        peak_bytes: Memory of the largest piece that went through the model.
        verified: How far some senders are from the naive way; None if none was compared.
        exact: The heads that were rerun, where others have their effects to first order; None where all were.
    """

    effects: Float[Tensor, "prompt layer head"] = field(repr=False)
    null_effects: Float[Tensor, " prompt"] = field(repr=False)
    probability: Float[Tensor, " prompt"] | None = field(repr=False)
    peak_bytes: int
    verified: Verified | None
    exact: Bool[Tensor, "layer head"] | None = field(default=None, repr=False)

    @property
    def noise(self) -> float:
        """Mean size of the effect of a sender that is left alone."""
        return float(self.null_effects.abs().mean())


def score_stage(search: Search, stage: Stage, receivers: Sequence[Head]) -> StageScores:
    """Score the heads of one stage.

    Raises:
        UserError: The fast way is further from the naive one than arithmetic allows.
    """
    experiment, settings, model = search.experiment, search.settings, search.model
    batches = stage_batches(experiment, model, search.pairs, stage, receivers)
    if settings.suffix == "screened" and not model.anatomy["factorised"]:
        raise UserError("method.suffix", "first order needs layers that are described in full", fix="use exact")
    senders, exact = _senders(search, stage, batches), None
    if model.anatomy["factorised"]:
        told = [{**batch, "senders": senders} for batch in batches]
        if settings.suffix == "screened" and _is_long(batches):
            rough = _screened_outputs(search, stage, told)
            outputs, exact = _as_outputs(rough, batches), rough.rerun
        else:
            outputs = _exact_outputs(search, stage, told)
        scored = [(layer, head) for layer, row in enumerate(senders) for head in row]
        verified = verify(experiment, settings.verify, model, stage.name, batches[0], outputs[0], scored, exact)
        probability = torch.cat([output["probability"] for output in outputs])
    else:
        outputs, verified, probability = _naive_outputs(search, stage, batches, senders), None, None
    effects = torch.cat([output["effect"] for output in outputs])
    for layer, heads in enumerate(senders):
        effects[:, layer, [head for head in range(effects.shape[2]) if head not in heads]] = torch.nan
    null_effects = torch.cat([output["null"] for output in outputs])
    peak = max(int(output["peak_bytes"]) for output in outputs)
    return StageScores(effects, null_effects, probability, peak, verified, exact)


def _is_long(batches: Sequence[dict[str, Any]]) -> bool:
    """Whether a stage has receivers, and its prompts go on for long after them."""
    ends = torch.cat([batch["clean"]["last"] - batch["clean"]["position"] + 1 for batch in batches])
    return batches[0]["receivers"]["component"] != "logits" and float(ends.float().mean()) >= LONG


def _screened_outputs(search: Search, stage: Stage, inputs: Sequence[dict[str, Any]]) -> Screened:
    """Effects of all senders, most of them to first order."""
    contexts, choice = clusters([pair.clean for pair in search.pairs]), search.settings.choose
    budget, passes = {"gib": search.experiment.gib}, search.passes
    passes.extend({} for _ in inputs[len(passes) :])
    description = f"first order: {stage.name}"
    first = search.experiment.sessions(
        search.model, first_order_suffix, inputs, description, settings=budget, kept=passes
    )

    def rerun(senders: list[list[int]]) -> list[dict[str, Tensor]]:
        return _exact_outputs(search, stage, [{**batch, "senders": senders} for batch in inputs])

    return screened(
        list(first), rerun, lambda effects, noise: select(effects, contexts, noise, stage.size, choice).heads
    )


def _as_outputs(rough: Screened, batches: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
    """What was screened, batch by batch as `path_effects` gives it; of the last round all but the effects."""
    sizes = [len(batch["clean"]["last"]) for batch in batches]
    last = rough.outputs[-len(sizes) :]
    peak = torch.stack([output["peak_bytes"] for output in rough.outputs]).amax(0)
    by_batch = rough.effects.split(sizes)
    return [{**output, "effect": part, "peak_bytes": peak} for output, part in zip(last, by_batch, strict=True)]


def _senders(search: Search, stage: Stage, batches: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The heads to score, by layer: all, or the best share by first-order path patching."""
    anatomy, share = search.model.anatomy, search.settings.screened_share
    layers, width = anatomy["n_layers"], anatomy["n_heads"]
    if share is None:
        return [list(range(width)) for _ in range(layers)]
    if not anatomy["factorised"]:
        raise UserError("method.screen", "first-order path patching needs layers that are described in full")
    outputs = search.experiment.sessions(search.model, attribution_effects, batches, f"screening: {stage.name}")
    scores = torch.cat([output["effect"] for output in outputs]).mean(0)
    best = scores.flatten().argsort()[: max(1, round(share * scores.numel()))].tolist()
    return [[head for head in range(width) if layer * width + head in best] for layer in range(layers)]


def _exact_outputs(search: Search, stage: Stage, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
    """Effects batch by batch: the first measures the bytes that a token takes, the others go by them.

    Batches keep their passes for the stages to come, as long as these fit the budget.
    """
    budget: dict[str, Any] = {"gib": search.experiment.gib}
    passes = search.passes
    passes.extend({} for _ in inputs[len(passes) :])
    outputs: list[dict[str, Tensor]] = []
    for part in (slice(0, 1), slice(1, None)):
        found = search.experiment.sessions(
            search.model,
            path_effects,
            inputs[part],
            f"path patching: {stage.name}",
            settings=budget,
            kept=passes[part],
        )
        for output in found:
            outputs.append(output)
            if sum(passes_bytes(kept) for kept in passes if kept) > budget_bytes(
                budget["gib"], search.model.outline.device
            ):
                passes[len(outputs) - 1] = None
        sweep, suffix = outputs[0]["bytes_per_token"].tolist()
        budget["known"] = {"sweep": sweep, "suffix": suffix}
    return outputs


def _naive_outputs(
    search: Search, stage: Stage, batches: Sequence[dict[str, Any]], senders: list[list[int]]
) -> list[dict[str, Tensor]]:
    """What `path_effects` gives, the naive way: for models whose layers are not described in full."""
    anatomy = search.model.anatomy
    heads = [[layer, head] for layer, row in enumerate(senders) for head in row]
    inputs = [{**batch, "heads": heads} for batch in batches]
    description = f"path patching, naively: {stage.name}"
    outputs = []
    for found in search.experiment.sessions(search.model, naive_effects, inputs, description):
        effect = torch.zeros(len(found["null"]), anatomy["n_layers"], anatomy["n_heads"])
        effect[:, [layer for layer, _ in heads], [head for _, head in heads]] = found["effect"]
        outputs.append({"effect": effect, "null": found["null"], "peak_bytes": torch.zeros(1)})
    return outputs
