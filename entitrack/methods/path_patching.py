"""Which heads track entities, and in which order? Path patching, stage by stage (paper, section 4.1).

A stage scores every head, at one role, by what changing it does to the answer through the stage's receivers alone. The
heads found become receivers of a later stage.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from entitrack.circuits import Circuit, Group
from entitrack.engine.attribution import attribution_effects
from entitrack.engine.memory import budget_bytes
from entitrack.engine.naive import naive_effects
from entitrack.engine.passes import passes_bytes
from entitrack.engine.patching import answer
from entitrack.engine.path_patching import path_effects
from entitrack.errors import UserError
from entitrack.limits import MethodSettings, limited
from entitrack.methods.experiment import Experiment, clusters, prompt_inputs
from entitrack.methods.path_patching_result import PathPatchingResult, StageResult
from entitrack.methods.selection import Choice, check_choice, select
from entitrack.methods.stages import Stage, check_stages, stage_batches
from entitrack.methods.verification import verify
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.stats import standard_error
from entitrack.tasks.prompts import Pair

PROMPTS = ("right", "all")


@dataclass
class Settings(MethodSettings):
    """Settings of `method=path_patching`.

    Attributes:
        model: Member of the family to find the circuit of; empty takes the base.
        prompts: `right` scores on the prompts that the model answers rightly, `all` on all, as published. A prompt
            whose right answer has next to no probability to lose has effects without bound, which drown the others.
        stages: The stages, in order.
        choose: How the heads of a group are chosen.
        memory: Memory for what goes through the model at once: GiB, or `auto`: half of what an accelerator has free,
            1 GiB elsewhere. As much again may hold what the stages of a run share: the clean and counterfactual passes.
        verify: Number of random senders that are compared with the naive way on the first batch of each stage.
        screen: `attribution:SHARE` scores only that share of the heads, the best by first-order path patching; empty
            scores all.
    """

    model: str = ""
    prompts: str = "right"
    stages: list[Stage] = field(default_factory=list)
    choose: Choice = field(default_factory=Choice)
    memory: str = "auto"
    verify: int = limited(0, least=0)
    screen: str = ""


@dataclass(frozen=True)
class Search:
    """What the stages of a run have in common.

    Attributes:
        experiment: The run.
        settings: Its settings.
        model: The model whose circuit is searched.
        pairs: Clean and counterfactual prompts.
        passes: The clean and the counterfactual pass of each batch, as the first stage that needs them leaves them;
            None for those that did not fit the budget.
    """

    experiment: Experiment
    settings: Settings
    model: Model
    pairs: Sequence[Pair]
    passes: list[dict[str, Any] | None] = field(default_factory=list, repr=False)


def run(experiment: Experiment, settings: Settings) -> PathPatchingResult:
    """Find a circuit, stage by stage."""
    check_stages(settings.stages, experiment.task.roles)
    check_choice(settings.choose)
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    search = Search(experiment, settings, model, usable_pairs(experiment, model, settings.prompts))
    found: dict[str, StageResult] = {}
    skipped: dict[str, str] = {}
    for stage in settings.stages:
        receivers = found[stage.receivers].heads if stage.receivers in found else ()
        if stage.receivers and not receivers:
            skipped[stage.name] = f"its receivers, {stage.receivers}, are none"
            continue
        found[stage.name] = run_stage(search, stage, receivers)
    groups = tuple(
        Group(stage.name, stage.role, found[stage.name].heads if stage.name in found else ())
        for stage in settings.stages
    )
    record: dict[str, Any] = {"model": model.name, "family": experiment.family.name, "method": "path_patching"}
    record |= {"fingerprint": model.fingerprint, "task": dict(experiment.task.fingerprint)}
    record["settings"] = dataclasses.asdict(settings)
    naive, count = not model.anatomy["factorised"], len(search.pairs)
    return PathPatchingResult(model.name, count, tuple(found.values()), skipped, Circuit(groups, record), naive)


def usable_pairs(experiment: Experiment, model: Model, prompts: str) -> list[Pair]:
    """The task's pairs: all, or those whose clean prompt the model answers rightly.

    Raises:
        UserError: The choice is unknown, or the model answers none rightly.
    """
    if prompts not in PROMPTS:
        raise UserError("method.prompts", f"unknown choice {prompts!r}", PROMPTS)
    pairs = list(experiment.task.pairs())
    if prompts == "all":
        return pairs
    batches = experiment.encoded([pair.clean for pair in pairs])
    inputs = [{"prompts": prompt_inputs(batch)} for batch in batches]
    outputs = experiment.sessions(model, answer, inputs, f"answers of {model.name}")
    right = torch.cat([output["prediction"] == batch.answers for output, batch in zip(outputs, batches, strict=True)])
    if not right.any():
        raise UserError("method.prompts", f"{model.name} answers no prompt rightly", fix="use method.prompts=all")
    return [pair for pair, kept in zip(pairs, right.tolist(), strict=True) if kept]


def run_stage(search: Search, stage: Stage, receivers: Sequence[Head]) -> StageResult:
    """Score the heads of one stage, and choose its group."""
    experiment, settings, model = search.experiment, search.settings, search.model
    batches = stage_batches(experiment, model, search.pairs, stage, receivers)
    senders = _screened(search, stage, batches)
    if model.anatomy["factorised"]:
        outputs = _measured_first(search, stage, [{**batch, "senders": senders} for batch in batches])
        scored = [(layer, head) for layer, row in enumerate(senders) for head in row]
        verified = verify(experiment, settings.verify, model, stage.name, batches[0], outputs[0], scored)
    else:
        outputs, verified = _naive_outputs(search, stage, batches, senders), None
    effects = torch.cat([output["effect"] for output in outputs])
    for layer, heads in enumerate(senders):
        effects[:, layer, [head for head in range(effects.shape[2]) if head not in heads]] = torch.nan
    noise = float(torch.cat([output["null"] for output in outputs]).abs().mean())
    peak = max(int(output["peak_bytes"]) for output in outputs)
    contexts = clusters([pair.clean for pair in search.pairs])
    selection = select(effects, contexts, noise, stage.size, settings.choose)
    return StageResult(stage, effects, standard_error(effects, contexts), noise, selection, peak, verified)


def _screened(search: Search, stage: Stage, batches: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The heads to score, by layer: all, or the best share by first-order path patching."""
    anatomy, screen = search.model.anatomy, search.settings.screen
    layers, width = anatomy["n_layers"], anatomy["n_heads"]
    if not screen:
        return [list(range(width)) for _ in range(layers)]
    share = screen_share(screen)
    if not anatomy["factorised"]:
        raise UserError("method.screen", "first-order path patching needs layers that are described in full")
    outputs = search.experiment.sessions(search.model, attribution_effects, batches, f"screening: {stage.name}")
    scores = torch.cat([output["effect"] for output in outputs]).mean(0)
    best = scores.flatten().argsort()[: max(1, round(share * scores.numel()))].tolist()
    return [[head for head in range(width) if layer * width + head in best] for layer in range(layers)]


def screen_share(screen: str) -> float:
    """The share of heads that `attribution:SHARE` lets through.

    Raises:
        UserError: It does not read so.
    """
    kind, _, share = screen.partition(":")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if kind != "attribution" or not 0 < value <= 1:
        raise UserError("method.screen", f"{screen!r} does not read attribution:SHARE", fix="say attribution:0.2")
    return value


def _measured_first(search: Search, stage: Stage, inputs: Sequence[dict[str, Any]]) -> list[dict[str, Tensor]]:
    """Effects batch by batch: the first measures the bytes that a token takes, the others go by them.

    Batches keep their passes for the stages to come, as long as these fit the budget.
    """
    budget: dict[str, Any] = {"gib": memory_gib(search.settings.memory)}
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
                budget["gib"], search.model.envoy.device
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


def memory_gib(memory: str) -> float | None:
    """The budget as the engine takes it; None for `auto`.

    Raises:
        UserError: It is neither `auto` nor a number above 0.
    """
    if memory == "auto":
        return None
    try:
        gib = float(memory)
    except ValueError:
        gib = 0.0
    if not 0 < gib < math.inf:
        raise UserError("method.memory", f"{memory!r} is neither 'auto' nor a number of GiB")
    return gib
