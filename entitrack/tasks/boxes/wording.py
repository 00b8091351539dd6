"""A context and its question as a text, with the places in it: characters, whatever a tokenizer makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from entitrack.tasks.boxes.phrasings import LABEL, OBJECT, Phrasing, capitalised, fill
from entitrack.tasks.protocol import CORRECT_OBJECT, PREV_QUERY_LABEL, QUERY_LABEL, Span

QUERIED, OTHER, QUESTION = "queried", "other", "question"
"""Whose words a place of the template has: those of the fact that is asked for, of the others, of the question."""
_END = "end"
"""The mark after a fact."""


@dataclass(frozen=True)
class Segment:
    """A piece of a context.

    Attributes:
        form: How it is written.
        whose: `QUERIED` or `OTHER`; empty for what is no fact of the prompt.
        object: The object in it, if it names one.
        label: The letter in it, if it names one.
    """

    form: str
    whose: str = ""
    object: str = ""
    label: str = ""


@dataclass
class Wording:
    """A text as it grows.

    Attributes:
        text: The text so far.
        template: Name of a place -> the characters there.
    """

    text: str
    template: dict[str, list[Span]] = field(default_factory=dict)

    @property
    def spans(self) -> Mapping[str, Span]:
        """Where the object and the letter that are asked for are, and the question's letter."""
        places = {CORRECT_OBJECT: (QUERIED, OBJECT), PREV_QUERY_LABEL: (QUERIED, LABEL), QUERY_LABEL: (QUESTION, LABEL)}
        return {role: self.template[f"{whose} {name}"][0] for role, (whose, name) in places.items()}

    def add(self, piece: str, places: Sequence[tuple[str, Span]], whose: str) -> None:
        """Write on; places of what is no fact of the prompt have no name."""
        for name, (start, end) in places if whose else ():
            span = (len(self.text) + start, len(self.text) + end)
            self.template.setdefault(f"{whose} {name}", []).append(span)
        self.text += piece


def put_into_words(
    segments: Sequence[Segment], label: str, phrasing: Phrasing, front: str = "", separator: str | None = None
) -> Wording:
    """The text of some facts and a question, and where its words are.

    Args:
        segments: The context.
        label: The letter that is asked for.
        phrasing: How the question is put, and facts are told apart.
        front: What stands before all of it.
        separator: What stands between segments; None: what the phrasing has there.
    """
    wording, between = Wording(front), phrasing.separator if separator is None else separator
    for number, segment in enumerate(segments):
        piece, places = fill(segment.form, segment.object, segment.label)
        starts = number == 0 or phrasing.has_sentences
        wording.add(capitalised(piece) if starts and phrasing.starts_high else piece, places, segment.whose)
        stop = between if number + 1 < len(segments) else ". "
        mark = [(_END, (0, len(stop.rstrip())))] if stop.rstrip() else []
        wording.add(stop, mark, segment.whose)
    wording.add(*fill(phrasing.question, label=label), QUESTION)
    return wording
