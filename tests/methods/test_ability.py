"""No mechanism is looked for in a model that does not do the task; by numbers that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from entitrack.core.errors import UserError
from entitrack.core.settings import MethodSettings
from entitrack.core.statistics.estimates import is_above
from entitrack.methods import method_names, run_method, settings_of
from entitrack.methods.ability import Ability, require_ability
from entitrack.methods.experiment import Experiment
from entitrack.methods.mechanism_settings import MechanismSettings
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import Boxes

GUARDED = ("attribution", "binding", "dcm", "minimality", "path_patching", "positions", "stability", "transfer")
SMALL: dict[str, dict[str, Any]] = {
    "dcm": {"steps": 1, "desiderata": ["object_value"]},
    "minimality": {"mean_count": 14},
    "positions": {"mean_count": 14, "most": 1},
    "stability": {"seeds": [0], "halves": 0},
}


@pytest.fixture(scope="module")
def untrained(tiny_family: Family, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A model of random weights with the embedded family's words: 20 contexts of 3 boxes."""
    folder = tmp_path_factory.mktemp("untrained")
    config = tiny_family.load("llama").envoy._module.config
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_family.tokenizer.save_pretrained(folder)
    family = Family("tiny", "llama", {"llama": Checkpoint(str(folder))}, device="cpu")
    return Experiment(family, Boxes(count=60, boxes=3), Runner(Local()), batch_size=60)


def test_these_look_for_a_mechanism() -> None:
    guarded = [name for name in method_names() if issubclass(settings_of(name), MechanismSettings)]
    assert tuple(guarded) == GUARDED
    assert "force" not in MethodSettings.model_fields


@pytest.mark.parametrize("method", GUARDED)
def test_a_model_of_random_weights_is_refused_and_with_force_it_runs(method: str, untrained: Experiment) -> None:
    settings = SMALL.get(method, {}) | ({"prompts": "all"} if "prompts" in settings_of(method).model_fields else {})
    says = r"method\.force: there is no mechanism to look for: llama is at chance: accuracy 0\.\d+, among the words"
    counts = r"offered 0\.\d+, by chance 0\.333; \d+ of 20 contexts have a right answer, 60 prompts; ask for more"
    on = replace(untrained, runner=Runner(Local()))
    with pytest.raises(UserError, match=rf"^(search on seed 0: )?{says} {counts}") as error:
        run_method(method, on, settings_of(method)(**settings))
    assert "\n" not in str(error.value)
    asked = on.runner.cost.units
    assert asked <= 5, "it is said first"
    result = run_method(method, untrained, settings_of(method)(**{**settings, "force": True}))
    assert result.notes[0].startswith("warning: llama is at chance: accuracy 0.")
    assert result.facts["forced"] == [result.notes[0]]
    again = run_method(method, untrained, settings_of(method)(**{**settings, "force": True}))
    assert again.facts["forced"] == result.facts["forced"], "once a run"


def test_a_model_that_does_the_task_needs_no_force(tiny_family: Family) -> None:
    """And is asked its prompts once: the answers that the refusal goes by are those that choose the right prompts."""
    on = Experiment(tiny_family, Boxes(count=70), Runner(Local()), batch_size=70)
    stage: Any = [{"name": "value_fetcher", "role": "last"}]
    result = run_method("path_patching", on, settings_of("path_patching")(**{"stages": stage}))
    assert "forced" not in result.facts
    assert on.runner.cost.units == 2  # answers, and the stage


def ability(right: list[int], among: list[int] | None, contexts: list[int], boxes: int = 4) -> Ability:
    truths = None if among is None else torch.tensor(among).bool()
    chance = None if among is None else torch.full((len(right),), 1 / boxes)
    return Ability("m", torch.tensor(right).bool(), truths, chance, torch.tensor(contexts))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        # 12 contexts of 4 prompts; half of the answers are right: far above a quarter
        (ability([1, 0, 1, 0] * 12, [1, 0, 1, 0] * 12, [n // 4 for n in range(48)]), None),
        # a quarter is chance itself, however many contexts have a right answer
        (
            ability([1, 0, 0, 0] * 12, [1, 0, 0, 0] * 12, [n // 4 for n in range(48)]),
            "m is at chance: accuracy 0.250, among the words offered 0.250, by chance 0.250;"
            " 12 of 12 contexts have a right answer, 48 prompts",
        ),
        # all are right among the words offered, but over the vocabulary in nine contexts only
        (
            ability([1, 0, 0, 0] * 9 + [0] * 12, [1] * 48, [n // 4 for n in range(48)]),
            "m is right in fewer than 10 contexts: accuracy 0.188, among the words offered 1.000, by chance 0.250;"
            " 9 of 12 contexts have a right answer, 48 prompts",
        ),
        (ability([1, 0] * 10, None, list(range(20))), None),
        (
            ability([0] * 20, None, list(range(20))),
            "m is at chance: accuracy 0.000; 0 of 20 contexts have a right answer, 20 prompts",
        ),
        (
            ability([1] * 4, [1] * 4, [0] * 4),
            "m is right in fewer than 10 contexts: accuracy 1.000, among the words offered 1.000, by chance 0.250;"
            " 1 of 1 contexts have a right answer, 4 prompts",
        ),
    ],
)
def test_what_falls_short(told: Ability, says: str | None, golden_experiment: Experiment) -> None:
    assert told.shortfall == says
    if says is None:
        require_ability(golden_experiment, MechanismSettings(), told)
        assert golden_experiment.forced == []
        return
    with pytest.raises(UserError, match=r"^method\.force: "):
        require_ability(golden_experiment, MechanismSettings(), told)
    for _ in range(2):
        require_ability(golden_experiment, MechanismSettings(force=True), told)
    assert len(golden_experiment.forced) == 1


@pytest.mark.parametrize("together", [0.0, 0.3])
def test_a_model_at_chance_passes_for_more_in_one_run_of_twenty(together: float) -> None:
    """Of 20 contexts of 7 prompts, independent or with a correlation within contexts."""
    torch.manual_seed(0)
    contexts, passed, runs = torch.arange(140) // 7, 0, 400
    for _ in range(runs):
        own, shared = torch.rand(20, 7) < 1 / 7, torch.rand(20, 1) < 1 / 7
        drawn = torch.where(torch.rand(20, 1) < together, shared, own)
        passed += is_above(drawn.flatten(), contexts, 1 / 7)
    assert passed / runs < 0.085
    assert is_above(torch.rand(140) < 0.4, contexts, 1 / 7)
