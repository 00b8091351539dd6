"""An example of every desideratum: clean prompt, counterfactual, target."""

from __future__ import annotations

import inspect

from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods.desiderata.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.tasks.desiderata import find_desiderata
from entitrack.tasks.protocol import Desideratum, DesideratumPair


def run(experiment: Experiment, settings: Settings) -> Result:
    """Draw one pair of each desideratum. No model is run, and nothing is measured.

    Raises:
        UserError: The task has no prompt of that number.
    """
    rules = find_desiderata(experiment.task, settings.desiderata)
    prompts = experiment.task.prompts()
    if settings.prompt >= len(prompts):
        raise UserError("method.prompt", f"there is no prompt {settings.prompt}", [f"0 to {len(prompts) - 1}"])
    pairs = [experiment.desideratum_pairs(rule)[settings.prompt] for rule in rules]
    examples = [_example(rule, pair) for rule, pair in zip(rules, pairs, strict=True)]
    return Result(
        method="desiderata", facts={"quirks": sorted(experiment.quirks), "examples": examples}, measurements={}
    )


def _example(rule: Desideratum, pair: DesideratumPair) -> dict[str, str]:
    """A pair in words; the meaning is the first paragraph of the desideratum's docstring."""
    return {
        "desideratum": rule.name,
        "meaning": " ".join((inspect.getdoc(type(rule)) or "").split("\n\n")[0].split()),
        "clean": pair.clean.text,
        "answer": pair.clean.answer,
        "counterfactual": pair.counterfactual.text,
        "target": pair.target,
    }
