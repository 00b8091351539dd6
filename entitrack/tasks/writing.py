"""Prompts that are given as text, with the places in it that a task names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from entitrack.tasks.protocol import Prompt, Span


@dataclass(frozen=True)
class TextPrompt:
    """A prompt whose text is given; see `entitrack.tasks.protocol.Prompt` and `Question`."""

    text: str
    answer: str
    spans: Mapping[str, Span] = field(default_factory=dict)
    facets: Mapping[str, int] = field(default_factory=dict)
    cluster: int = 0
    origin: str = field(default="", compare=False)
    alternatives: Sequence[str] = ()
    template: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    def __hash__(self) -> int:
        """By what is read and answered: mappings have no hash."""
        return hash((self.text, self.answer))


def written(
    parts: Iterable[str | tuple[str, str]],
    answer: str,
    alternatives: Sequence[str] = (),
    facets: Mapping[str, int] | None = None,
    cluster: int = 0,
) -> TextPrompt:
    """A prompt put together from its parts.

    Args:
        parts: Texts, spaces included, and `(place, text)` where the text is a place of the template. A place that
            stands once is a position role.
        answer: The word that should follow.
        alternatives: The other answers that the context offers.
        facets: What results are broken down by.
        cluster: Number of the context.
    """
    text, template = "", dict[str, list[Span]]()
    for part in parts:
        place, words = part if isinstance(part, tuple) else ("", part)
        if place:
            template.setdefault(place, []).append((len(text), len(text) + len(words)))
        text += words
    spans = {place: found[0] for place, found in template.items() if len(found) == 1}
    return TextPrompt(text, answer, spans, facets or {}, cluster, alternatives=alternatives, template=template)


def aim(prompt: Prompt, target: str) -> TextPrompt:
    """The same prompt with another answer counted as right."""
    origin, template = str(getattr(prompt, "origin", "")), getattr(prompt, "template", {})
    return TextPrompt(prompt.text, target, prompt.spans, prompt.facets, prompt.cluster, origin, template=template)
