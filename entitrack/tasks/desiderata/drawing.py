"""Drawing the pairs of a desideratum, which may be one's own: what it gives is checked before a model sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from entitrack.core.errors import UserError, quoted, reason
from entitrack.tasks.boxes import BoxesPrompt
from entitrack.tasks.desiderata.pairs import Desideratum, DesideratumPair
from entitrack.tasks.prompts import Prompt


def draw_pairs(
    rule: Desideratum, prompts: Sequence[BoxesPrompt], seed: int, compat: str, place: str = "method.desiderata"
) -> list[DesideratumPair]:
    """A desideratum's pairs, one for each prompt.

    Raises:
        UserError: The desideratum fails, gives another number of pairs, or gives what is no pair: it is named.
    """
    named = f"desideratum {rule.name!r}"
    try:
        pairs: Any = rule.pairs(prompts, seed, compat)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(place, f"{named} gives no pairs ({reason(error)})") from error
    if not isinstance(pairs, Sequence):
        raise UserError(place, f"{named} gives {quoted(pairs)}, not a list of pairs")
    if len(pairs) != len(prompts):
        raise UserError(place, f"{named} gives {len(pairs)} pairs for {len(prompts)} prompts")
    for number, pair in enumerate(pairs):
        try:
            _check_pair(pair)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(place, f"pair {number} of {named} is no pair ({reason(error)})") from error
    return list(pairs)


def _check_pair(pair: Any) -> None:
    """Refuse what a pair cannot hold.

    Raises:
        AttributeError: A part is missing.
        TypeError: A part is of another type.
        ValueError: A part has what it cannot have.
    """
    _check_prompt("clean", pair.clean)
    _check_prompt("counterfactual", pair.counterfactual)
    _check_word("target", pair.target)


def _check_prompt(part: str, prompt: Prompt) -> None:
    if not isinstance(prompt.text, str) or not prompt.text:
        raise TypeError(f"the text of its {part} prompt is {quoted(prompt.text)}")
    _check_word(f"answer of its {part} prompt", prompt.answer)
    if type(prompt.cluster) is not int or not isinstance(prompt.facets, Mapping):
        raise TypeError(f"its {part} prompt has the cluster {quoted(prompt.cluster)}, facets {quoted(prompt.facets)}")
    for role, span in prompt.spans.items():
        start, end = span
        if not (type(start) is int and type(end) is int and 0 <= start < end <= len(prompt.text)):
            raise ValueError(f"role {quoted(role)} of its {part} prompt is at {quoted(span)}")


def _check_word(part: str, word: Any) -> None:
    if not isinstance(word, str) or word.split() != [word]:
        raise ValueError(f"its {part} is {quoted(word)}, not one word")
