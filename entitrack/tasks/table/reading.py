"""A row as prompts: what its columns say, checked, with the row named where they do not.

A cell of spans is an object, role -> where it is: `[start, end]` in characters of the prompt, or the words themselves
where they stand there once. In a csv file, which has no objects and lists, they are written as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entitrack.core.errors import quoted, shown
from entitrack.core.names import check_name
from entitrack.disk.reading import parse_object
from entitrack.tasks.protocol import LAST, Span
from entitrack.tasks.rows import Row
from entitrack.tasks.writing import TextPrompt

FIX = 'a line looks like {"prompt": "The capital of France is", "answer": "Paris", "spans": {"subject": "France"}}'


_LARGEST = 1 << 63
"""What a tensor of whole numbers holds."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns that prompts are read from; see `entitrack.tasks.table.task.Table`."""

    prompt: str
    answer: str
    counterfactual: str
    counterfactual_answer: str
    spans: str
    counterfactual_spans: str
    alternatives: str
    context: str
    by: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TablePrompt(TextPrompt):
    """What a row says: a prompt, and its counterfactual where there is one.

    Attributes:
        counterfactual: The prompt whose activations are patched into it.
        context: What prompts of one context share; the prompt's own text where no column says it.
    """

    counterfactual: TextPrompt | None = None
    context: str = ""


def read_prompt(row: Row, columns: Columns, clusters: dict[str, int]) -> TablePrompt:
    """A row as a prompt with its counterfactual.

    Args:
        row: The row.
        columns: Where what is.
        clusters: Context -> its number; a new one is added.

    Raises:
        UserError: Naming the row and the column.
    """
    text, answer = _text(row, columns.prompt), _word(row, columns.answer)
    spans, alternatives = _spans(row, columns.spans, text), _words(row, columns.alternatives)
    if answer in alternatives:
        raise row.wrong(f"{columns.alternatives} has the answer {quoted(answer)}")
    context = _text(row, columns.context) if _has(row, columns.context) else text
    return TablePrompt(
        text=text,
        answer=answer,
        spans=spans,
        facets={facet: _number(row, facet) for facet in columns.by},
        cluster=clusters.setdefault(context, len(clusters)),
        origin=row.place,
        alternatives=alternatives,
        template={role: [span] for role, span in spans.items()},
        counterfactual=_counterfactual(row, columns, spans, answer),
        context=context,
    )


def _counterfactual(row: Row, columns: Columns, roles: Collection[str], answer: str) -> TextPrompt | None:
    """The counterfactual of a row, with the roles of the clean prompt; its answer is that one's where none is said."""
    if not _has(row, columns.counterfactual):
        return None
    text = _text(row, columns.counterfactual)
    spans = _spans(row, columns.counterfactual_spans, text)
    missing = [role for role in roles if role not in spans]
    if missing:
        raise row.wrong(f"{columns.counterfactual_spans} does not have the role {missing[0]!r} that the prompt has")
    own = _word(row, columns.counterfactual_answer) if _has(row, columns.counterfactual_answer) else answer
    return TextPrompt(text, own, spans, origin=f"{row.place}, {columns.counterfactual}")


def _has(row: Row, column: str) -> bool:
    """Whether a row says something in a column; an empty cell of a csv file says nothing."""
    return row.values.get(column) not in (None, "")


def _text(row: Row, column: str) -> str:
    found = row.text(column)
    if not found.strip():
        raise row.wrong(f"{column} is empty")
    return _readable(row, column, found)


def _readable(row: Row, column: str, text: str) -> str:
    """The text, unless it has what no tokenizer takes: half of a surrogate pair, which JSON can write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise row.wrong(f"{column} is not text in UTF-8 ({error.reason})") from error
    return text


def _word(row: Row, column: str) -> str:
    return _one_word(row, column, row.text(column))


def _one_word(row: Row, column: str, value: Any) -> str:
    """One word; a space before it, as tokenizers have it, is left out."""
    if not isinstance(value, str) or len(value.split()) != 1:
        raise row.wrong(f"{column} is {quoted(value)}, not one word")
    return _readable(row, column, value.strip())


def _words(row: Row, column: str) -> Sequence[str]:
    """A list of different words, none where the row has none."""
    if not _has(row, column):
        return ()
    found = _structured(row, column)
    if not isinstance(found, list):
        raise row.wrong(f"{column} is {quoted(found)}, not a list of words")
    words = tuple(_one_word(row, column, word) for word in found)
    if len(set(words)) < len(words):
        raise row.wrong(f"{column} has a word twice")
    return words


def _number(row: Row, column: str) -> int:
    found = row.values.get(column)
    if type(found) is not int or not -_LARGEST <= found < _LARGEST:
        raise row.wrong(f"{column} is {shown(found)}, not a whole number below 2**63")
    return found


def _spans(row: Row, column: str, text: str) -> Mapping[str, Span]:
    """Role -> where it is in a text."""
    if not _has(row, column):
        return {}
    found = _structured(row, column)
    if not isinstance(found, Mapping):
        raise row.wrong(f"{column} is {quoted(found)}, not an object of roles")
    # Tables have every role in every row: one that is not there is null.
    spans = {}
    for role, where in found.items():
        if where is None:
            continue
        check_name(role, f"{row.place}, {column}")
        if role == LAST:
            raise row.wrong(f"{column} has the role 'last', which is the last token of every prompt")
        spans[str(role)] = _span(row, f"{column}, role {role!r}", where, text)
    return spans


def _span(row: Row, place: str, where: Any, text: str) -> Span:
    """Characters of a text, by their numbers or by what they are."""
    if isinstance(where, str):
        places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(where)}(?!\w)", text)] if where else []
        if len(places) != 1:
            often = "is not in the prompt" if not places else f"stands in the prompt {len(places)} times"
            raise row.wrong(f"{place}: {quoted(where)} {often}; give [start, end] in characters")
        return places[0], places[0] + len(where)
    whole = isinstance(where, (list, tuple)) and len(where) == 2 and all(type(end) is int for end in where)
    if not whole or not 0 <= where[0] < where[1] <= len(text):
        problem = f"{place} is at {quoted(where)}, not [start, end] within the {len(text)} characters of the prompt"
        raise row.wrong(problem)
    return where[0], where[1]


def _structured(row: Row, column: str) -> Any:
    """A cell with a list or an object, which csv files write as JSON."""
    found = row.values[column]
    if not isinstance(found, str):
        return found
    try:
        return parse_object(f'{{"cell": {found}}}')["cell"]
    except ValueError as error:
        raise row.wrong(f"{column} is {quoted(found)}, which is not JSON") from error
