"""What a prompt is, whichever task wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Task(Protocol):
    """A source of prompts. Every draw is a function of the task's own settings and seed."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def roles(self) -> Sequence[str]:
        """The position roles its prompts have, `last` included."""
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
