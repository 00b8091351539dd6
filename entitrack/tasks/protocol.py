"""What a prompt, a desideratum and a task are, whichever task it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from entitrack.core.facets import FacetWords
from entitrack.core.parts import Part
from entitrack.core.quirks import Quirk
from entitrack.core.stages import Edge, Stage

Span = tuple[int, int]

LAST = "last"
QUERY_LABEL = "query_label"
PREV_QUERY_LABEL = "prev_query_label"
CORRECT_OBJECT = "correct_object"


class Prompt(Protocol):
    """A text to continue, with everything a method may ask about it.

    A prompt may also have an `origin`, see `origin_of`.

    Attributes:
        text: What the model reads, without special tokens.
        answer: The word that should follow, without the space before it; see `continued`.
        spans: Position role -> (start, end) in characters of `text`. The role `last` is not listed:
            it is the last token, whatever that covers.
        facets: What results are broken down by, such as `{"boxes": 7, "query": 3}`.
        cluster: Prompts of one cluster are not independent (they share a context): intervals are
            taken over clusters.
    """

    @property
    def text(self) -> str: ...  # noqa: D102

    @property
    def answer(self) -> str: ...  # noqa: D102

    @property
    def spans(self) -> Mapping[str, Span]: ...  # noqa: D102

    @property
    def facets(self) -> Mapping[str, int]: ...  # noqa: D102

    @property
    def cluster(self) -> int: ...  # noqa: D102


def continued(text: str, word: str) -> str:
    """A text with a word after it.

    A text that ends in a space has that one before the word: where a tokenizer makes a token of the space before a
    number, a prompt that ends in it is answered by the number itself.
    """
    return f"{text}{word}" if text.endswith(" ") else f"{text} {word}"


def origin_of(prompt: Prompt, number: int) -> str:
    """Where a prompt comes from, as errors name it: a file and its line, or its number in the task.

    Args:
        prompt: The prompt.
        number: Its number among the prompts at hand, for one that does not say where it comes from.
    """
    return str(getattr(prompt, "origin", "")) or f"prompt {number}"


class Question(Prompt, Protocol):
    """A prompt whose context offers several answers, and whose words stand in the same places in every prompt.

    Attributes:
        alternatives: The answers that the context offers besides the right one.
        template: Name of a place -> the characters there, in one or several spans; every prompt of a task has the
            same places. Tokens that no span covers are the template's start.
    """

    @property
    def alternatives(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def template(self) -> Mapping[str, Sequence[Span]]: ...  # noqa: D102


@dataclass(frozen=True)
class Pair:
    """A clean prompt and the counterfactual whose activations are patched into it."""

    clean: Prompt
    counterfactual: Prompt


@dataclass(frozen=True)
class DesideratumPair:
    """One test of what some activations carry.

    Attributes:
        clean: The prompt that is run.
        counterfactual: The prompt whose activations are patched into it.
        target: The word that the patched run should answer.
    """

    clean: Prompt
    counterfactual: Prompt
    target: str


@dataclass(frozen=True)
class ApartPair:
    """A counterfactual in which all that a question may be answered by points elsewhere.

    Attributes:
        clean: The prompt that is run.
        counterfactual: The prompt whose activations are patched into it.
        readings: What is carried -> the word that the patched run then answers; all of them, and the clean answer, are
            different words.
        place: Which place of the list the counterfactual asks for, from 0.
    """

    clean: Prompt
    counterfactual: Prompt
    readings: Mapping[str, str]
    place: int


POSITION, LETTER, CONTENT = READINGS = ("position", "letter", "content")
"""What a question about a list may be answered by: where the right entry stands, what it is called, what is in it."""


class Desideratum(Protocol):
    """A rule that gives every clean prompt a counterfactual and a target.

    A class of one's own needs no more than this: a `name`, and `pairs`, a function of its arguments. One that the paper
    has may also have `published_pairs`, the same as the published code draws them, for `compat=paper`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def pairs(self, prompts: Sequence[Any], seed: int) -> list[DesideratumPair]:
        """A pair for every prompt, in their order.

        Args:
            prompts: Clean prompts, of the task that has the desideratum.
            seed: Everything drawn is a function of it.
        """
        ...


