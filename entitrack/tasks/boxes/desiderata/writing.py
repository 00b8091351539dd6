"""Box prompts in other words than the usual, with their places still known."""

from __future__ import annotations

from entitrack.tasks.boxes.prompts import BoxesPrompt
from entitrack.tasks.boxes.wording import Segment, put_into_words
from entitrack.tasks.writing import TextPrompt


def write(
    prompt: BoxesPrompt,
    form: str | None = None,
    asked_form: str | None = None,
    before: str = "",
    after: str = "",
    separator: str | None = None,
) -> TextPrompt:
    """Put a prompt into other words.

    Args:
        prompt: What it says.
        form: How a box is written: names `{object}` and `{label}`; as the prompt does when not given.
        asked_form: How the box that is asked for is written; as the others when not given.
        before: A segment to put first; it has no box of the prompt's.
        after: A segment to put last.
        separator: What stands between segments; as in the prompt when not given.
    """
    first, last = ([Segment(text)] if text else [] for text in (before, after))
    segments = [*first, *prompt.segments(form, asked_form), *last]
    wording = put_into_words(segments, prompt.label, prompt.phrasing, prompt.examples, separator)
    return TextPrompt(
        text=wording.text,
        answer=prompt.answer,
        spans=wording.spans,
        facets=prompt.facets,
        cluster=prompt.cluster,
        origin=prompt.origin,
        template=wording.template,
    )
