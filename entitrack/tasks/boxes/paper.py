"""What the paper says of its task: roles, stages, edges and desiderata, for every source of box prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from entitrack.core.errors import UserError
from entitrack.core.facets import FacetWords
from entitrack.core.quirks import QUIRKS, Quirk
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.base import TaskBase
from entitrack.tasks.boxes.desiderata import DESIDERATA, EXTRA, PAPER, BoxLabelValue
from entitrack.tasks.boxes.phrasings import Phrasing
from entitrack.tasks.boxes.prompts import ROLES, BoxesPrompt
from entitrack.tasks.protocol import (
    CONTENT,
    CORRECT_OBJECT,
    LAST,
    LETTER,
    POSITION,
    PREV_QUERY_LABEL,
    QUERY_LABEL,
    ApartPair,
    Desideratum,
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

    edges: ClassVar[Sequence[Edge]] = EDGES
    facets: ClassVar[Mapping[str, FacetWords]] = FACETS
    desiderata: ClassVar[Sequence[Desideratum]] = tuple(DESIDERATA.values())
    desideratum_sets: ClassVar[Mapping[str, Sequence[str]]] = DESIDERATUM_SETS
    quirks: ClassVar[Collection[Quirk]] = tuple(quirk for quirk in Quirk if QUIRKS[quirk].of_prompts)

    def prompts(self) -> Sequence[BoxesPrompt]:
        """The clean prompts."""
        raise NotImplementedError

    @property
    def stages(self) -> Sequence[Stage]:  # type: ignore[override]
        """Those of its phrasing: where facts are put otherwise, other places of a template do the work."""
        return self.worded.stages

    @property
    def worded(self) -> Phrasing:
        """How its facts are put into words: as in its first prompt."""
        return self.prompts()[0].phrasing

    @property
    def roles(self) -> Sequence[str]:
        """The paper's four positions."""
        return ROLES

    def apart(self, seed: int) -> list[ApartPair]:
        """See `entitrack.tasks.protocol.Separable`.

        The counterfactual shares one letter with the clean context: that of a box which is neither the one asked for
        nor at the position that the counterfactual asks for; its objects are others.
        """
        pairs = []
        for pair in BoxLabelValue().pairs(self.prompts(), seed):
            clean, other = pair.clean, pair.counterfactual
            assert isinstance(clean, BoxesPrompt)
            assert isinstance(other, BoxesPrompt)
            if other.query == clean.query:
                raise UserError(
                    "task", f"{len(clean.context.boxes)} things are too few to pull apart", fix="use three or more"
                )
            readings = {POSITION: clean.context.boxes[other.query].object, LETTER: pair.target, CONTENT: other.answer}
            pairs.append(ApartPair(clean, other, readings, other.query))
        return pairs

    def elsewhere(self, prompt: BoxesPrompt) -> list[BoxesPrompt]:
        """The prompt with its roles at each of its boxes; see `entitrack.tasks.protocol.Published`."""
        return [replace(prompt, query=box) for box in range(len(prompt.context.boxes))]
