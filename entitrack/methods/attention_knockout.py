"""Does information flow from one position to another, and from which layer on is it no longer needed? (section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.knockout import knockout_answers
from entitrack.errors import UserError
from entitrack.limits import MethodSettings, limited
from entitrack.methods.ablated import questions
from entitrack.methods.ablation import Metric, Outcomes, pick
from entitrack.methods.experiment import Cell, Experiment, Table, clusters, prompt_inputs, role_positions
from entitrack.stats import Estimate, estimate
from entitrack.tasks.encoding import EncodedBatch, alternative_tokens
from entitrack.tasks.prompts import Prompt

RANDOM = "a random position"


@dataclass
class Edge:
    """One role that may no longer see another.

    Attributes:
        source: Role that attends.
        target: Role before it that is hidden.
    """

    source: str = "???"
    target: str = "???"


@dataclass
class Settings(MethodSettings):
    """Settings of `method=attention_knockout`.

    Attributes:
        model: Member of the family; empty takes the base.
        edges: Which role may no longer see which.
        control: For each source, also hide a position drawn at random.
        metric: What F is: `accuracy`, `probability` or `logit_difference`.
        chunk_tokens: At most this many tokens go through the model at once.
    """

    model: str = ""
    edges: list[Edge] = field(default_factory=list)
    control: bool = True
    metric: str = "accuracy"
    chunk_tokens: int = limited(8192, least=1)


@dataclass(frozen=True)
class KnockoutResult:
    """F by first blocked layer.

    Attributes:
        model: Name of the model.
        metric: What F is.
        by_edge: (source, target) -> F per first blocked layer and prompt; the last of the `n_layers + 1` blocks none.
        clusters: Context of each prompt.
    """

    model: str
    metric: Metric
    by_edge: Mapping[tuple[str, str], Float[Tensor, "first prompt"]]
    clusters: Int[Tensor, " prompt"]

    def curve(self, edge: tuple[str, str]) -> list[Estimate]:
        """Mean F of one edge by first blocked layer."""
        return [estimate(values, self.clusters) for values in self.by_edge[edge]]

    @property
    def tables(self) -> Sequence[Table]:
        """F by first blocked layer: a table a source, a column a target."""
        return tuple(self._table(source) for source in dict.fromkeys(source for source, _ in self.by_edge))

    def _table(self, source: str) -> Table:
        found = {target: self.curve((source, target)) for origin, target in self.by_edge if origin == source}
        n_rows = len(next(iter(found.values())))
        rows: list[tuple[Cell, ...]] = [
            ("none" if first == n_rows - 1 else f"from {first}", *(curve[first] for curve in found.values()))
            for first in range(n_rows)
        ]
        title = f"{self.model}, what {source} no longer sees; F is {self.metric.value} [95 %], n = {len(self.clusters)}"
        return Table(title, ("layers blocked", *found), tuple(rows))

    @property
    def notes(self) -> Sequence[str]:
        """How to read the table."""
        return (
            "from k: in layers k and after, no head attends from the first role to the second",
            f"{RANDOM}: one a prompt, before the source, neither the first token nor a target of that source",
            "95 % intervals: bootstrap over contexts",
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """F per first blocked layer and prompt, by edge."""
        named = {f"{source}.{target}": values for (source, target), values in self.by_edge.items()}
        return {**named, "clusters": self.clusters}


def run(experiment: Experiment, settings: Settings) -> KnockoutResult:
    """Block every edge from every layer on: one session a source and batch of prompts."""
    metric = pick(Metric, settings.metric, "method.metric")
    if metric is Metric.RECOVERED:
        raise UserError("method.metric", "nothing is ablated here to recover from", ["accuracy", "probability"])
    if not settings.edges:
        raise UserError("method.edges", "there are none")
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    prompts = experiment.task.prompts()
    by_source: dict[str, list[str]] = {}
    for edge in settings.edges:
        targets = by_source.setdefault(edge.source, [])
        if edge.target in targets:
            raise UserError("method.edges", f"{edge.source!r} to {edge.target!r} is there twice")
        targets.append(edge.target)
    batches = replace(experiment, padding="right").encoded(prompts)
    parts: dict[tuple[str, str], list[Tensor]] = {}
    for source, targets in by_source.items():
        random = Random(f"knockout/{experiment.seed}/{source}") if settings.control else None
        inputs = [
            block_inputs(experiment, random, prompts, batch, number, source, targets)
            for number, batch in enumerate(batches)
        ]
        label, chunk = f"attention knockout, {source}: {model.name}", {"chunk_tokens": settings.chunk_tokens}
        names = [*targets, *([RANDOM] if settings.control else [])]
        for batch, found in zip(
            batches, experiment.sessions(model, knockout_answers, inputs, label, settings=chunk), strict=True
        ):
            outcomes = Outcomes(found["prediction"] == batch.answers, found["probability"], found["margin"])
            for name, values in zip(names, outcomes.values(metric).unbind(0), strict=True):
                parts.setdefault((source, name), []).append(values)
    by_edge = {edge: torch.cat(values, 1) for edge, values in parts.items()}
    return KnockoutResult(model.name, metric, by_edge, clusters(prompts))


def block_inputs(
    experiment: Experiment,
    random: Random | None,
    prompts: Sequence[Prompt],
    batch: EncodedBatch,
    number: int,
    source: str,
    targets: Sequence[str],
) -> dict[str, Any]:
    """What `knockout_answers` takes for one source and the batch of that number; a target from `random` comes last.

    Raises:
        UserError: A target is not before the source.
    """
    start = number * experiment.batch_size
    at = role_positions(batch, source, "method.edges")
    hidden = torch.stack([role_positions(batch, target, "method.edges") for target in targets])
    for target, positions in zip(targets, hidden, strict=True):
        if not bool((positions < at).all()):
            raise UserError("method.edges", f"{target!r} is not before {source!r}, which sees only what is before it")
    if random is not None:
        hidden = torch.cat([hidden, random_positions(random, at, hidden)[None]])
    rivals = alternative_tokens(questions(prompts[start : start + len(batch)]), experiment.family.tokenizer)
    return {"prompts": {**prompt_inputs(batch), "rivals": rivals}, "source": at, "targets": hidden}


def random_positions(
    random: Random, source: Int[Tensor, " batch"], taken: Int[Tensor, "target batch"]
) -> Int[Tensor, " batch"]:
    """A position before each source, neither the first token nor one that is taken.

    Raises:
        UserError: There is none.
    """
    drawn = []
    for end, gone in zip(source.tolist(), taken.T.tolist(), strict=True):
        free = [index for index in range(1, end) if index not in gone]
        if not free:
            raise UserError("method.control", "no other position is before the source", fix="method.control=false")
        drawn.append(random.choice(free))
    return torch.tensor(drawn)
