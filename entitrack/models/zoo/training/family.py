"""Train the base and its donors, evaluate them, and put the family in place only when it is whole."""

import copy
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from entitrack.models.zoo.training.card import build_card, render_card
from entitrack.models.zoo.training.curriculum import BaseRecipe, Curriculum, Report, new_model, seed_torch
from entitrack.models.zoo.training.measurement import MeasurementRecipe, measure
from entitrack.models.zoo.training.tuning import TuningRecipe, tune, with_adapter
from entitrack.models.zoo.training.vocabulary import Vocabulary, build_tokenizer

BASE = "llama"


@dataclass(frozen=True)
class FamilyRecipe:
    """All numbers of the whole family.

    Attributes:
        base: the base's curriculum.
        donors: how each donor is tuned, by name.
        experiments: tunings that are measured for the card and not shipped, by name.
        measurement: how large the measurements are.
    """

    base: BaseRecipe = field(default_factory=BaseRecipe)
    donors: dict[str, TuningRecipe] = field(default_factory=dict)
    experiments: dict[str, TuningRecipe] = field(default_factory=dict)
    measurement: MeasurementRecipe = field(default_factory=MeasurementRecipe)

    @property
    def fingerprint(self) -> str:
        """A short hash of all numbers: finished work of other numbers is not reused."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]


class FamilyTraining:
    """Trains model by model into a staging folder, so that an interrupted run goes on where it stopped."""

    def __init__(self, out: Path, recipe: FamilyRecipe, seed: int, threads: int, report: Report) -> None:
        """Make the staging folder `<out>/.staging-<hash>`; what it holds is reused."""
        self.out, self.recipe, self.seed, self.threads, self.report = out, recipe, seed, threads, report
        self.staging = out / f".staging-{recipe.fingerprint}-{seed}-{threads}"
        self.staging.mkdir(parents=True, exist_ok=True)
        self.vocabulary = Vocabulary()
        self.tokenizer = build_tokenizer()

    def run(self) -> dict[str, Any]:
        """Train what is missing, publish the family with its card, and return the card."""
        records = {BASE: self._finished(BASE, self._train_base)}
        tunings = self.recipe.donors | self.recipe.experiments
        for name, tuning in tunings.items():
            records[name] = self._finished(name, lambda n=name, t=tuning: self._train_donor(n, t))  # type: ignore
        card = build_card(records, tuple(self.recipe.experiments), self.seed, self.threads)
        (self.staging / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (self.staging / "README.md").write_text(render_card(card))
        publish(self.staging, self.out, (BASE, *self.recipe.donors, "card.json", "README.md"))
        return card

    def _finished(self, name: str, train: Callable[[], tuple[nn.Module, dict[str, Any]]]) -> dict[str, Any]:
        """Return a model's record, training it only if no earlier run has."""
        record_file = self.staging / f"{name}.record.json"
        if not record_file.exists():
            seed_torch(self.seed, self.threads)
            started = time.perf_counter()
            model, record = train()
            record["train_seconds"] = round(time.perf_counter() - started, 1)
            base = None if name == BASE else self._load_base()
            record |= measure(model, self.tokenizer, self.recipe.measurement, base)
            record["seconds"] = round(time.perf_counter() - started, 1)
            save_model(model, self.tokenizer, self.staging / name)
            partial = record_file.with_suffix(".partial")
            partial.write_text(json.dumps(record))
            os.replace(partial, record_file)
        record_read: dict[str, Any] = json.loads(record_file.read_text())
        return record_read

    def _load_base(self) -> LlamaForCausalLM:
        return LlamaForCausalLM.from_pretrained(self.staging / BASE)

    def _train_base(self) -> tuple[nn.Module, dict[str, Any]]:
        model = new_model(self.vocabulary)
        stages = Curriculum(model, self.vocabulary, self.recipe.base, self.seed, self.report).run()
        return model, _record(self.recipe.base, stages)

    def _train_donor(self, name: str, tuning: TuningRecipe) -> tuple[nn.Module, dict[str, Any]]:
        model: nn.Module = copy.deepcopy(self._load_base())
        if tuning.adapter_rank:
            model = with_adapter(self._load_base(), tuning.adapter_rank)
        tune(model, self.vocabulary, tuning, self.seed, self._named(name))
        return model, _record(tuning, {tuning.data: tuning.steps})

    def _named(self, name: str) -> Report:
        return lambda stage, step, limit, accuracy: self.report(f"{name}: {stage}", step, limit, accuracy)


def _record(recipe: BaseRecipe | TuningRecipe, steps: dict[str, int]) -> dict[str, Any]:
    numbers = asdict(recipe)
    return {"about": numbers.pop("about"), "recipe": numbers, "steps": steps}


def save_model(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model, or only its adapter, with the tokenizer; an adapter names its base without a path."""
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(model, PeftModel):
        for config in model.peft_config.values():
            config.base_model_name_or_path = BASE
        model.save_pretrained(str(folder), save_embedding_layers=False)
        _sort_targets(folder / "adapter_config.json")
    elif isinstance(model, LlamaForCausalLM):
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)


def _sort_targets(adapter_config: Path) -> None:
    """Write the adapted modules in one order: peft keeps them in a set."""
    config = json.loads(adapter_config.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    adapter_config.write_text(json.dumps(config, indent=2) + "\n")


def publish(staging: Path, out: Path, names: tuple[str, ...]) -> None:
    """Move finished files and folders into place by renaming, then drop the staging folder."""
    for name in names:
        target, old = out / name, staging / f"{name}.old"
        if target.exists():
            os.replace(target, old)
        os.replace(staging / name, target)
    shutil.rmtree(staging)
