"""Train the base and its donors, evaluate them, and put the family in place only when it is whole."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from zoo_training.card import build_card, render_card
from zoo_training.curriculum import (
    BaseRecipe,
    Curriculum,
    Report,
    new_model,
    regularise_longer,
    seed_torch,
)
from zoo_training.measurement import MeasurementRecipe, measure
from zoo_training.tuning import TuningRecipe, tune, with_adapter
from zoo_training.vocabulary import Vocabulary, build_tokenizer

BASE = "llama"


@dataclass(frozen=True)
class FamilyRecipe:
    """All numbers of the whole family.

    Attributes:
        name: of the family.
        seed: of which the embedded weights are.
        base: the base's curriculum.
        donors: how each donor is tuned, by name.
        experiments: tunings that are measured for the card and not shipped, by name.
        measurement: how large the measurements are.
    """

    name: str = ""
    seed: int = 0
    base: BaseRecipe = field(default_factory=BaseRecipe)
    donors: dict[str, TuningRecipe] = field(default_factory=dict)
    experiments: dict[str, TuningRecipe] = field(default_factory=dict)
    measurement: MeasurementRecipe = field(default_factory=MeasurementRecipe)

    @property
    def tunings(self) -> dict[str, TuningRecipe | None]:
        """How each model comes out of the base, by name in training order; None for the base itself."""
        return {BASE: None, **self.donors, **self.experiments}


class FamilyTraining:
    """Trains model by model into a staging folder, so that an interrupted run goes on where it stopped."""

    def __init__(self, out: Path, recipe: FamilyRecipe, seed: int, threads: int, report: Report) -> None:
        """Train into `<out>/.staging`; models that an earlier run finished there by the same numbers stay."""
        self.out, self.recipe, self.seed, self.threads, self.report = out, recipe, seed, threads, report
        self.staging = out / ".staging"
        self.vocabulary = Vocabulary()
        self.tokenizer = build_tokenizer()

    def run(self) -> dict[str, Any]:
        """Train what is missing, publish the family with its card, and return the card."""
        records = {name: self.finish(name) for name in self.recipe.tunings}
        card = build_card(self.recipe.name, records, tuple(self.recipe.experiments), self.seed, self.threads)
        (self.staging / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (self.staging / "README.md").write_text(render_card(card))
        finished = {name: self.folder(name) for name in (BASE, *self.recipe.donors)}
        publish(finished | {name: self.staging / name for name in ("card.json", "README.md")}, self.out)
        shutil.rmtree(self.staging)
        return card

    def folder(self, name: str) -> Path:
        """Return a model's place in staging; the hash stands for all numbers that its weights depend on."""
        tuning = self.recipe.tunings[name]
        parts = (
            asdict(self.recipe.base),
            asdict(self.recipe.measurement),
            asdict(tuning) if tuning else None,
        )
        plain = json.dumps(parts, sort_keys=True)
        key = hashlib.sha256(f"{plain} {self.seed} {self.threads}".encode()).hexdigest()[:8]
        return self.staging / f"{name}-{key}"

    def finish(self, name: str) -> dict[str, Any]:
        """Return a model's record, training and measuring it only if no earlier run has.

        The record is written last, and at once: where it is, the model is whole.
        """
        folder = self.folder(name)
        record_file = folder.with_name(f"{folder.name}.record.json")
        if not record_file.exists():
            _write(record_file, self._train_and_save(name, folder))
        finished: dict[str, Any] = json.loads(record_file.read_text())
        return finished

    def _train_and_save(self, name: str, folder: Path) -> dict[str, Any]:
        seed_torch(self.seed, self.threads)
        started = time.perf_counter()
        tuning = self.recipe.tunings[name]
        model, record = self._train_base() if tuning is None else self._tune(name, tuning)
        trained = time.perf_counter()
        base = None if tuning is None else self._load_base()
        record |= measure(model, self.tokenizer, self.recipe.measurement, base)
        save_model(model, self.tokenizer, folder)
        started -= record.pop("resumed_seconds", 0.0)
        seconds = {"train_seconds": trained - started, "seconds": time.perf_counter() - started}
        return record | {key: round(value, 1) for key, value in seconds.items()}

    def _load_base(self) -> LlamaForCausalLM:
        return LlamaForCausalLM.from_pretrained(self.folder(BASE))

    def _train_base(self) -> tuple[nn.Module, dict[str, Any]]:
        """Run the curriculum, unless an earlier run has, and regularise what came out of it."""
        recipe, folder = self.recipe.base, self.folder(BASE).with_name(f"curriculum-{self.folder(BASE).name}")
        steps_file = folder / "steps.json"
        resumed = steps_file.exists()
        if not resumed:
            started, untrained = time.perf_counter(), new_model(self.vocabulary, recipe.layers, recipe.heads)
            stages = Curriculum(untrained, self.vocabulary, self.recipe.base, self.seed, self.report).run()
            save_model(untrained, self.tokenizer, folder)
            _write(steps_file, {"steps": stages, "seconds": time.perf_counter() - started})
        model = LlamaForCausalLM.from_pretrained(folder)
        seed_torch(self.seed, self.threads)
        longer = regularise_longer(model, self.vocabulary, self.recipe.base, self.seed, self.report)
        curriculum = json.loads(steps_file.read_text())
        record = _record(self.recipe.base, curriculum["steps"] | longer)
        return model, record | {"resumed_seconds": curriculum["seconds"] if resumed else 0.0}

    def _tune(self, name: str, tuning: TuningRecipe) -> tuple[nn.Module, dict[str, Any]]:
        base = self._load_base()
        model = with_adapter(base, tuning.adapter_rank) if tuning.adapter_rank else base
        tune(model, self.vocabulary, tuning, self.seed, self._named(name))
        return model, _record(tuning, {tuning.data: tuning.steps})

    def _named(self, name: str) -> Report:
        return lambda stage, step, limit, accuracy: self.report(f"{name}: {stage}", step, limit, accuracy)


def _record(recipe: BaseRecipe | TuningRecipe, steps: dict[str, int]) -> dict[str, Any]:
    numbers = asdict(recipe)
    return {"about": numbers.pop("about"), "recipe": numbers, "steps": steps}


def _write(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    os.replace(partial, file)


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


def publish(finished: Mapping[str, Path], out: Path) -> None:
    """Put copies of finished files and folders in place, each by a rename, under the names given."""
    for name, source in finished.items():
        new, old, target = out / f".new-{name}", out / f".old-{name}", out / name
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        if source.is_file():
            shutil.copy(source, new)
            os.replace(new, target)
            continue
        shutil.copytree(source, new)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
        shutil.rmtree(old, ignore_errors=True)
