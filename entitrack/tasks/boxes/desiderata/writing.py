"""Box prompts in other words than the usual, with their roles still known."""

from __future__ import annotations

from entitrack.tasks.boxes.prompts import BoxesPrompt
from entitrack.tasks.protocol import CORRECT_OBJECT, PREV_QUERY_LABEL, QUERY_LABEL, Span
from entitrack.tasks.writing import TextPrompt

FORM = "the {object} is in Box {label}"
SEPARATOR = ", "


def write(
    prompt: BoxesPrompt,
    form: str = FORM,
    asked_form: str | None = None,
    before: str = "",
    after: str = "",
    separator: str = SEPARATOR,
) -> TextPrompt:
    """Put a prompt into other words.

    Args:
        prompt: What it says.
        form: How a box is written: names `{object}` and `{label}`.
        asked_form: How the box that is asked for is written; as the others when not given.
        before: A segment to put first; it has no box of the prompt's.
        after: A segment to put last.
        separator: What stands between segments.
    """
    text = before + separator if before else ""
    spans: dict[str, Span] = {}
    for number, box in enumerate(prompt.context.boxes):
        asked = number == prompt.query
        segment, inside = _fill(asked_form if asked and asked_form else form, box.object, box.label)
        if asked:
            spans = {role: (len(text) + start, len(text) + end) for role, (start, end) in inside.items()}
        text += segment + (separator if number + 1 < len(prompt.context.boxes) else "")
    text += f"{separator}{after}" if after else ""
    start = len(text) + len(". Box ")
    spans[QUERY_LABEL] = (start, start + len(prompt.label))
    text = f"{text[:1].upper()}{text[1:]}. Box {prompt.label} contains the"
    return TextPrompt(text, prompt.answer, spans, prompt.facets, prompt.cluster, prompt.origin)


def _fill(form: str, word: str, label: str) -> tuple[str, dict[str, Span]]:
    """A segment, and where the object and the letter are in it."""
    object_at, label_at = form.index("{object}"), form.index("{label}")
    object_at, label_at = (
        object_at + (len(label) - len("{label}") if label_at < object_at else 0),
        label_at + (len(word) - len("{object}") if object_at < label_at else 0),
    )
    spans = {
        CORRECT_OBJECT: (object_at, object_at + len(word)),
        PREV_QUERY_LABEL: (label_at, label_at + len(label)),
    }
    return form.format(object=word, label=label), spans
