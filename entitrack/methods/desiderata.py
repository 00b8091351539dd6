"""Which questions can be asked of a group of heads? One example pair of each desideratum (paper, section 5)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from entitrack.core.table import Cell, Table
from entitrack.errors import UserError
from entitrack.limits import MethodSettings, limited
from entitrack.methods.experiment import Experiment
from entitrack.methods.pairs import box_prompts, draw_pairs, task_compat
from entitrack.tasks.desiderata import Desideratum, DesideratumPair, find_desiderata


@dataclass
class Settings(MethodSettings):
    """Settings of `method=desiderata`.

    Attributes:
        desiderata: Names, `paper`, `extra` or `all`, or `module:Class` for one's own.
        prompt: Number of the clean prompt to show, from 0.
    """

    desiderata: list[str] = field(default_factory=lambda: ["all"])
    prompt: int = limited(0, least=0)


@dataclass(frozen=True)
class DesiderataResult:
    """An example of every desideratum.

    Attributes:
        meanings: Desideratum -> what it says, in words.
        examples: Desideratum -> a pair.
    """

    meanings: dict[str, str]
    examples: dict[str, DesideratumPair]

    @property
    def tables(self) -> Sequence[Table]:
        """Four lines each: meaning, clean prompt, counterfactual, target."""
        rows: list[tuple[Cell, ...]] = []
        for name, pair in self.examples.items():
            rows.append((name, "meaning", self.meanings[name]))
            rows.append(("", "clean", f"{pair.clean.text} -> {pair.clean.answer}"))
            rows.append(("", "counterfactual", pair.counterfactual.text))
            rows.append(("", "target", pair.target))
        return (Table("Desiderata", ("desideratum", "", "text"), tuple(rows)),)

    @property
    def notes(self) -> Sequence[str]:
        """What target means."""
        return ("target: the answer to the clean prompt once the counterfactual's activations are in it",)

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Nothing is measured but how many there are."""
        return {"count": torch.tensor(len(self.examples))}


def run(experiment: Experiment, settings: Settings) -> DesiderataResult:
    """Draw one pair of each desideratum. No model is run."""
    rules = find_desiderata(settings.desiderata)
    prompts, compat = box_prompts(experiment), task_compat(experiment)
    if settings.prompt >= len(prompts):
        raise UserError("method.prompt", f"there is no prompt {settings.prompt}", [f"0 to {len(prompts) - 1}"])
    examples = {rule.name: draw_pairs(rule, prompts, experiment.seed, compat)[settings.prompt] for rule in rules}
    return DesiderataResult({rule.name: _meaning(rule) for rule in rules}, examples)


def _meaning(rule: Desideratum) -> str:
    """The first paragraph of a desideratum's docstring."""
    return " ".join((inspect.getdoc(type(rule)) or "").split("\n\n")[0].split())
