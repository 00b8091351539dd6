"""Every method, on every backend: are its sessions' results the same?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from entitrack.cli.config import CONF, check_values
from entitrack.core.circuits import Circuit, Group
from entitrack.methods import run_method
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.scoring import Search, score_stage
from entitrack.methods.path_patching.settings import Settings as PathPatchingSettings
from entitrack.models.family import Family
from entitrack.runtime.backends import Backend
from entitrack.tasks.boxes import Boxes
from tests.golden_prompts import GoldenTask
from tests.remote.harness import RecordingRunner, largest_difference

FEW: dict[str, Any] = {"mean_count": 14}
FORCED: dict[str, Any] = {"force": True}
"""The runs are of few contexts."""
SMALL: dict[str, dict[str, Any]] = {
    "ablation": {**FEW, "roles": ["last", "query_label"]},
    "faithfulness": {**FEW, "random_circuits": 3, "models": ["float"]},
    "circuit_curve": {**FEW, "random_orders": 2, "models": ["float"], "sizes": [3], "order_prompts": 14},
    "completeness": {**FEW, "random_sets": 3},
    "minimality": {**FEW, **FORCED},
    "positions": {**FEW, **FORCED, "most": 1},
    "attention_knockout": {"edges": [{"source": "last", "target": "query_label"}]},
    "cmap": {"controls": 2, "control_prompts": 14},
    "cmap_matrix": {"members": ["llama", "float"], "controls": 2, "control_prompts": 14},
    "cmap_order": {"controls": 2, "control_prompts": 14, "steps": 2},
    "attribution": FORCED,
    "path_patching": FORCED,
    "dcm": {**FORCED, "steps": 3, "evaluate_every": 1, "desiderata": ["object_value"], "groups": ["value_fetcher"]},
    "stability": {**FORCED, "seeds": [0], "halves": 2},
    "activation_patching": {"repeats": 1, "desiderata": ["object_value"], "models": ["float"]},
    "binding": {**FORCED, "layers": [0, 2]},
    "transfer": {**FEW, **FORCED, "controls": 2},
}
"""Settings that make a method small enough for a test."""


@dataclass(frozen=True)
class GivenCircuit(Experiment):
    """An experiment about a circuit that is no file."""

    given: Circuit | None = None

    def circuit(self, model: Any, found_on: str | None = None) -> Circuit:
        assert self.given
        return self.given


def experiment(
    family: Family, circuit: Circuit, backend: Backend, batch_size: int = 7, count: int = 14
) -> GivenCircuit:
    """A small experiment on the golden family."""
    task = GoldenTask(frozenset(family.tokenizer.get_vocab()), count=count)
    return GivenCircuit(family, task, RecordingRunner(backend), "donor", batch_size=batch_size, given=circuit)


def tiny_experiment(family: Family, backend: Backend, count: int = 28) -> GivenCircuit:
    """A small experiment on the embedded family, about a circuit of a few heads."""
    groups = (
        Group("value_fetcher", "last", ((3, 0), (2, 1))),
        Group("pos_transmitter", "last", ((1, 1),)),
        Group("pos_detector", "query_label", ((1, 2),)),
        Group("struct_reader", "prev_query_label", ((0, 3), (0, 4))),
    )
    task = Boxes(count=count)
    return GivenCircuit(family, task, RecordingRunner(backend), "float", batch_size=14, given=Circuit(groups))


def experiment_prompts(golden: Path, count: int) -> list[str]:
    """Sentences that the golden tokenizer knows, as a file of prompts has them."""
    vocabulary = AutoTokenizer.from_pretrained(golden / "base").get_vocab()
    return [f"{prompt.text} {prompt.answer}" for prompt in GoldenTask(frozenset(vocabulary), count).prompts()]


def run(method: str, on: GivenCircuit, **settings: Any) -> RecordingRunner:
    """Run a method as its configuration has it, and give what its sessions gave."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", overrides=[f"method={method}"])
    OmegaConf.set_struct(composed, False)
    composed.method.update({**SMALL.get(method, {}), **settings})
    runner = RecordingRunner(on.runner.backend)
    whole: Any = every_stage if method == "path_patching" else partial(run_method, method)
    whole(replace(on, runner=runner), check_values(composed).settings)
    return runner


def every_stage(on: GivenCircuit, settings: PathPatchingSettings) -> None:
    """Path patching with the given circuit's groups as receivers: every stage runs, whatever the one before finds."""
    circuit = on.circuit(None)
    search = Search(on, settings, on.task.stages, on.base(), on.task.pairs())
    for stage in search.stages:
        receivers = circuit.group(stage.receivers, "").heads if stage.receivers else ()
        score_stage(search, stage, receivers)


MEASURED = ("peak_bytes", "bytes_per_token")
"""What says how a result was computed."""
LOGITS = ("margin", "target_logit", "logits", "total", "values")
"""What is no probability or share, but of the size of activations."""


def by_kind(one: RecordingRunner, other: RecordingRunner) -> tuple[float, float]:
    """The largest differences: of probabilities, effects and tokens, and of logits and activations."""
    found = [0.0, 0.0]
    for name, results in one.results.items():
        for mine, theirs in zip(results, other.results[name], strict=True):
            for part in mine.keys() - set(MEASURED):
                kind = int(part in LOGITS)
                pair = (absolute(mine, part), absolute(theirs, part))
                found[kind] = max(found[kind], largest_difference(*pair))
    return found[0], found[1]


def absolute(result: Any, part: str) -> Any:
    """A part of a result; effects, which are relative to the right answer's probability, as changes of it."""
    value = result[part]
    if part not in ("effect", "null") or "probability" not in result:
        return value
    return value * result["probability"].view(-1, *[1] * (value.dim() - 1))


def differences(one: RecordingRunner, other: RecordingRunner) -> dict[str, float]:
    """The largest difference by model and intervention."""
    assert one.results.keys() == other.results.keys()
    return {name: largest_difference(one.results[name], other.results[name]) for name in one.results} or {"": 0.0}
