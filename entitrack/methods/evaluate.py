"""How well does each model track entities? (paper, section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.patching import answer
from entitrack.errors import UserError
from entitrack.limits import MethodSettings
from entitrack.methods.experiment import Cell, Experiment, Table, clusters, prompt_inputs
from entitrack.models.family import Model
from entitrack.stats import Estimate, estimate
from entitrack.tasks.boxes import Boxes, check_boxes
from entitrack.tasks.prompts import Prompt, Task


@dataclass
class Settings(MethodSettings):
    """Settings of `method=evaluate`.

    Attributes:
        models: Members of the family to evaluate; empty takes all.
        boxes: Numbers of boxes to generate prompts for; empty takes the task's own.
    """

    models: list[str] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Answers:
    """One model's answers to the prompts with one number of boxes.

    Attributes:
        model: Name of the model.
        boxes: Number of boxes in a context.
        query: Position of the queried box, per prompt.
        correct: Whether the most likely next token is the answer's first.
        probability: Probability of that token.
        clusters: Context of each prompt.
    """

    model: str
    boxes: int
    query: Int[Tensor, " prompt"]
    correct: Bool[Tensor, " prompt"]
    probability: Float[Tensor, " prompt"]
    clusters: Int[Tensor, " prompt"]

    def accuracy(self, query: int | None = None) -> Estimate:
        """Accuracy, of all prompts or of those that ask for one position."""
        chosen = slice(None) if query is None else self.query == query
        return estimate(self.correct[chosen].float(), self.clusters[chosen])


@dataclass(frozen=True)
class EvaluateResult:
    """Accuracy by model, number of boxes and query position."""

    answers: tuple[Answers, ...]

    @property
    def tables(self) -> Sequence[Table]:
        """Accuracy by model and number of boxes, and by query position."""
        boxes = sorted({found.boxes for found in self.answers})
        models = list(dict.fromkeys(found.model for found in self.answers))
        by_key = {(found.model, found.boxes): found for found in self.answers}
        overall: tuple[tuple[Cell, ...], ...] = tuple(
            (
                f"{count} boxes",
                *(by_key[model, count].accuracy() for model in models),
                len(by_key[models[0], count].correct),
            )
            for count in boxes
        )
        table = Table("Accuracy", ("context", *models, "n"), overall)
        return (table, *(self._by_query(models, count) for count in boxes))

    def _by_query(self, models: list[str], boxes: int) -> Table:
        own = {found.model: found for found in self.answers if found.boxes == boxes}
        asked = sorted({query for found in own.values() for query in found.query.tolist()})
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (f"box {query + 1}", *(own[model].accuracy(query) for model in models)) for query in asked
        )
        title = f"Accuracy by position of the queried box, {boxes} boxes"
        return Table(title, ("position", *models), rows)

    @property
    def notes(self) -> Sequence[str]:
        """How to read the tables."""
        return ("right = the answer's first token is the most likely one; 95 % intervals over contexts",)

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Right or wrong, per prompt."""
        return {f"{found.model}.{found.boxes}.correct": found.correct for found in self.answers}


def run(experiment: Experiment, settings: Settings) -> EvaluateResult:
    """Ask every model every prompt."""
    names = settings.models or list(experiment.family.members)
    answers = []
    for name in names:
        model = experiment.family.load(name, "method.models")
        for task in _tasks(experiment.task, settings.boxes):
            answers += _by_boxes(experiment, model, task.prompts())
    return EvaluateResult(tuple(answers))


def _tasks(task: Task, boxes: Sequence[int]) -> list[Task]:
    """The task, or one for each number of boxes asked for."""
    if not boxes:
        return [task]
    if not isinstance(task, Boxes):
        raise UserError("method.boxes", f"task {task.name!r} has its own prompts", fix="leave it empty")
    for count in boxes:
        check_boxes(count, "method.boxes")
    return [dataclasses.replace(task, boxes=count) for count in boxes]


def _by_boxes(experiment: Experiment, model: Model, prompts: Sequence[Prompt]) -> list[Answers]:
    """The answers of one model, split by number of boxes."""
    batches = experiment.encoded(prompts)
    inputs = [{"prompts": prompt_inputs(batch)} for batch in batches]
    outputs = list(experiment.sessions(model, answer, inputs, f"evaluate {model.name}"))
    correct = torch.cat([output["prediction"] for output in outputs]) == torch.cat([batch.answers for batch in batches])
    probability = torch.cat([output["probability"] for output in outputs])
    facets = {name: torch.tensor([prompt.facets[name] for prompt in prompts]) for name in ("boxes", "query")}
    found = []
    for boxes in facets["boxes"].unique().tolist():
        here = facets["boxes"] == boxes
        query = facets["query"][here]
        found.append(Answers(model.name, boxes, query, correct[here], probability[here], clusters(prompts)[here]))
    return found
