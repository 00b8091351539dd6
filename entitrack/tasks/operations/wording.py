"""Operations in words, with the places of objects and letters.

imperative   Box A contains the apple, Box B contains the key. Swap the apple in Box A with the key in Box B. Box A
             contains the
passive      The apple is in Box A, the key is in Box B. The apple is put into Box B and the key into Box A. Box A
             contains the   (words that the embedded families know)

A place is named after what it is said of: `fact object`, `move label` (the box that is moved to), `swap source`,
`question label`, ... Every prompt of a task has the same places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Literal

from entitrack.tasks.boxes.phrasings import capitalised
from entitrack.tasks.operations.world import KINDS, Kind, Operation, OperationsContext
from entitrack.tasks.protocol import CORRECT_OBJECT, PREV_QUERY_LABEL, QUERY_LABEL
from entitrack.tasks.writing import TextPrompt, written

Part = str | tuple[str, str]
WordingName = Literal["imperative", "passive"]


@dataclass(frozen=True)
class Wording:
    """How a context is told.

    Attributes:
        fact: What is in a box at first.
        operations: What happens to one: `{object}`, `{label}`, and of the other box `{source}` and `{other}`.
    """

    fact: str
    operations: Mapping[Kind, str]


QUESTION = "Box {label} contains the"
WORDINGS: Mapping[WordingName, Wording] = {
    "imperative": Wording(
        "Box {label} contains the {object}",
        {
            "put": "Put the {object} into Box {label}",
            "remove": "Remove the {object} from Box {label}",
            "move": "Move the {object} from Box {source} to Box {label}",
            "swap": "Swap the {object} in Box {label} with the {other} in Box {source}",
        },
    ),
    "passive": Wording(
        "the {object} is in Box {label}",
        {
            "put": "The {object} is put into Box {label}",
            "remove": "The {object} is not in Box {label}",
            "move": "The {object} is put from Box {source} into Box {label}",
            "swap": "The {object} is put into Box {source} and the {other} into Box {label}",
        },
    ),
}


NOWHERE = OperationsContext(0, (), (), ())
"""What a prompt has that was given none."""


@dataclass(frozen=True, eq=False)
class OperationsPrompt(TextPrompt):
    """A context and a question about it.

    Attributes:
        context: What is where, and what happens.
        query: The box that is asked for; the roles `prev_query_label` and `correct_object` are where its letter and its
            object were named last.
    """

    context: OperationsContext = NOWHERE
    query: int = 0


def context_text(context: OperationsContext, wording: Wording) -> str:
    """All but the question."""
    return "".join(part if isinstance(part, str) else part[1] for part in _context_parts(context, wording))


def ask(
    context: OperationsContext, query: int, wording: WordingName, label: str = "", cluster: int = 0, origin: str = ""
) -> OperationsPrompt:
    """A context with a question.

    Args:
        context: What is where, and what happens.
        query: The box that is asked for.
        wording: How it is told.
        label: The letter in the question; empty: that box's own.
        cluster: Number of the context.
        origin: Where it comes from.
    """
    parts = [*_context_parts(context, WORDINGS[wording]), ". "]
    parts += _filled(QUESTION, "question", {"label": label or context.labels[query]})
    answer, own = context.answer(query), context.labels[query]
    offered = tuple(word for word in context.words if word != answer)
    touching = context.touching(query)
    facets = {"touches": len(touching), "last": 1 + KINDS.index(touching[-1].kind) if touching else 0}
    text = written(parts, answer, offered, facets, cluster)
    named = {name: spans for name, spans in text.template.items() if not name.startswith("question")}
    every = [span for spans in named.values() for span in spans]
    last = {
        word: max(span for span in every if text.text[slice(*span)] == word) for word in dict.fromkeys((own, answer))
    }
    roles = {PREV_QUERY_LABEL: last[own], CORRECT_OBJECT: last[answer], QUERY_LABEL: text.spans["question label"]}
    return OperationsPrompt(
        text.text, answer, {**roles, **text.spans}, facets, cluster, origin, offered, text.template, context, query
    )


def _context_parts(context: OperationsContext, wording: Wording) -> list[Part]:
    """The context, its places named."""
    parts: list[Part] = []
    for box in range(context.filled):
        form = wording.fact if parts else capitalised(wording.fact)
        values = {"object": context.words[box], "label": context.labels[box]}
        parts += [*([", "] if parts else []), *_filled(form, "fact", values)]
    for operation in context.operations:
        parts += [". ", *_filled(wording.operations[operation.kind], operation.kind, _values(context, operation))]
    return parts


def _values(context: OperationsContext, operation: Operation) -> dict[str, str]:
    """What is named of an operation."""
    values = {"object": context.words[operation.object], "label": context.labels[operation.box]}
    if operation.source is not None:
        values["source"] = context.labels[operation.source]
    if operation.other is not None:
        values["other"] = context.words[operation.other]
    return values


def _filled(form: str, whose: str, values: Mapping[str, str]) -> list[Part]:
    """A form with its words as places."""
    parts: list[Part] = []
    for literal, name, _, _ in Formatter().parse(form):
        parts += [literal] if literal else []
        parts += [(f"{whose} {name}", values[name])] if name else []
    return parts
