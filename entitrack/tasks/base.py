"""What a task need not say: defaults for everything but its prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any, ClassVar, Self

from entitrack.core.errors import UserError
from entitrack.core.facets import FacetWords
from entitrack.core.quirks import Quirk
from entitrack.core.settings import Settings
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.protocol import LAST, Desideratum, Pair, Prompt


class TaskBase:
    """A task with prompts and nothing else; see `entitrack.tasks.protocol.Task`.

    Attributes:
        name: How it is called; `module:Class` unless a class says otherwise.
        stages: Stages that its circuit is searched along; none unless a class says some.
        edges: Edges that attention is blocked on; none unless a class says some.
        facets: Words for its prompts' facets; others go by their own names.
        desiderata: Its desiderata.
        quirks: Quirks of published code that are about its prompts.
        desideratum_sets: Names that stand for several of them, the usual set first.
    """

    name: ClassVar[str] = ""
    stages: ClassVar[Sequence[Stage]] = ()
    edges: ClassVar[Sequence[Edge]] = ()
    facets: ClassVar[Mapping[str, FacetWords]] = {}
    desiderata: ClassVar[Sequence[Desideratum]] = ()
    desideratum_sets: ClassVar[Mapping[str, Sequence[str]]] = {}
    quirks: ClassVar[Collection[Quirk]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name the class after where it can be imported, and all of its desiderata `all`."""
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}:{cls.__qualname__}"
        if "desiderata" in vars(cls) and "desideratum_sets" not in vars(cls):
            cls.desideratum_sets = {"all": tuple(rule.name for rule in cls.desiderata)}

    @property
    def roles(self) -> Sequence[str]:
        """`last`, and the roles of the first prompt."""
        return (LAST, *self.prompts()[0].spans)

    def prompts(self) -> Sequence[Prompt]:
        """The clean prompts.

        Raises:
            UserError: A class says none.
        """
        raise UserError("task", f"task {self.name!r} has no prompts", fix="give it `prompts()`")

    def pairs(self) -> Sequence[Pair]:
        """The clean prompts, each with its path-patching counterfactual.

        Raises:
            UserError: A class says none.
        """
        fix = "give it `pairs()`: a `Pair` of a clean prompt and its counterfactual for every prompt"
        raise UserError("task", f"task {self.name!r} has no counterfactuals", fix=fix)

    def backgrounds(self, count: int) -> Sequence[Prompt]:
        """The task's own prompts, drawn at random."""
        return Random(f"background/{getattr(self, 'seed', 0)}").choices(self.prompts(), k=count)


class TaskSettings(TaskBase, Settings):
    """A task whose fields are what `task.KEY=VALUE` sets."""

    place: ClassVar[str] = "task"

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings, as plain values."""
        return {"task": self.name, **self.model_dump(mode="json")}

    def with_settings(self, **changes: Any) -> Self:
        """The same task with other settings, which are checked as the first ones were.

        Raises:
            UserError: A setting cannot be so.
        """
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})
