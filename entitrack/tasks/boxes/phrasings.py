"""How facts about boxes are put into words. All that is particular to a phrasing stands here.

object_first   The document is in Box Q, the bread is in Box X. Box Q contains the   (the paper's)
label_first    Box Q contains the document, Box X contains the bread. Box Q contains the
sentences      The document is in Box Q. The bread is in Box X. Box Q contains the
question       Box Q contains the document. Box X contains the bread. Question: What does Box Q contain? Answer: The

All stand on one line: tokenizers make one token of a dot and the line's end after it, and places would share it.
A phrasing is added by its entry in `PHRASINGS` and its name in `PhrasingName`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from entitrack.core.stages import Stage
from entitrack.tasks.boxes.stages import LABEL_FIRST_STAGES, PAPER_STAGES
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.protocol import Span

PhrasingName = Literal["object_first", "label_first", "sentences", "question"]

OBJECT, LABEL = "object", "label"
_SLOTS = {OBJECT: r"[\w-]+", LABEL: r"[A-Za-z]+"}
"""What differs from fact to fact -> what may stand there."""
_SLOT = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"\{(\w+)\}|\w+|[^\w\s]")


@dataclass(frozen=True)
class Phrasing:
    """One way to say what is in a box, and to ask; every form of a fact names `{object}` and `{label}`.

    Attributes:
        name: What `task.phrasing` calls it.
        form: A fact, as it stands within a sentence.
        longer: The same with more words between the two names (desideratum `add_tokens_btw_box_and_obj`).
        reordered: The same with the two names in the other order (`altered_box_obj_order`).
        denied: The opposite (`altered_box_obj_association`).
        with_comma: The same with a comma after the name that comes first (`add_comma`).
        separator: What stands between facts: `, `, or `. ` where each is a sentence.
        question: What follows the facts, up to the word before the answer; it names `{label}`.
        starts_high: Whether a text begins with a capital letter.
        labels: What may stand for a label.
        objects: What may stand for an object.
        stages: What a circuit is searched along, unless a run says otherwise.
    """

    name: str
    form: str
    longer: str
    reordered: str
    denied: str
    with_comma: str
    separator: str = ", "
    question: str = "Box {label} contains the"
    starts_high: bool = True
    labels: tuple[str, ...] = LABELS
    objects: tuple[str, ...] = OBJECTS
    stages: tuple[Stage, ...] = field(default=PAPER_STAGES, compare=False, repr=False)

    @property
    def most(self) -> int:
        """Facts of a context that leave as many others for a counterfactual, and one more."""
        return (min(len(self.labels), len(self.objects)) - 1) // 2

    @property
    def has_sentences(self) -> bool:
        """Whether each fact is a sentence of its own."""
        return self.separator.startswith(".")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What reads a fact, at the start of a sentence or within it."""
        pattern, first = _reading(self.form), self.form[0]
        return re.compile(f"[{first.upper()}{first.lower()}]{pattern[1:]}" if first.islower() else pattern)

    @cached_property
    def text_pattern(self) -> re.Pattern[str]:
        """What reads a whole text: its `context`, its question's label and, if it is there, the `answer`."""
        return re.compile(rf"(?P<context>.*)\. {_reading(self.question)}(?: (?P<answer>[\w-]+))?")

    @property
    def shown(self) -> str:
        """The form as messages show it: `the OBJECT is in Box LABEL`, or as a sentence with its dot."""
        shown = self.form.format(object="OBJECT", label="LABEL")
        return f"{capitalised(shown)}." if self.has_sentences else shown

    @property
    def question_shown(self) -> str:
        """The question as messages show it: `Box LABEL contains the`."""
        return self.question.format(label="LABEL")


_OBJECT_FIRST: dict[str, Any] = {
    "form": "the {object} is in Box {label}",
    "longer": "the {object} is contained in the Box {label}",
    "reordered": "Box {label} contains the {object}",
    "denied": "the {object} is not in Box {label}",
    "with_comma": "the {object}, is in Box {label}",
}
_LABEL_FIRST: dict[str, Any] = {
    "form": "Box {label} contains the {object}",
    "longer": "Box {label} is a box containing the {object}",
    "reordered": "the {object} is in Box {label}",
    "denied": "Box {label} does not contain the {object}",
    "with_comma": "Box {label}, contains the {object}",
}
PHRASINGS: Mapping[str, Phrasing] = {
    phrasing.name: phrasing
    for phrasing in (
        Phrasing("object_first", **_OBJECT_FIRST),
        Phrasing("label_first", **_LABEL_FIRST, stages=LABEL_FIRST_STAGES),
        Phrasing("sentences", **_OBJECT_FIRST, separator=". "),
        Phrasing(
            "question",
            **_LABEL_FIRST,
            separator=". ",
            question="Question: What does Box {label} contain? Answer: The",
        ),
    )
}
OBJECT_FIRST: Phrasing = PHRASINGS["object_first"]
"""The paper's, and what is meant where none is named."""


def fill(form: str, word: str = "", label: str = "") -> tuple[str, list[tuple[str, Span]]]:
    """A form with an object and a letter in it, and where in it its words are.

    Words are named after themselves, the object and the letter `object` and `label`, and a mark after the word that it
    follows: `after object`.
    """
    text, places, end, before = "", list[tuple[str, Span]](), 0, ""
    values = {OBJECT: word, LABEL: label}
    for match in _WORD.finditer(form):
        text += form[end : match.start()]
        piece, name = values[match[1]] if match[1] else match[0], match[1] or match[0]
        name = name if name.isidentifier() else f"after {before}"
        places.append((name, (len(text), len(text) + len(piece))))
        text, end, before = text + piece, match.end(), name
    return text + form[end:], places


def capitalised(sentence: str) -> str:
    """A sentence that begins with a capital letter."""
    return sentence[:1].upper() + sentence[1:]


def _reading(form: str) -> str:
    """The pattern that reads a form."""
    pieces = _SLOT.split(form)  # texts, with names of slots between them
    return "".join(f"(?P<{piece}>{_SLOTS[piece]})" if odd % 2 else re.escape(piece) for odd, piece in enumerate(pieces))