class Task(Protocol):
    """A source of prompts, with all that methods ask about them. Every draw is a function of its settings and seed."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def roles(self) -> Sequence[str]:
        """The position roles its prompts have, `last` included; see also `role_spans`."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """Stages that a circuit is searched along, unless a run says others."""
        ...

    @property
    def edges(self) -> Sequence[Edge]:
        """Edges that attention is blocked on, unless a run says others."""
        ...

    @property
    def facets(self) -> Mapping[str, FacetWords]:
        """How the facets of its prompts are shown, where not under their own names."""
        ...

    @property
    def desiderata(self) -> Sequence[Desideratum]:
        """Rules about what heads may carry."""
        ...

    @property
    def desideratum_sets(self) -> Mapping[str, Sequence[str]]:
        """Name -> names of desiderata that it stands for; the first is what a run uses unless it says others."""
        ...

    @property
    def quirks(self) -> Collection[Quirk]:
        """Quirks of published code that are about its prompts."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """What the prompts depend on, as plain values: part of the key of every stored result."""
        ...

    def prompts(self) -> Sequence[Prompt]:
        """The clean prompts."""
        ...

    def pairs(self) -> Sequence[Pair]:
        """The clean prompts, each with its path-patching counterfactual."""
        ...

    def backgrounds(self, count: int) -> Sequence[Prompt]:
        """Prompts like the clean ones with everything random in them, which mean ablation averages over."""
        ...


@runtime_checkable
class Published(Protocol):
    """A task of which published code has quirks; see `entitrack.core.quirks`."""

    def published_pairs(self) -> Sequence[Pair]:
        """The clean prompts, each with a counterfactual as the published code draws it."""
        ...

    def elsewhere(self, prompt: Any) -> Sequence[Prompt]:
        """A prompt with its roles at each of the places that the published code draws among."""
        ...


@runtime_checkable
class Separable(Protocol):
    """A task that can pull apart what its questions may be answered by; see `READINGS`."""

    def apart(self, seed: int) -> Sequence[ApartPair]:
        """The clean prompts, each with a counterfactual in which position, letter and content point elsewhere.

        Args:
            seed: Everything drawn is a function of it.

        Raises:
            UserError: Contexts are too small for that.
        """
        ...


@runtime_checkable
class Resizable(Protocol):
    """A task whose contexts can be made larger or smaller."""

    def resized(self, size: int, place: str) -> Task:
        """The same task with contexts of another size.

        Args:
            size: How many things a context has.
            place: The config key that names the size.

        Raises:
            UserError: There are no such contexts.
        """
        ...


@runtime_checkable
class Parted(Protocol):
    """A task whose contexts belong to parts, one to choose on and one to judge on; see `entitrack.core.parts`."""

    def of_part(self, part: Part) -> Task:
        """The same task on a part of its contexts; itself, if its settings name the part."""
        ...


def role_spans(prompt: Prompt) -> Mapping[str, Span]:
    """Where a prompt's roles are, but for `last`: those it lists, and the places of its template that stand once."""
    template: Mapping[str, Sequence[Span]] = getattr(prompt, "template", {})
    return {place: spans[0] for place, spans in template.items() if len(spans) == 1} | dict(prompt.spans)


def role_names(task: Task) -> list[str]:
    """The roles that stages, edges and circuits may name: the task's own first, then places of its template."""
    return list(dict.fromkeys((*task.roles, *role_spans(task.prompts()[0]))))


def role_aliases(task: Task) -> dict[str, str]:
    """Places of the template that are, in every prompt, the token of one of the task's roles -> that role.

    A role is the last token of its characters, so that what ends where a role ends is that role.
    """
    prompts = task.prompts()
    places = [place for place in role_spans(prompts[0]) if place not in task.roles]
    ends = [{name: _end(prompt, name) for name in (*places, *task.roles)} for prompt in prompts]
    both = [(place, role) for place in places for role in task.roles if ends[0][place] == ends[0][role]]
    return {place: role for place, role in both if all(of_one[place] == of_one[role] for of_one in ends)}


def _end(prompt: Prompt, role: str) -> int | None:
    """Where a role's characters end; None where the prompt does not have it."""
    return len(prompt.text) if role == LAST else role_spans(prompt).get(role, (0, None))[1]
