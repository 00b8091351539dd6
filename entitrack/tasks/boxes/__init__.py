"""The paper's task: which object is in the box that the question names? Generated, or from a file.

`Boxes` draws prompts, `BoxesFile` reads them; both have the paper's roles, stages, edges and desiderata (`paper`).
"""

from entitrack.tasks.boxes.contexts import count_contexts, draw_context, held_out
from entitrack.tasks.boxes.counterfactuals import background, counterfactual_pairs
from entitrack.tasks.boxes.file import BoxesFile
from entitrack.tasks.boxes.paper import PaperTask
from entitrack.tasks.boxes.phrasings import PHRASINGS, Phrasing
from entitrack.tasks.boxes.prompts import ROLES, Box, BoxesContext, BoxesPrompt
from entitrack.tasks.boxes.sentences import parse_sentence
from entitrack.tasks.boxes.task import Boxes
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS

__all__ = [
    "LABELS",
    "OBJECTS",
    "PHRASINGS",
    "ROLES",
    "Box",
    "Boxes",
    "BoxesContext",
    "BoxesFile",
    "BoxesPrompt",
    "PaperTask",
    "Phrasing",
    "background",
    "count_contexts",
    "counterfactual_pairs",
    "draw_context",
    "held_out",
    "parse_sentence",
]
