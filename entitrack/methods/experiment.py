"""What a method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.circuits import Circuit, read_circuit
from entitrack.core.errors import UserError, quoted
from entitrack.core.masks import Masks, read_masks
from entitrack.core.measurement import PromptSet
from entitrack.core.parts import Origin, context_digests, origin_of_choice
from entitrack.core.quirks import NONE, Quirk, Quirks
from entitrack.models.context import context_length
from entitrack.models.family import Family, Model
from entitrack.models.pairs import compare, require_tokens
from entitrack.runtime.backends import Intervention, Runner
from entitrack.tasks.desiderata import draw_pairs
from entitrack.tasks.encoding import EncodedBatch, alternative_tokens, check_first_tokens, encode
from entitrack.tasks.protocol import (
    LAST,
    Desideratum,
    DesideratumPair,
    Pair,
    Prompt,
    Published,
    Question,
    Task,
    continued,
    origin_of,
    role_aliases,
    role_names,
)


def _plain(units: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return units


@dataclass(frozen=True)
class Experiment:
    """Models, task and the place to run: all that a method may use.

    Attributes:
        family: The base and its donors.
        task: Where prompts come from.
        runner: Runs interventions, and keeps what is finished.
        donor: Name of the donor; None: the run has none.
        circuit_name: A circuit's file or name; None takes the one found on the base.
        batch_size: Prompts in a session.
        gib: Memory budget for what goes through a model at once, in GiB; None: the device decides.
        padding: Side on which shorter prompts are padded.
        seed: Seed of everything that is drawn outside the task.
        quirks: Those of the published procedure that are followed.
        track: Wraps an iterable of known length to show progress.
        circuits: The circuits that were read so far, by the name or file that was asked for.
        masks: The masks that were read so far, by their file.
        forced: What is to be said of models at chance that were taken all the same; see `methods.ability`.
        search_task: Where prompts come from that something is chosen on, to be judged on those of `task`; None: there.
    """

    family: Family
    task: Task
    runner: Runner
    donor: str | None = None
    circuit_name: str | None = None
    batch_size: int = 64
    gib: float | None = None
    padding: str = "right"
    seed: int = 0
    quirks: Quirks = NONE
    track: Callable[[Iterable[Any], str, int], Iterable[Any]] = field(default=_plain, repr=False)
    circuits: dict[str, Circuit] = field(default_factory=dict, repr=False)
    masks: dict[str, Masks] = field(default_factory=dict, repr=False)
    forced: list[str] = field(default_factory=list, repr=False)
    search_task: Task | None = None

    @cached_property
    def roles(self) -> list[str]:
        """The roles that stages, edges and circuits may name."""
        return role_names(self.task)

    @cached_property
    def role_aliases(self) -> Mapping[str, str]:
        """Other names of the task's roles, which circuits and stages may have for them."""
        return role_aliases(self.task)

    def base(self) -> Model:
        """The base model."""
        return self.family.load(self.family.base, "model.base")

    def member(self, name: str | None, place: str = "method.model", more: Iterable[Prompt] = ()) -> Model:
        """A member of the family that reads the task's prompts as the base does.

        Args:
            name: Its name; None takes the base.
            place: The config key that named it.
            more: Other prompts that it is going to read.

        Raises:
            UserError: There is none, it cannot be loaded, or its own tokenizer gives other ids.
        """
        model, base = self.family.load(name or self.family.base, place), self.base()
        if model is not base:
            require_tokens(base, model, self._texts(more), place)
        return model

    def donor_of(self, recipient: Model, components: Iterable[str]) -> Model:
        """The donor, if these components of it may move to a recipient.

        Raises:
            UserError: None was chosen, they may not, or it cannot be loaded.
        """
        if self.donor is None:
            raise UserError("donor", "has no value", self.family.members)
        donor = self.family.load(self.donor, "donor")
        if donor is not recipient:
            compare(recipient, donor, self._texts()).require(components, "donor")
        return donor

    def obstacles(self, recipient: Model, donor: Model, components: Iterable[str]) -> list[str]:
        """Why components of a donor may not move to a recipient, in words; nothing where they may."""
        return [] if donor is recipient else compare(recipient, donor, self._texts()).reasons(components)

    def _texts(self, more: Iterable[Prompt] = ()) -> Iterator[str]:
        """The task's prompts with their answers, and more."""
        prompts = (prompt for prompts in (self.task.prompts(), more) for prompt in prompts)
        yield from (continued(prompt.text, prompt.answer) for prompt in prompts)

    def members(self, names: Sequence[str], place: str) -> list[str]:
        """The members of the family of these names, all of them if none is named.

        Raises:
            UserError: There is no such member, or one is named twice; before any is loaded.
        """
        for index, name in enumerate(names):
            self.family.checkpoint(name, f"{place}.{index}")
            if name in names[:index]:
                raise UserError(f"{place}.{index}", f"{quoted(name)} is there twice")
        return list(names or self.family.members)

    def circuit(self, model: Model, found_on: str | None = None) -> Circuit:
        """The circuit that the run is about, checked against a model and the task.

        Args:
            model: The model whose heads it has.
            found_on: The member whose own circuit it is where the run names none; None: the base.
        """
        name = self.circuit_name or found_on or self.family.base
        circuit = read_circuit(name, self.family.name).with_roles(self.role_aliases)
        if Quirk.SHARED_HEADS in self.quirks:
            circuit = circuit.with_heads_once()
        circuit.check(model.anatomy, self.roles)
        self.circuits[name] = circuit
        return circuit

    def read_masks(self, path: str) -> Masks:
        """Masks that the run is about."""
        self.masks[path] = read_masks(path)
        return self.masks[path]

    def on_search(self) -> Experiment:
        """The same on the prompts that things are chosen on; see `entitrack.core.parts`."""
        return replace(self, task=self.search_task or self.task)

    def origins(self) -> list[Origin]:
        """Of each circuit and each masks that were read, how many of the contexts it was found on are the run's own."""
        chosen = {f"circuit {name}": circuit.found_on for name, circuit in self.circuits.items()}
        chosen |= {f"masks {name}": masks.found_on for name, masks in self.masks.items()}
        return [self.origin(what, found_on) for what, found_on in chosen.items()]

    def origin(self, what: str, found_on: Mapping[str, Any]) -> Origin:
        """How many of the contexts that something was found on are the run's own."""
        prompts = self.task.prompts()
        texts, contexts = [prompt.text for prompt in prompts], [prompt.cluster for prompt in prompts]
        return origin_of_choice(what, found_on, texts, contexts)

    def contexts(self, count: int | None = None) -> list[str]:
        """Digests of the contexts of its prompts, or of the first of these, as `found_on` keeps them."""
        prompts = self.task.prompts()[:count]
        return context_digests([prompt.text for prompt in prompts], [prompt.cluster for prompt in prompts])

    def pairs(self) -> Sequence[Pair]:
        """The task's prompts with their counterfactuals."""
        if Quirk.QUESTION_LETTER in self.quirks and isinstance(self.task, Published):
            return self.task.published_pairs()
        return self.task.pairs()

    def desideratum_pairs(self, rule: Desideratum, draw: int = 0) -> list[DesideratumPair]:
        """A desideratum's pairs of the task's prompts.

        Args:
            rule: The desideratum.
            draw: Number of the draw.
        """
        published = Quirk.OWN_POSITION in self.quirks
        return draw_pairs(rule, self.task.prompts(), self.seed + draw, published)

    def by_batch(self, prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
        """The prompts, `batch_size` at a time."""
        return [prompts[start : start + self.batch_size] for start in range(0, len(prompts), self.batch_size)]

    def encode(self, prompts: Sequence[Prompt]) -> EncodedBatch:
        """Some prompts, tokenized and padded together; see `entitrack.tasks.encoding.encode`.

        Raises:
            UserError: See there; or a prompt is longer than the base takes.
        """
        batch = encode(prompts, self.family.tokenizer, self.padding)
        most, lengths = context_length(self.base()), batch.mask.sum(1).tolist()
        if most is not None and max(lengths) > most:
            place = origin_of(prompts[lengths.index(max(lengths))], lengths.index(max(lengths)))
            raise UserError(place, f"has {max(lengths)} tokens, and {self.family.base} takes {most} at most")
        return batch

    def encoded(self, prompts: Sequence[Prompt]) -> list[EncodedBatch]:
        """The prompts, tokenized, `batch_size` at a time.

        Raises:
            UserError: See `encode`; or an answer and another one of its context begin with one token.
        """
        check_first_tokens(prompts, self.family.tokenizer)
        return [self.encode(part) for part in self.by_batch(prompts)]

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
        if not (hasattr(prompt, "alternatives") and getattr(prompt, "template", None)):
            raise UserError(origin_of(prompt, number), "its context does not offer several answers in a fixed template")
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
