"""Which heads track entities, and in which order? Path patching, stage by stage (paper, section 4.1).

A stage scores every head, at one role, by what changing it does to the answer through the stage's receivers alone. The
heads found become receivers of a later stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.circuits import Circuit, Group
from entitrack.errors import UserError
from entitrack.interventions.path_patching import path_effects
from entitrack.methods.experiment import Experiment, Table, clusters, prompt_inputs, role_positions
from entitrack.models.anatomy import Head, kv_groups
from entitrack.models.family import Model
from entitrack.stats import standard_error
from entitrack.tasks.boxes import BoxesPrompt
from entitrack.tasks.encoding import encode
from entitrack.tasks.prompts import PREV_QUERY_LABEL, Pair

LOGITS = "logits"
_COMPONENTS = ("logits", "q", "k", "v")
_Z = 1.959964


@dataclass
class Stage:
    """One stage of path patching.

    Attributes:
        name: Name of the group it finds.
        role: Position of the senders, and of what they send through.
        component: What of the receivers is replaced: `q`, `k` or `v`; or `logits`, and there are no receivers.
        receivers: Name of the earlier stage whose heads receive; empty for `logits`.
        size: Most heads the group may have.
    """

    name: str = "???"
    role: str = "???"
    component: str = "logits"
    receivers: str = ""
    size: int = 4


@dataclass
class Settings:
    """Settings of `method=path_patching`.

    Attributes:
        model: Member of the family to find the circuit of; empty takes the base.
        stages: The stages, in order.
        memory: Memory for what goes through the model at once: GiB, or `auto`: half of what an accelerator has free,
            1 GiB elsewhere.
    """

    model: str = ""
    stages: list[Stage] = field(default_factory=list)
    memory: str = "auto"


@dataclass(frozen=True)
class StageResult:
    """What one stage found.

    Attributes:
        stage: The stage.
        scores: Mean effect of each head on the probability of the right answer; most negative = most important.
        errors: Standard error of each score over contexts.
        noise: Score of a sender that is left alone: the arithmetic's own noise.
        heads: The heads chosen, most important first.
        effects: Effect per prompt.
    """

    stage: Stage
    scores: Float[Tensor, "layer head"]
    errors: Float[Tensor, "layer head"]
    noise: float
    heads: tuple[Head, ...]
    effects: Float[Tensor, "prompt layer head"] = field(repr=False)


@dataclass(frozen=True)
class PathPatchingResult:
    """A circuit, and the scores it was chosen by."""

    model: str
    stages: tuple[StageResult, ...]
    skipped: Mapping[str, str]
    circuit: Circuit

    @property
    def tables(self) -> Sequence[Table]:
        """The chosen heads, group by group."""
        rows = []
        for found in self.stages:
            for rank, (layer, head) in enumerate(found.heads, start=1):
                score, error = float(found.scores[layer, head]), float(found.errors[layer, head])
                rows.append((found.stage.name, found.stage.role, rank, f"{layer}.{head}", score, error))
        columns = ("group", "role", "rank", "layer.head", "score", "standard error")
        return (Table(f"Circuit of {self.model} by path patching", columns, tuple(rows)),)

    @property
    def notes(self) -> Sequence[str]:
        """Noise floors, and which groups are empty and why."""
        noise = ", ".join(f"{found.stage.name} {found.noise:.1e}" for found in self.stages)
        empty = [
            f"group {found.stage.name} is empty: no head's score is below the noise floor"
            for found in self.stages
            if not found.heads
        ]
        skipped = [f"group {name} is empty: {why}" for name, why in self.skipped.items()]
        return (
            "score: mean of (p_patched - p_clean) / p_clean of the right answer; most negative = most important",
            f"arithmetic noise (clean patched into clean): {noise}",
            "a head is chosen only if its score is below zero by the noise and 1.96 standard errors over contexts",
            *empty,
            *skipped,
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Scores, standard errors and effects per prompt, by stage."""
        named = {}
        for found in self.stages:
            named[f"{found.stage.name}.scores"] = found.scores
            named[f"{found.stage.name}.errors"] = found.errors
            named[f"{found.stage.name}.effects"] = found.effects
        return named


def run(experiment: Experiment, settings: Settings) -> PathPatchingResult:
    """Find a circuit, stage by stage."""
    check_stages(settings.stages, experiment.task.roles)
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    pairs = experiment.task.pairs()
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
    record["stages"] = [dataclasses.asdict(stage) for stage in settings.stages]
    return PathPatchingResult(model.name, tuple(found.values()), skipped, Circuit(groups, record))


