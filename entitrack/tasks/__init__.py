"""Tasks: prompts, their counterfactuals, and the position roles in them. One folder or one class a task.

A task of one's own is a class that derives from `TaskSettings` and gives `prompts()`; what else it gives (`pairs`,
`stages`, `edges`, `desiderata`, ...) decides which methods run on it without being told more. `task=my_tasks:Fruit`
takes it from the folder the program runs in.
"""

from pydantic import Field

from entitrack.core.facets import FacetWords
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.base import TaskBase, TaskSettings
from entitrack.tasks.protocol import Desideratum, DesideratumPair, Pair, Prompt, Question, Task
from entitrack.tasks.writing import TextPrompt, written

__all__ = [
    "Desideratum",
    "DesideratumPair",
    "Edge",
    "FacetWords",
    "Field",
    "Pair",
    "Prompt",
    "Question",
    "Stage",
    "Task",
    "TaskBase",
    "TaskSettings",
    "TextPrompt",
    "written",
]
