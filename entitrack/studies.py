"""A study: its steps one after another, in one folder, each reading what those before it found.

1. A step that is done already in this folder, of the same configuration and code, is read and not run.
2. A step that cannot be run stops those alone that read what it would have found; it is told which, and why.
3. `study.json` is written after every step: it names the steps, what came of each, and where it is.
4. A table at the end has a line a step; tables, notes and figures of each step are in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from entitrack.cli.steps import PlannedStep
from entitrack.core.confidential import Keys, hide_words
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.disk.files import appearing
from entitrack.models.family import Family
from entitrack.record.done_before import done_before
from entitrack.record.folder import RESULT
from entitrack.record.terminal import cost_lines
from entitrack.runtime.backends import Cost
from entitrack.runtime.progress import named

SUMMARY = "study.json"
FORMAT = 1
"""Number of the layout of `study.json`."""

RunStep = Callable[[PlannedStep], Result | str]
"""Runs a step and records it; gives why it could not be run."""


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Attributes:
        step: Its name, and that of its folder.
        method: Its method.
        models: The models it ran on.
        state: `done`, `done before` in this folder, `failed`, or `left out`, for want of what it reads.
        said: What it found in a line; or why it found nothing.
        units: Sessions run.
        reused: Sessions whose results were in the store.
        seconds: How long it took.
        words: The words that make it up.
    """

    step: str
    method: str
    models: tuple[str, ...]
    state: Literal["done", "done before", "failed", "left out"]
    said: str
    units: int
    reused: int
    seconds: float
    words: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.state in ("done", "done before")


def plan_line(steps: Sequence[PlannedStep], folder: Path) -> str:
    """What is going to be done, in a line."""
    before = sum((step.folder / RESULT).exists() for step in steps)
    done = f" ({before} of them done before)" if before else ""
    return f"{len(steps)} steps{done}: {', '.join(step.step.name for step in steps)}; into {folder}"


def run_steps(steps: Sequence[PlannedStep], folder: Path, command: str, keys: Keys, run: RunStep) -> list[Outcome]:
    """Run the steps of a study, or take those that are done.

    Args:
        steps: The steps, in order.
        folder: The study's folder.
        command: The command line, without keys.
        keys: What may not be recorded.
        run: Runs one.

    Returns:
        What came of each.

    Raises:
        UserError: A step's folder holds a result of something else.
    """
    before = {step.step.name: done_before(step.folder, step.config.plain) for step in steps}
    outcomes: dict[str, Outcome] = {}
    family: tuple[object, Family] | None = None
    for number, step in enumerate(steps, start=1):
        family = _same_family(step, family)
        with named(f"{number}/{len(steps)} {step.step.name}: "):
            outcome = _outcome(_with_family(step, family[1]), before[step.step.name], outcomes, run)
        outcomes[step.step.name] = outcome
        _write(folder, command, list(outcomes.values()), keys)
    return list(outcomes.values())


def _outcome(step: PlannedStep, before: Result | None, outcomes: dict[str, Outcome], run: RunStep) -> Outcome:
    """Take a step's result, or run it if what it reads is there."""
    sources = [outcomes[name] for name, _ in step.step.reads]
    missing = next((source.step for source in sources if not source.succeeded), None)
    if missing is not None:
        return _without(step, "left out", f"reads what {missing} would have found")
    if before is not None:
        renewed = next((source.step for source in sources if source.state == "done"), None)
        if renewed is not None:
            problem = f"holds a result that was made from an earlier {renewed}"
            raise UserError(str(step.folder), problem, fix="remove it, or choose another folder")
        return _told(step, before, "done before")
    found = run(step)
    return _without(step, "failed", found) if isinstance(found, str) else _told(step, found, "done")


def _same_family(step: PlannedStep, last: tuple[object, Family] | None) -> tuple[object, Family]:
    """The family of a step: that of the step before it, with what is loaded, where it is the same."""
    section = step.config.plain["model"], step.config.plain["backend"]
    return last if last is not None and last[0] == section else (section, step.config.family)


def _with_family(step: PlannedStep, family: Family) -> PlannedStep:
    return replace(step, config=replace(step.config, family=family))


def _told(step: PlannedStep, result: Result, state: Literal["done", "done before"]) -> Outcome:
    cost, models = result.provenance["cost"], tuple(result.provenance["models"])
    units, reused, seconds = (cost["units"], cost["reused"], cost["seconds"]) if state == "done" else (0, 0, 0.0)
    method, said = step.config.method, result.headline
    return Outcome(step.step.name, method, models, state, said, units, reused, seconds, step.words)


def _without(step: PlannedStep, state: Literal["failed", "left out"], why: str) -> Outcome:
    return Outcome(step.step.name, step.config.method, (), state, why, 0, 0, 0.0, step.words)


def _write(folder: Path, command: str, outcomes: Sequence[Outcome], keys: Keys) -> None:
    """Write what came of the steps so far."""
    steps = [{**asdict(outcome), "words": hide_words(outcome.words, keys)} for outcome in outcomes]
    record = keys.hide_within({"format": FORMAT, "command": command, "steps": steps})
    with appearing(folder / SUMMARY) as stream:
        stream.write((json.dumps(record, indent=1, allow_nan=False) + "\n").encode(errors="backslashreplace"))


def table(outcomes: Sequence[Outcome]) -> Table:
    """A line a step: what it found, or why it found nothing, and what it cost."""
    columns = ("step", "method", "what came of it", "sessions", "reused", "seconds")
    return Table(f"Study of {len(outcomes)} steps", columns, tuple(_row(outcome) for outcome in outcomes))


def _row(outcome: Outcome) -> tuple[Cell, ...]:
    said = outcome.said if outcome.succeeded else f"{outcome.state}: {outcome.said}"
    if outcome.state == "done":
        return (outcome.step, outcome.method, said, outcome.units, outcome.reused, f"{outcome.seconds:.1f}")
    return (outcome.step, outcome.method, said, None, None, "before" if outcome.succeeded else None)


def cost_line(outcomes: Sequence[Outcome]) -> str:
    """What all steps together have cost, in words."""
    cost = Cost(units=sum(outcome.units for outcome in outcomes), reused=sum(outcome.reused for outcome in outcomes))
    return cost_lines(cost, sum(outcome.seconds for outcome in outcomes))[0]


def failures(outcomes: Sequence[Outcome]) -> str | None:
    """How many steps found nothing, in words; None if all found something."""
    count = sum(not outcome.succeeded for outcome in outcomes)
    return f"{count} of {len(outcomes)} steps found nothing" if count else None