def check_stages(stages: Sequence[Stage], roles: Sequence[str]) -> None:
    """Refuse stages that cannot run.

    Raises:
        UserError: Naming the stage's key.
    """
    if not stages:
        raise UserError("method.stages", "there are none")
    before: dict[str, Stage] = {}
    for number, stage in enumerate(stages):
        place = f"method.stages.{number}"
        if stage.component not in _COMPONENTS:
            raise UserError(f"{place}.component", f"unknown component {stage.component!r}", _COMPONENTS)
        if stage.role not in roles:
            raise UserError(f"{place}.role", f"the task has no role {stage.role!r}", roles)
        if stage.name in before:
            raise UserError(f"{place}.name", f"two stages are called {stage.name!r}")
        if (stage.component == LOGITS) != (not stage.receivers):
            raise UserError(f"{place}.receivers", "logits have no receivers, q, k and v need them")
        if stage.receivers and stage.receivers not in before:
            raise UserError(f"{place}.receivers", f"no earlier stage {stage.receivers!r}", before)
        if stage.component == "q" and before[stage.receivers].role != stage.role:
            raise UserError(f"{place}.role", f"q is read where the receivers are, at {before[stage.receivers].role!r}")
        before[stage.name] = stage


def run_stage(
    experiment: Experiment,
    settings: Settings,
    model: Model,
    pairs: Sequence[Pair],
    stage: Stage,
    receivers: Sequence[Head],
) -> StageResult:
    """Score every head of one stage, and choose its group."""
    outputs = []
    target: dict[str, Any] = {"component": stage.component}
    if stage.component != LOGITS:
        target["heads"] = [list(head) for head in _receiving(model, stage.component, receivers)]
    starts = range(0, len(pairs), experiment.batch_size)
    for start in experiment.track(starts, f"path patching: {stage.name}", len(starts)):
        batch = pairs[start : start + experiment.batch_size]
        inputs = {**stage_inputs(experiment, model, batch, stage, start), "receivers": target}
        inputs["senders"] = [list(range(model.anatomy["n_heads"]))] * model.anatomy["n_layers"]
        outputs.append(experiment.runner.run(model, path_effects, inputs, {"gib": memory_gib(settings.memory)}))
    effects = torch.cat([output["effect"] for output in outputs])
    noise = float(torch.cat([output["null"] for output in outputs]).abs().max())
    scores = effects.mean(0)
    errors = standard_error(effects, clusters([pair.clean for pair in pairs]))
    return StageResult(stage, scores, errors, noise, choose(scores, errors, noise, stage.size), effects)


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


def choose(
    scores: Float[Tensor, "layer head"], errors: Float[Tensor, "layer head"], noise: float, size: int
) -> tuple[Head, ...]:
    """The `size` lowest scores, as far as they are below zero by more than noise and sampling error."""
    ranked = scores.flatten().argsort()[:size].tolist()
    heads = [(index // scores.shape[1], index % scores.shape[1]) for index in ranked]
    return tuple((layer, head) for layer, head in heads if scores[layer, head] + _Z * errors[layer, head] < -noise)


def _receiving(model: Model, component: str, heads: Sequence[Head]) -> Sequence[Head]:
    """The receivers as (layer, head of that component)."""
    return heads if component == "q" else kv_groups(model.anatomy, heads)


def stage_inputs(
    experiment: Experiment, model: Model, pairs: Sequence[Pair], stage: Stage, start: int
) -> dict[str, Any]:
    """Clean and counterfactual prompts of a batch, with the positions of the stage's role."""
    tokenizer = experiment.family.tokenizer
    clean = encode([pair.clean for pair in pairs], tokenizer, experiment.padding)
    other = encode([pair.counterfactual for pair in pairs], tokenizer, experiment.padding)
    place = f"stage {stage.name!r}"
    position = role_positions(other, stage.role, place)
    if stage.role == PREV_QUERY_LABEL and experiment.task.fingerprint.get("compat") == "paper":
        position = _redrawn_positions(experiment, model, pairs, start)
    return {
        "clean": {**prompt_inputs(clean), "position": role_positions(clean, stage.role, place)},
        "source": {"tokens": other.tokens, "mask": other.mask, "position": position},
    }


def _redrawn_positions(
    experiment: Experiment, model: Model, pairs: Sequence[Pair], start: int
) -> Int[Tensor, "layer head batch"]:
    """The published procedure's places to read: a box label drawn anew for every head, layer and batch."""
    prompts = [pair.counterfactual for pair in pairs]
    boxes = min(prompt.facets["boxes"] for prompt in prompts)
    asked = [[_ask(prompt, box) for prompt in prompts] for box in range(boxes)]
    tokenizer = experiment.family.tokenizer
    labels = torch.stack(
        [encode(prompts, tokenizer, experiment.padding).positions[PREV_QUERY_LABEL] for prompts in asked]
    )
    random = Random(f"source/{experiment.seed}/{start}")
    layers, heads = model.anatomy["n_layers"], model.anatomy["n_heads"]
    drawn = torch.tensor([[random.randrange(boxes) for _ in range(heads)] for _ in range(layers)])
    return labels[drawn]


def _ask(prompt: Any, box: int) -> BoxesPrompt:
    """The same prompt with its box roles at another box."""
    return dataclasses.replace(prompt, query=box)
