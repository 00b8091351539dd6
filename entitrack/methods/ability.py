"""Does a model do the task at all? Heads that do what a model does not do are not found, but printed all the same.

1. A model is at chance if its accuracy among the words offered is not above that of choosing one of them at random, by
   a one-sided test over contexts at .05; where no words are offered, if it has no right answer.
2. Contexts in which an answer is right are what a mechanism is found on; fewer than 10 carry no test.
3. Either is refused before anything is looked for, or, if it is told to go on, noted with the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.statistics.contexts import LEAST_CONTEXTS
from entitrack.core.statistics.estimates import is_above
from entitrack.methods.asking import Asked, ask, asking_inputs
from entitrack.methods.experiment import Experiment, clusters
from entitrack.methods.mechanism_settings import MechanismSettings
from entitrack.models.family import Model
from entitrack.tasks.protocol import Prompt


class NotAble(UserError):
    """A model that does not do the task is refused."""


@dataclass(frozen=True)
class Ability:
    """How a model does on some prompts.

    Attributes:
        model: Its name.
        correct: Whether each answer is right.
        among: Whether it is right among the words offered; None where none are.
        chance: How often one of them at random is; None where none are offered.
        contexts: Context of each prompt.
    """

    model: str
    correct: Bool[Tensor, " prompt"] = field(repr=False)
    among: Bool[Tensor, " prompt"] | None = field(repr=False)
    chance: Float[Tensor, " prompt"] | None = field(repr=False)
    contexts: Int[Tensor, " prompt"] = field(repr=False)

    @staticmethod
    def of(model: Model, prompts: Sequence[Prompt], asked: Asked) -> Ability:
        """That of a model that was asked some prompts."""
        return Ability(model.name, asked.correct, asked.correct_among, asked.chance_among, clusters(prompts))

    @property
    def shortfall(self) -> str | None:
        """Why no mechanism is to be looked for, with accuracy and counts; None if one may be."""
        right = len(self.contexts[self.correct].unique())
        counts = f"{right} of {len(self.contexts.unique())} contexts have a right answer, {len(self.correct)} prompts"
        if not self._above_chance:
            return f"{self.model} is at chance: {self._accuracy}; {counts}"
        if right < LEAST_CONTEXTS:
            return f"{self.model} is right in fewer than {LEAST_CONTEXTS} contexts: {self._accuracy}; {counts}"
        return None

    @property
    def _above_chance(self) -> bool:
        if self.among is None or self.chance is None or len(self.contexts.unique()) < LEAST_CONTEXTS:
            return bool(self.correct.any())
        return is_above(self.among, self.contexts, float(self.chance.double().mean()))

    @property
    def _accuracy(self) -> str:
        accuracy = f"accuracy {_share(self.correct)}"
        if self.among is None or self.chance is None:
            return accuracy
        return f"{accuracy}, among the words offered {_share(self.among)}, by chance {_share(self.chance)}"


def _share(values: Tensor) -> str:
    return f"{float(values.double().mean()):.3f}"


def require_ability(experiment: Experiment, settings: MechanismSettings, ability: Ability) -> None:
    """Refuse a model that does not do the task, or note that it does not if the run is to go on.

    Raises:
        NotAble: Naming the setting with which it goes on.
    """
    shortfall = ability.shortfall
    if shortfall is None:
        return
    if not settings.force:
        fix = "ask for more prompts, or in another phrasing (see method=evaluate), or say method.force=true to go on"
        raise NotAble("method.force", f"there is no mechanism to look for: {shortfall}", fix=fix)
    note = f"warning: {shortfall}; what is found there (method.force=true) need be no mechanism"
    if note not in experiment.forced:
        experiment.forced.append(note)


def ask_and_require(
    experiment: Experiment, settings: MechanismSettings, model: Model, prompts: Sequence[Prompt]
) -> Asked:
    """Ask a model some prompts, and go on only if it does them, or is to be taken all the same.

    Raises:
        NotAble: See `require_ability`.
    """
    asked = ask(experiment, model, asking_inputs(experiment, prompts), f"answers of {model.name}")
    require_ability(experiment, settings, Ability.of(model, prompts, asked))
    return asked
