"""The tasks that a circuit is searched on again: other seeds, other phrasings."""

from __future__ import annotations

from entitrack.methods.stability.settings import Settings
from entitrack.methods.varied_tasks import varied
from entitrack.tasks.protocol import Task

SEEDS, HALVES, PHRASINGS = "seeds", "halves", "phrasings"
"""What searches differ in; of the first that a run has, enough must choose a head of its circuit."""


def tasks_of(task: Task, settings: Settings) -> dict[str, dict[str, Task]]:
    """What searches differ in -> name of a search -> its task; the task itself has a name under seeds alone.

    A search in the task's own phrasing is the one on the first seed, where there is one, and is not run twice.

    Raises:
        UserError: The task has no such setting, or the setting no such value.
    """
    seeds = {f"seed {seed}": _with(task, SEEDS, number, seed) for number, seed in enumerate(settings.seeds)}
    first = next(iter(seeds.values()), task)
    phrased: dict[str, Task] = {}
    for number, phrasing in enumerate(settings.phrasings or ()):
        other = _with(first, PHRASINGS, number, phrasing)
        same = next((name for name, one in seeds.items() if one.fingerprint == other.fingerprint), None)
        phrased[same or f"phrasing {phrasing}"] = other
    return {SEEDS: seeds, PHRASINGS: phrased}


def _with(task: Task, key: str, number: int, value: int | str) -> Task:
    """The task with another seed or phrasing."""
    halves = " and search halves of its contexts alone" if key == SEEDS else ""
    return varied(task, key, number, value, otherwise=f", or say method.{key}=[]{halves}")
