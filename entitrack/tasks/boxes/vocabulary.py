"""The words that the generator of box prompts draws from."""

from __future__ import annotations

import string

LABELS: tuple[str, ...] = tuple(string.ascii_uppercase)
"""Box labels: single capital letters, each one token under the tokenizers in use."""

OBJECTS: tuple[str, ...] = tuple(
    """
    apple bag ball bell bill block boat bomb book boot bottle branch bread brick brush bus cake camera
    candle card carpet chair chemical clock coat coffee computer cream creature cross crown cup desk dish
    document doll dress drink drug drum egg engine fan feather file fish flag flower fork game gift
    glass glove guitar hammer hat ice jacket key knife lamp leaf letter lock machine magazine magnet map
    meat medicine milk mirror needle newspaper note paint painting paper pen phone picture pipe plane
    plant plate pot radio ring rock rope rose seed sheet shell shirt shoe soap spoon stone string
    suit tea television ticket tie toy train watch wheel wire
    """.split()
)
"""Objects: common concrete nouns, one word each."""
