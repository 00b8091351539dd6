"""What the paper says of its task: roles, stages, edges and desiderata, for every source of box prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from entitrack.core.facets import FacetWords
from entitrack.core.quirks import QUIRKS, Quirk
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.base import TaskBase
from entitrack.tasks.boxes.desiderata import DESIDERATA, EXTRA, PAPER
from entitrack.tasks.boxes.prompts import ROLES, BoxesPrompt
from entitrack.tasks.protocol import CORRECT_OBJECT, LAST, PREV_QUERY_LABEL, QUERY_LABEL, Desideratum

STAGES = (
    Stage(name="value_fetcher", role=LAST, size=6),
    Stage(name="pos_transmitter", role=LAST, component="q", receivers="value_fetcher"),
    Stage(name="pos_detector", role=QUERY_LABEL, component="v", receivers="pos_transmitter"),
    Stage(name="struct_reader", role=PREV_QUERY_LABEL, component="v", receivers="pos_detector"),
)
EDGES = (
    Edge(source=LAST, target=CORRECT_OBJECT),
    Edge(source=LAST, target=QUERY_LABEL),
    Edge(source=QUERY_LABEL, target=PREV_QUERY_LABEL),
)
FACETS = {
    "boxes": FacetWords("context", "boxes", "{} boxes"),
    "query": FacetWords("position", "position of the queried box", "box {}", first=1),
}
DESIDERATUM_SETS = {
    "paper": tuple(rule.name for rule in PAPER),
    "extra": tuple(rule.name for rule in EXTRA),
    "all": tuple(DESIDERATA),
}


class PaperTask(TaskBase):
    """Base of tasks whose prompts are about boxes (sections 3 to 5 of the paper)."""

    stages: ClassVar[Sequence[Stage]] = STAGES
    edges: ClassVar[Sequence[Edge]] = EDGES
    facets: ClassVar[Mapping[str, FacetWords]] = FACETS
    desiderata: ClassVar[Sequence[Desideratum]] = tuple(DESIDERATA.values())
    desideratum_sets: ClassVar[Mapping[str, Sequence[str]]] = DESIDERATUM_SETS
    quirks: ClassVar[Collection[Quirk]] = tuple(quirk for quirk in Quirk if QUIRKS[quirk].of_prompts)

    @property
    def roles(self) -> Sequence[str]:
        """The paper's four positions."""
        return ROLES

    def elsewhere(self, prompt: BoxesPrompt) -> list[BoxesPrompt]:
        """The prompt with its roles at each of its boxes; see `entitrack.tasks.protocol.Published`."""
        return [replace(prompt, query=box) for box in range(len(prompt.context.boxes))]
