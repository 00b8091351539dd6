"""What a method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.backends import Intervention, Runner
from entitrack.circuits import Circuit, read_circuit
from entitrack.core.measurement import PromptSet
from entitrack.core.table import Table
from entitrack.errors import UserError
from entitrack.models.family import Family, Model
from entitrack.tasks.encoding import EncodedBatch, alternative_tokens, encode
from entitrack.tasks.prompts import LAST, Prompt, Question, Task


class Found(Protocol):
    """What a method returns that has not yet become a `Result`."""

    @property
    def tables(self) -> Sequence[Table]:
        """The result as tables, the main one first."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a reader must know to read them: empty groups, noise floors, how intervals were made."""
        ...

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Everything that was measured, by prompt where that is small enough."""
        ...


def _plain(units: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return units


@dataclass(frozen=True)
class Experiment:
    """Models, task and the place to run: all that a method may use.

    Attributes:
        family: The base and its donors.
        task: Where prompts come from.
        runner: Runs interventions, and keeps what is finished.
        donor: Name of the donor.
        circuit_name: A circuit's file or name; None takes the one found on the base.
        batch_size: Prompts in a session.
        padding: Side on which shorter prompts are padded.
        seed: Seed of everything that is drawn outside the task.
        track: Wraps an iterable of known length to show progress.
    """

    family: Family
    task: Task
    runner: Runner
    donor: str
    circuit_name: str | None = None
    batch_size: int = 64
    padding: str = "right"
    seed: int = 0
    track: Callable[[Iterable[Any], str, int], Iterable[Any]] = field(default=_plain, repr=False)

    def base(self) -> Model:
        """The base model."""
        return self.family.load(self.family.base, "model.base")

    def member(self, name: str | None, place: str) -> Model:
        """A member of the family; None takes the base. `place` is the config key that named it."""
        return self.base() if name is None else self.family.load(name, place)

    def members(self, names: Sequence[str], place: str) -> list[str]:
        """The members of the family of these names, all of them if none is named.

        Raises:
            UserError: There is no such member, or one is named twice; before any is loaded.
        """
        for index, name in enumerate(names):
            self.family.checkpoint(name, f"{place}.{index}")
            if name in names[:index]:
                raise UserError(f"{place}.{index}", f"{name!r} is there twice")
        return list(names or self.family.members)

    def circuit(self, model: Model) -> Circuit:
        """The circuit that the run is about, checked against a model and the task."""
        circuit = read_circuit(self.circuit_name or self.family.base, self.family.name)
        circuit.check(model.anatomy, self.task.roles)
        return circuit

    def by_batch(self, prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
        """The prompts, `batch_size` at a time."""
        return [prompts[start : start + self.batch_size] for start in range(0, len(prompts), self.batch_size)]

    def encoded(self, prompts: Sequence[Prompt]) -> list[EncodedBatch]:
        """The prompts, tokenized, `batch_size` at a time."""
        return [encode(part, self.family.tokenizer, self.padding) for part in self.by_batch(prompts)]

    def words(self, *tokens: Int[Tensor, "..."]) -> dict[int, str]:
        """Token id -> its text, of all that occur."""
        occurring = sorted({token for part in tokens for token in part.unique().tolist()})
        return {token: str(self.family.tokenizer.decode([token])) for token in occurring}

    def sessions(
        self,
        model: Model,
        function: Intervention,
        inputs: Iterable[dict[str, Any]],
        description: str,
        total: int = 0,
        settings: dict[str, Any] | None = None,
        kept: Sequence[dict[str, Any] | None] = (),
    ) -> Iterator[dict[str, Any]]:
        """The results of an intervention batch by batch, with progress shown; see `Runner.map`."""
        total = len(inputs) if isinstance(inputs, Sequence) else total
        return iter(self.track(self.runner.map(model, function, inputs, settings, total, kept), description, total))


def prompt_inputs(batch: EncodedBatch) -> dict[str, Tensor]:
    """A batch as interventions take it."""
    return {
        "tokens": batch.tokens,
        "mask": batch.mask,
        "last": batch.positions[LAST],
        "answers": batch.answers,
    }


def question_inputs(experiment: Experiment, prompts: Sequence[Prompt], batch: EncodedBatch) -> dict[str, Tensor]:
    """A batch of prompts as interventions take it that also weigh the other answers which the contexts offer.

    Raises:
        UserError: The contexts do not offer several answers.
    """
    return {**prompt_inputs(batch), "rivals": alternative_tokens(questions(prompts), experiment.family.tokenizer)}


def questions(prompts: Sequence[Prompt]) -> list[Question]:
    """The prompts, as what offers several answers and has a template.

    Raises:
        UserError: They are not of that kind.
    """
    for number, prompt in enumerate(prompts):
        if not (hasattr(prompt, "alternatives") and hasattr(prompt, "template")):
            raise UserError(f"prompt {number}", "its context does not offer several answers in a fixed template")
    return list(prompts)  # type: ignore[arg-type]


def prompt_set(prompts: Sequence[Prompt]) -> PromptSet:
    """The prompts as they are kept with what is measured on them."""
    facets = {name: torch.tensor([prompt.facets[name] for prompt in prompts]) for name in prompts[0].facets}
    texts, answers = tuple(prompt.text for prompt in prompts), tuple(prompt.answer for prompt in prompts)
    return PromptSet(texts, answers, clusters(prompts), facets)


def clusters(prompts: Sequence[Prompt]) -> Int[Tensor, " prompt"]:
    """The cluster of each prompt."""
    return torch.tensor([prompt.cluster for prompt in prompts])


def role_positions(batch: EncodedBatch, role: str, place: str) -> Int[Tensor, " batch"]:
    """Token positions of a role.

    Raises:
        UserError: The task has no such role; `place` is the config key that named it.
    """
    if role not in batch.positions:
        raise UserError(place, f"the task has no role {role!r}", batch.positions)
    return batch.positions[role]
