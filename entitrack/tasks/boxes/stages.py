"""What the circuits of box prompts are searched along, by phrasing."""

from __future__ import annotations

from entitrack.core.stages import Stage
from entitrack.tasks.protocol import LAST, PREV_QUERY_LABEL, QUERY_LABEL

_FETCHERS, _TRANSMITTERS = "value_fetcher", "pos_transmitter"
PAPER_STAGES: tuple[Stage, ...] = (
    Stage(name=_FETCHERS, role=LAST, size=6),
    Stage(name=_TRANSMITTERS, role=LAST, component="q", receivers=_FETCHERS),
    Stage(name="pos_detector", role=QUERY_LABEL, component="v", receivers=_TRANSMITTERS),
    Stage(name="struct_reader", role=PREV_QUERY_LABEL, component="v", receivers="pos_detector"),
)
"""The paper's four (section 4.1): the object comes first, and the letter's token follows it."""

_VERB, _QUERIED_VERB = "question contains", "queried contains"
_VERB_READERS = "verb_reader"
LABEL_FIRST_STAGES: tuple[Stage, ...] = (
    Stage(name=_FETCHERS, role=LAST, size=12),
    Stage(name=_TRANSMITTERS, role=LAST, component="q", receivers=_FETCHERS, size=12),
    Stage(name=_VERB_READERS, role=_VERB, component="v", receivers=_FETCHERS, size=12),
    Stage(name="verb_key", role=_VERB, component="k", receivers=_FETCHERS, size=12),
    Stage(name="pos_detector", role=QUERY_LABEL, component="v", receivers=_VERB_READERS, size=12),
    Stage(name="label_reader", role=QUERY_LABEL, component="v", receivers=_FETCHERS, size=12),
    Stage(name="struct_reader", role=_QUERIED_VERB, component="v", receivers=_VERB_READERS, size=12),
    Stage(name="struct_key", role=_QUERIED_VERB, component="k", receivers=_VERB_READERS, size=12),
    Stage(name="fetch_reader", role=_QUERIED_VERB, component="v", receivers=_FETCHERS, size=12),
    Stage(name="fetch_key", role=_QUERIED_VERB, component="k", receivers=_FETCHERS, size=12),
)
"""What Gemma 3 270M was seen to do (`method=positions`, then these): what a box has is read at the word after its
letter, `contains`, in the fact and in the question, and the last token fetches the object by both.
"""
