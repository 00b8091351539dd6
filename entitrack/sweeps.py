"""A sweep: the jobs of one command, launched together, and what they say over what was varied.

1. Every job is composed and checked before any runs; one that cannot be stops no other.
2. A job that is done already in its folder, of the same configuration and code, is not run again.
3. The launcher runs the others; jobs on one store compute every unit once, whoever asks for it first.
4. `sweep.json` names the jobs from the first one that ends; a table and a figure are made of those that have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from entitrack.cli.command_line import Composed, Composer, Job
from entitrack.cli.config import check, check_values
from entitrack.cli.flags import Flags
from entitrack.cli.hydra_errors import key_of
from entitrack.cli.quoting import text_word
from entitrack.cli.sections import Checked
from entitrack.cli.steps import plan
from entitrack.core.confidential import Keys, hide_words
from entitrack.core.errors import UserError
from entitrack.core.table import Table
from entitrack.launch.launching import LAUNCHERS
from entitrack.launch.work import Work
from entitrack.record.done_before import done_before
from entitrack.record.folder import RESULT, check_folder
from entitrack.record.loading import load
from entitrack.record.sweep_summary import JobRecord, axes_of, draw_into, read_runs, tables, write_sweep
from entitrack.record.terminal import cost_lines, show_summary
from entitrack.runtime.backends import Cost
from entitrack.runtime.progress import named

GROUP = "tracking.group"
Explain = Callable[[Exception], str]
"""Why something failed, in a line."""


@dataclass
class SweptJob:
    """A job of a sweep.

    Attributes:
        job: Its words, its number, and where its result belongs.
        shown: Its own words, without keys.
        before: Whether its result is there already.
        failed: Why it failed; None as long as it has not.
        ended: Whether it has ended, one way or the other.
        said: What it found, in a line.
    """

    job: Job
    shown: tuple[str, ...]
    before: bool = False
    failed: str | None = None
    ended: bool = False
    said: str = "done"

    @property
    def number(self) -> int:
        """Its place in the sweep."""
        return self.job.number or 0

    @property
    def complaint(self) -> str:
        """What is said of it where it has failed."""
        return f"job {self.number} ({' '.join(self.shown)}): {self.failed}"


@dataclass
class Sweep:
    """The jobs of one command.

    Attributes:
        folder: Where their folders are; None where no job could be composed.
        jobs: All of them, in order.
        settings: What the first that could be checked is told of its launcher.
        flags: The command's flags.
        command: The command line, without keys.
        keys: What may not be recorded.
        cost: What the jobs that were run have cost together.
        begun: When it began.
    """

    folder: Path | None
    jobs: list[SweptJob]
    settings: Checked | None
    flags: Flags
    command: str
    keys: Keys = field(repr=False)
    cost: Cost = field(default_factory=Cost)
    begun: float = field(default_factory=perf_counter)

    @property
    def waiting(self) -> list[SweptJob]:
        """The jobs that are still to run."""
        return [job for job in self.jobs if not job.ended]

    @property
    def failures(self) -> list[SweptJob]:
        """The jobs that have failed so far."""
        return [job for job in self.jobs if job.failed is not None]

    @property
    def succeeded(self) -> bool:
        """Whether there is anything to show."""
        return any(job.ended and job.failed is None for job in self.jobs)

    @property
    def store(self) -> str | None:
        """Where finished sessions are kept."""
        return self.settings.general.store if self.settings else None

    def plan_line(self) -> str:
        """What is going to be done, in a line."""
        before = sum(job.before for job in self.jobs)
        done = f" ({before} of them done before)" if before else ""
        over = ", ".join(axes_of([job.shown for job in self.jobs])[0]) or "nothing"
        return f"{len(self.jobs)} jobs{done} over {over}; into {self.folder}"

    def job_line(self, job: SweptJob) -> str:
        """What came of a job, in a line."""
        ended = sum(each.ended for each in self.jobs)
        point = " ".join(
            f"{axis}={value}" for axis, value in axes_of([each.shown for each in self.jobs])[job.number].items()
        )
        return f"  {ended}/{len(self.jobs)} {point}: {'failed' if job.failed else job.said}"

    def show(self) -> None:
        """Print the table over the jobs that have ended, and draw the figure."""
        if self.folder is None:
            return
        self.write()
        ended = [job for job in self.jobs if job.failed is None]
        if not any((job.job.folder / RESULT).is_file() for job in ended if job.job.folder):
            print(f"  studies in {self.folder}; a step over them: python -m entitrack.sweep {self.folder} --step STEP")
            return
        seconds = perf_counter() - self.begun
        show_summary(*summary(self.folder), self.folder, cost_lines(self.cost, seconds)[0])

    def run(self, attempt: Callable[[Job], str | None]) -> Iterator[SweptJob]:
        """Run what is to be run, and yield each job as it ends.

        Args:
            attempt: Runs a job in this process; gives why it failed.
        """
        for number, line in self._launched(attempt):
            job = self.jobs[number]
            job.failed, job.ended = line, True
            if line is None:
                self._look_at(job)
                self.write()
            yield job

    def _look_at(self, job: SweptJob) -> None:
        """Read what a job found and cost; that of a study is in its own table."""
        if job.job.folder is not None and (job.job.folder / RESULT).is_file():
            result = load(job.job.folder)
            spent = result.provenance["cost"]
            job.said = f"{result.headline} ({spent['seconds']:.1f} s)"
            self.cost = Cost(self.cost.units + spent["units"], self.cost.reused + spent["reused"])

    def _launched(self, attempt: Callable[[Job], str | None]) -> Iterator[tuple[int, str | None]]:
        waiting = self.waiting
        if not waiting or self.settings is None or self.folder is None:
            return
        if self.settings.launcher == "local":
            for job in waiting:
                with named(f"job {job.number + 1}/{len(self.jobs)}: "):
                    failed = attempt(job.job)
                yield job.number, failed
            return
        works = [self._work(job) for job in waiting]
        yield from LAUNCHERS[self.settings.launcher](self.settings.launcher_settings, works, self.folder)

    def _work(self, job: SweptJob) -> Work:
        """A job as plain values.

        Raises:
            UserError: There is a key in its words, which would be written down.
        """
        words = job.job.overrides
        if hide_words(words, self.keys) != list(words):
            problem = "words with a key in them are not given to other processes"
            raise UserError("launcher", problem, fix="set the key in the environment (NDIF_API_KEY), or launcher=local")
        flags = [word for word in self.flags.words if word not in self.flags.overrides]
        flags = [word for word in flags if word not in ("--multirun", "-m")]
        return Work(job.number, tuple(flags), words, str(job.job.folder), self.command, str(Path.cwd()))

    def write(self) -> None:
        """Write what the jobs are, and which have failed."""
        if self.folder is not None:
            write_sweep(self.folder, self.command, [self._record(job, self.folder) for job in self.jobs])

    def _record(self, job: SweptJob, folder: Path) -> JobRecord:
        place = job.job.folder.relative_to(folder) if job.job.folder else ""
        failed = None if job.failed is None else self.keys.hide(job.failed)
        return {"number": job.number, "words": list(job.shown), "folder": str(place), "failed": failed}


def prepared(
    composer: Composer, jobs: Sequence[Job], flags: Flags, command: str, keys: Keys, explain: Explain
) -> Sweep:
    """A sweep whose jobs are composed and checked; nothing is loaded.

    Args:
        composer: Composes.
        jobs: The jobs.
        flags: The command's flags.
        command: The command line, without keys.
        keys: What may not be shown; those that the jobs give are added.
        explain: Says why a job cannot be run.
    """
    sweep = Sweep(None, [], None, flags, command, keys)
    for job in jobs:
        shown = tuple(hide_words(job.overrides, keys))
        swept = SweptJob(job, shown)
        sweep.jobs.append(swept)
        try:
            composed = composer.compose(job)
            keys.add(composed.key)
            sweep.folder = sweep.folder or composed.sweep_folder()
            swept.job = _placed(composed, job, sweep.folder)
            swept.before = swept.ended = _is_done(composer, composed, swept.job)
            sweep.settings = sweep.settings or check_values(composed.config)
        except Exception as error:
            swept.failed, swept.ended = explain(error), True
    return sweep


def _placed(composed: Composed, job: Job, folder: Path) -> Job:
    """A job that knows its folder, and the group that W&B finds the sweep under."""
    named = any(key_of(word) == GROUP for word in job.overrides)
    group = () if named else (f"{GROUP}={text_word(f'sweep {folder.name}')}",)
    return replace(job, overrides=(*job.overrides, *group), folder=composed.folder())


def _is_done(composer: Composer, composed: Composed, job: Job) -> bool:
    """Whether a job's result is there; what it is asked is checked, and where it belongs.

    Raises:
        UserError: It cannot be run, or its folder holds something else.
    """
    folder = composed.folder()
    if composed.study is not None:
        plan(composer, job, composed, folder)
        return False  # it says itself which of its steps are done
    done = done_before(folder, check(composed.config).plain) is not None
    if not done:
        check_folder(folder)
    return done


def summary(folder: Path, step: str = "") -> tuple[list[Table], Path | None]:
    """The table of each method over a sweep, and where the figure is drawn.

    Args:
        folder: The sweep's folder.
        step: Of a sweep of studies, the step that is looked at.

    Raises:
        UserError: See `read_runs`.
    """
    runs = read_runs(folder, step)
    return tables(runs), draw_into(folder, runs, f"{step}.png" if step else "sweep.png")
