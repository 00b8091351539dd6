"""Which heads track entities, and in which order? Path patching, stage by stage (paper, section 4.1).

A stage scores every head, at one role, by what changing it does to the answer through the stage's receivers alone. The
heads found become receivers of a later stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from entitrack.circuits import Circuit, Group
from entitrack.errors import UserError
from entitrack.interventions.attribution import attribution_effects
from entitrack.interventions.evaluation import answer
from entitrack.interventions.naive import naive_effects
from entitrack.interventions.path_patching import path_effects
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
class Settings:
    """Settings of `method=path_patching`.

    Attributes:
        model: Member of the family to find the circuit of; empty takes the base.
        prompts: `right` scores on the prompts that the model answers rightly, `all` on all, as published. A prompt
            whose right answer has next to no probability to lose has effects without bound, which drown the others.
        stages: The stages, in order.
        choose: How the heads of a group are chosen.
        memory: Memory for what goes through the model at once: GiB, or `auto`: half of what an accelerator has free,
            1 GiB elsewhere.
        verify: Number of random senders that are compared with the naive way on the first batch of each stage.
        screen: `attribution:SHARE` scores only that share of the heads, the best by first-order path patching; empty
            scores all.
    """

    model: str = ""
    prompts: str = "right"
    stages: list[Stage] = field(default_factory=list)
    choose: Choice = field(default_factory=Choice)
    memory: str = "auto"
    verify: int = 0
    screen: str = ""


def run(experiment: Experiment, settings: Settings) -> PathPatchingResult:
    """Find a circuit, stage by stage."""
    check_stages(settings.stages, experiment.task.roles)
    check_choice(settings.choose)
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    pairs = usable_pairs(experiment, model, settings.prompts)
    found: dict[str, StageResult] = {}
    skipped: dict[str, str] = {}
    for stage in settings.stages:
        receivers = found[stage.receivers].heads if stage.receivers in found else ()
        if stage.receivers and not receivers:
            skipped[stage.name] = f"its receivers, {stage.receivers}, are none"
            continue
        found[stage.name] = run_stage(experiment, settings, model, pairs, stage, receivers)
    groups = tuple(
        Group(stage.name, stage.role, found[stage.name].heads if stage.name in found else ())
        for stage in settings.stages
    )
    record: dict[str, Any] = {"model": model.name, "family": experiment.family.name, "method": "path_patching"}
    record |= {"fingerprint": model.fingerprint, "task": dict(experiment.task.fingerprint)}
    record["settings"] = dataclasses.asdict(settings)
    naive = not model.anatomy["factorised"]
    return PathPatchingResult(model.name, len(pairs), tuple(found.values()), skipped, Circuit(groups, record), naive)


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


def run_stage(
    experiment: Experiment,
    settings: Settings,
    model: Model,
    pairs: Sequence[Pair],
    stage: Stage,
    receivers: Sequence[Head],
) -> StageResult:
    """Score the heads of one stage, and choose its group."""
    batches = stage_batches(experiment, model, pairs, stage, receivers)
    senders = _screened(experiment, settings.screen, model, stage, batches)
    if model.anatomy["factorised"]:
        inputs = [{**batch, "senders": senders} for batch in batches]
        description = f"path patching: {stage.name}"
        outputs = _measured_first(experiment, model, inputs, description, memory_gib(settings.memory))
        scored = [(layer, head) for layer, row in enumerate(senders) for head in row]
        verified = verify(experiment, settings.verify, model, stage.name, batches[0], outputs[0], scored)
    else:
        outputs, verified = _naive_outputs(experiment, model, stage, batches, senders), None
    effects = torch.cat([output["effect"] for output in outputs])
    for layer, heads in enumerate(senders):
        effects[:, layer, [head for head in range(effects.shape[2]) if head not in heads]] = torch.nan
    noise = float(torch.cat([output["null"] for output in outputs]).abs().mean())
    peak = max(int(output["peak_bytes"]) for output in outputs)
    contexts = clusters([pair.clean for pair in pairs])
    selection = select(effects, contexts, noise, stage.size, settings.choose)
    return StageResult(stage, effects, standard_error(effects, contexts), noise, selection, peak, verified)


def _screened(
    experiment: Experiment, screen: str, model: Model, stage: Stage, batches: Sequence[dict[str, Any]]
) -> list[list[int]]:
    """The heads to score, by layer: all, or the best share by first-order path patching."""
    layers, width = model.anatomy["n_layers"], model.anatomy["n_heads"]
    if not screen:
        return [list(range(width)) for _ in range(layers)]
    share = screen_share(screen)
    if not model.anatomy["factorised"]:
        raise UserError("method.screen", "first-order path patching needs layers that are described in full")
    outputs = experiment.sessions(model, attribution_effects, batches, f"screening: {stage.name}")
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


def _measured_first(
    experiment: Experiment, model: Model, inputs: Sequence[dict[str, Any]], description: str, gib: float
) -> list[dict[str, Tensor]]:
    """Effects batch by batch: the first measures the bytes that a token takes, the others go by them."""
    budget: dict[str, Any] = {"gib": gib}
    outputs = list(experiment.sessions(model, path_effects, inputs[:1], description, settings=budget))
    sweep, suffix = outputs[0]["bytes_per_token"].tolist()
    budget["known"] = {"sweep": sweep, "suffix": suffix}
    return outputs + list(experiment.sessions(model, path_effects, inputs[1:], description, settings=budget))


def _naive_outputs(
    experiment: Experiment, model: Model, stage: Stage, batches: Sequence[dict[str, Any]], senders: list[list[int]]
) -> list[dict[str, Tensor]]:
    """What `path_effects` gives, the naive way: for models whose layers are not described in full."""
    heads = [[layer, head] for layer, row in enumerate(senders) for head in row]
    inputs = [{**batch, "heads": heads} for batch in batches]
    outputs = []
    for found in experiment.sessions(model, naive_effects, inputs, f"path patching, naively: {stage.name}"):
        effect = torch.zeros(len(found["null"]), model.anatomy["n_layers"], model.anatomy["n_heads"])
        effect[:, [layer for layer, _ in heads], [head for _, head in heads]] = found["effect"]
        outputs.append({"effect": effect, "null": found["null"], "peak_bytes": torch.zeros(1)})
    return outputs


def memory_gib(memory: str) -> float:
    """The budget as interventions take it; 0 for `auto`.

    Raises:
        UserError: It is neither `auto` nor a number above 0.
    """
    if memory == "auto":
        return 0.0
    try:
        gib = float(memory)
    except ValueError:
        gib = 0.0
    if gib <= 0:
        raise UserError("method.memory", f"{memory!r} is neither 'auto' nor a number of GiB")
    return gib
