"""What a prompt, a desideratum and a task are, whichever task it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from entitrack.core.facets import FacetWords
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
        answer: The word that should follow, without the space before it.
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


def role_spans(prompt: Prompt) -> Mapping[str, Span]:
    """Where a prompt's roles are, but for `last`: those it lists, and the places of its template that stand once."""
    template: Mapping[str, Sequence[Span]] = getattr(prompt, "template", {})
    return {place: spans[0] for place, spans in template.items() if len(spans) == 1} | dict(prompt.spans)


def role_names(task: Task) -> list[str]:
    """The roles that stages, edges and circuits may name: the task's own first, then places of its template."""
    return list(dict.fromkeys((*task.roles, *role_spans(task.prompts()[0]))))
