"""The words of bindings.

capitals   B = 7, K = 4. K =            -> 4       (words that the embedded families know)
letters    b = 7, k = 4. k =            -> 4       (what donors are tuned on, without the sums)
names      Ann is from Spain, Ben is from Japan. Ben is from   -> Japan

Where a value is a number the prompt ends in a space: the tokenizers of SmolLM2 and Gemma make a token of it, with which
all answers would begin.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Literal

from entitrack.tasks.boxes.phrasings import Phrasing

FormName = Literal["capitals", "letters", "names"]

DIGITS = tuple(string.digits)
NAMES = tuple(
    """
    Alice Anna Ben Bob Carl David Emma Frank George Henry Jack James John Kate Laura Mark Mary Mike Nick Paul Peter Rose
    Sam Sarah Tom Will
    """.split()
)
"""First names: one token each under the tokenizers in use."""
COUNTRIES = tuple(
    """
    Australia Austria Belgium Brazil Canada Chile China Cuba Denmark Egypt England France Germany Greece India Iran Iraq
    Ireland Israel Italy Japan Kenya Korea Mexico Norway Poland Russia Spain Sweden Turkey
    """.split()
)


def _said(name: FormName, fact: str, labels: tuple[str, ...], objects: tuple[str, ...], end: str) -> Phrasing:
    """A phrasing of which only the usual form is used: desiderata that reword facts are about boxes."""
    question = fact.removesuffix("{object}").rstrip() + end
    return Phrasing(name, fact, fact, fact, fact, fact, ", ", question, False, labels, objects)


FORMS: Mapping[FormName, Phrasing] = {
    "capitals": _said("capitals", "{label} = {object}", tuple(string.ascii_uppercase), DIGITS, " "),
    "letters": _said("letters", "{label} = {object}", tuple(string.ascii_lowercase), DIGITS, " "),
    "names": _said("names", "{label} is from {object}", NAMES, COUNTRIES, ""),
}
