"""What code of one's own gives as prompts, checked before a model sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entitrack.core.errors import quoted
from entitrack.tasks.protocol import Prompt, role_spans


def check_prompt(part: str, prompt: Prompt) -> None:
    """Refuse what a prompt cannot hold.

    Args:
        part: Which prompt it is, such as `clean`.
        prompt: Anything.

    Raises:
        AttributeError: A part is missing.
        TypeError: A part is of another type.
        ValueError: A part has what it cannot have.
    """
    if not isinstance(prompt.text, str) or not prompt.text:
        raise TypeError(f"the text of its {part} prompt is {quoted(prompt.text)}")
    check_word(f"answer of its {part} prompt", prompt.answer)
    if type(prompt.cluster) is not int or not isinstance(prompt.facets, Mapping):
        raise TypeError(f"its {part} prompt has the cluster {quoted(prompt.cluster)}, facets {quoted(prompt.facets)}")
    for role, span in role_spans(prompt).items():
        start, end = span
        if not (type(start) is int and type(end) is int and 0 <= start < end <= len(prompt.text)):
            raise ValueError(f"role {quoted(role)} of its {part} prompt is at {quoted(span)}")


def check_word(part: str, word: Any) -> None:
    """Refuse what is not one word.

    Raises:
        ValueError: It says what it is instead.
    """
    if not isinstance(word, str) or word.split() != [word]:
        raise ValueError(f"its {part} is {quoted(word)}, not one word")
