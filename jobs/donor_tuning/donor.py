"""From a family's file to a donor in its folder: tune, save, measure, write the card."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from donor_tuning.card import render_card
from donor_tuning.measurement import MeasurementRecipe, accuracies, own_answers
from donor_tuning.recipes import Recipe
from donor_tuning.tuning import Progress, save_adapter, tune
from entitrack.cli.config import CONF
from entitrack.core.errors import UserError
from entitrack.disk.files import appearing
from entitrack.models.checkpoint import Checkpoint
from entitrack.models.family import Family
from entitrack.models.loading import quiet
from entitrack.models.settings import FamilySettings

Say = Callable[[str, int, int, float], None]
"""Told how far it is: what is done, units done, units in all, and the loss."""


@dataclass(frozen=True)
class DonorTuning:
    """One donor to make.

    Attributes:
        family: Name of a file of `conf/model`.
        recipe: How it is tuned.
        out: The folder of the family's donors; `out / kind` is replaced once all is done.
        measured: How it is measured.
        say: See `Say`.
        name: Name of the donor's folder; the kind by default.
    """

    family: str
    recipe: Recipe
    out: Path
    measured: MeasurementRecipe
    say: Say
    name: str

    @property
    def staging(self) -> Path:
        """Where unfinished work is."""
        return self.out.parent / f".staging-{self.out.name}-{self.name}"

    def run(self) -> dict[str, Any]:
        """Make the donor, and give what the card says of it.

        Raises:
            UserError: There is no such family, or its base cannot be loaded.
        """
        settings = read_family(self.family)
        base = settings.member(settings.base, "model.base")
        adapter = self.staging / "adapter"
        progress = self._tune(settings, adapter)
        members = {settings.base: base, self.name: _on(base, adapter)}
        family = Family(settings.name, settings.base, members, device="cpu")
        self.say("measuring", 0, 1, progress.loss)
        record = {
            "about": self.recipe.about,
            "base": base.path,
            "recipe": asdict(self.recipe),
            "threads": torch.get_num_threads(),
            "tuning_seconds": round(progress.seconds, 1),
            "loss": round(progress.loss, 4),
            "bytes": (adapter / "adapter_model.safetensors").stat().st_size,
            "own_answers": own_answers(family, [settings.base, self.name], self.recipe, self.measured.own),
            "accuracy": accuracies(family, self.name, self.measured),
        }
        self.say("measuring", 1, 1, progress.loss)
        self._publish(adapter, record)
        return record

    def _tune(self, settings: FamilySettings, adapter: Path) -> Progress:
        """Write the adapter."""
        family = Family(settings.name, settings.base, settings.members, device="cpu")
        base = family.load(settings.base)
        state = self.staging / f"{base.identity.weights}.pt"
        named = settings.members[settings.base].path

        def report(done: int, loss: float) -> None:
            self.say(self.recipe.kind, done, self.recipe.steps, loss)

        with quiet():
            tuned, progress = tune(base.envoy._module, base.envoy.tokenizer, self.recipe, state, named, report)
            save_adapter(tuned, adapter)
        return progress

    def _publish(self, adapter: Path, record: dict[str, Any]) -> None:
        """Put the adapter into its place and write the card anew."""
        place = self.out / self.name
        shutil.rmtree(place, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        adapter.rename(place)
        path = self.out / "card.json"
        card: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"family": self.family, "donors": {}}
        card["donors"][self.name] = record
        told = json.dumps(card, indent=1)
        readme = render_card(json.loads(told))  # of the card as it is read: lists for tuples
        for name, text in (("card.json", told), ("README.md", readme)):
            with appearing(self.out / name) as stream:
                stream.write(text.encode())
        shutil.rmtree(self.staging, ignore_errors=True)


def read_family(name: str) -> FamilySettings:
    """The family that a file of `conf/model` describes.

    Raises:
        UserError: There is no such file.
    """
    path = CONF / "model" / f"{name}.yaml"
    if not path.is_file():
        raise UserError("--family", f"there is no {name!r}", sorted(file.stem for file in path.parent.glob("*.yaml")))
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(content, dict)
    return FamilySettings(**{str(key): value for key, value in content.items()})


def _on(base: Checkpoint, adapter: Path) -> Checkpoint:
    """The base with an adapter on it."""
    return Checkpoint(base.path, str(adapter), revision=base.revision)


def changed(recipe: Recipe, **values: Any) -> Recipe:
    """A recipe with other numbers, where they are given."""
    return replace(recipe, **{name: value for name, value in values.items() if value is not None})
