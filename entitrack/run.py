"""The door: compose a configuration, run one method, record what it found.

python -m entitrack.run method=cmap donor=float
python -m entitrack.run --multirun method=cmap donor=float,goat,vicuna
python -m entitrack.run experiment=paper
python -m entitrack.run --help

A result is on the disk, whole, before it is shown or logged. Exit codes: 0, a result is recorded (also if nobody could
be shown it); 1, jobs of a sweep failed, or the program did; 2, something that the user gave or the system lacks; 130,
stopped by hand.

Whatever needs torch is imported once a configuration is found right, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from hydra.core.utils import env_override

from entitrack.cli.command_line import Composed, Composer, Job, composer
from entitrack.cli.complaints import complain, explain, silence
from entitrack.cli.config import RunConfig, check
from entitrack.cli.flags import Flags, parse
from entitrack.core.confidential import Keys, hide_words
from entitrack.methods import run_method

if TYPE_CHECKING:
    from entitrack.cli.steps import PlannedStep
    from entitrack.core.parts import Part
    from entitrack.core.result import Result
    from entitrack.launch.work import Work
    from entitrack.methods.experiment import Experiment
    from entitrack.record.tracking import Recording
    from entitrack.tasks.protocol import Task

_FAILED = 1
_USER_MISTAKE = 2
_INTERRUPTED = 130


def main() -> None:
    """Entry point; whatever is wrong is one line on standard error, and an exit code."""
    keys = Keys()
    words = sys.argv[1:]
    sys.argv[1:] = hide_words(words, keys)  # what libraries record
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
    code = Command(words, shlex.join(["python", "-m", "entitrack.run", *sys.argv[1:]]), keys).start()
    if code:
        raise SystemExit(code)


def experiment_of(config: RunConfig) -> Experiment:
    """What the configured method is given."""
    from entitrack.methods.experiment import Experiment
    from entitrack.runtime.backends import Runner
    from entitrack.runtime.progress import Tracker
    from entitrack.runtime.store import Store

    runner = Runner(config.backend, Store(Path(config.store)) if config.store else None)
    return Experiment(
        family=config.family,
        task=_of_part(config.task, config.settings.part),
        search_task=_of_part(config.task, "search"),
        runner=runner,
        donor=config.donor,
        circuit_name=config.circuit,
        batch_size=config.batch_size,
        gib=config.gib,
        padding=config.padding,
        seed=config.seed,
        quirks=config.quirks,
        track=Tracker(runner.cost, waits_for=lambda: config.backend.waits_for),
    )


def _of_part(task: Task, part: Part | None) -> Task:
    """A task on a part of its contexts, if it has parts."""
    from entitrack.tasks.protocol import Parted

    return task.of_part(part) if part and isinstance(task, Parted) else task


def execute(config: RunConfig) -> tuple[Result, Experiment]:
    """Run the configured method."""
    experiment = experiment_of(config)
    return run_method(config.method, experiment, config.settings), experiment


@dataclass
class Command:
    """One command.

    Attributes:
        words: What was given on the command line.
        shown: The command as it may be shown.
        keys: What may not be shown.
        store: Where the run that goes on keeps what is finished.
        resumed_in: The word with which a study or a sweep goes on in its folder; None for other commands.
        logging: What is being logged in W&B, or why it could not be, and the folder of its run.
    """

    words: list[str]
    shown: str
    keys: Keys
    store: str | None = None
    resumed_in: str | None = None
    logging: tuple[Recording | str | None, Path] | None = None

    def start(self) -> int:
        """Do what was asked for; gives the exit code."""
        try:
            return self._start()
        except KeyboardInterrupt:
            complain(self._how_to_resume(), self.keys)
            return _INTERRUPTED
        except Exception as error:
            line = explain(error)
            if line is None:
                print(self.keys.hide(traceback.format_exc()), file=sys.stderr)
            complain(line or f"the program failed ({type(error).__name__}: {error})", self.keys)
            return _FAILED if line is None else _USER_MISTAKE

    def _start(self) -> int:
        flags = parse(self.words)
        if flags.help or flags.asks_hydra:
            told = self._told(flags)
            self._print(lambda: print(told, end=""))
            return 0
        with composer(flags) as jobs:
            if flags.multirun:
                return self._sweep(jobs, flags)
            problem = self._run(jobs, Job(flags.overrides))
        if problem:
            complain(problem, self.keys)
        return _FAILED if problem else 0

    def _told(self, flags: Flags) -> str:
        """What the flags ask to be told."""
        if flags.asks_hydra:
            from entitrack.cli.told_by_hydra import tell

            return tell(flags, self.keys)
        from entitrack.cli.help import help_text

        return self.keys.hide(help_text(flags, self.keys))

    def _sweep(self, composer: Composer, flags: Flags) -> int:
        """Run every job, show what they say together, and say at the end which ones failed and why."""
        from entitrack.sweeps import prepared

        sweep = prepared(composer, composer.jobs(flags.overrides), flags, self.shown, self.keys, self._reason)
        try:
            self._print(lambda: print(sweep.plan_line()))
            self.store = sweep.store
            self.resumed_in = f"hydra.sweep.dir={sweep.folder}"
            for job in sweep.run(lambda job: self._attempt(composer, job)):
                self._print(partial(print, sweep.job_line(job)))
            if sweep.succeeded:
                self._print(sweep.show)
        finally:
            for job in sweep.failures:
                complain(job.complaint, self.keys)
        if sweep.failures:
            complain(f"{len(sweep.failures)} of {len(sweep.jobs)} jobs failed", self.keys)
        return _FAILED if sweep.failures else 0

    def job(self, work: Work) -> str | None:
        """Run a job of a sweep in this process; gives why it failed."""
        with composer(parse(work.flags)) as jobs:
            return self._attempt(jobs, Job(work.overrides, work.number, Path(work.folder)))

    def _attempt(self, composer: Composer, job: Job) -> str | None:
        """Run one job; gives why it failed."""
        try:
            return self._run(composer, job)
        except Exception as error:
            return self._reason(error)

    def _reason(self, error: Exception) -> str:
        """Why something failed, in a line; what is the program's own fault is told whole before."""
        line = explain(error)
        if line is None:
            print(self.keys.hide(traceback.format_exc()), file=sys.stderr)
        return line or f"the program failed ({type(error).__name__}: {error})"

    def _run(self, composer: Composer, job: Job) -> str | None:
        """Check a job's configuration, run it, record it, then show and log it; gives what of it failed."""
        composed = composer.compose(job)
        self.keys.add(composed.key)
        if composed.study is not None:
            return self._run_study(composer, job, composed)
        config, folder = check(composed.config), composed.folder()
        if job.folder is not None:
            from entitrack.record.done_before import done_before

            if done_before(folder, config.plain):  # a job that was started before has ended
                return None
        self._check_places(config, folder)
        self._record(composed, config, folder, job.overrides, show=job.number is None)
        return None

    def _run_study(self, composer: Composer, job: Job, composed: Composed) -> str | None:
        """Check every step of a study, run them, and show what came of each; gives how many found nothing."""
        from entitrack.cli.steps import plan
        from entitrack.record import terminal
        from entitrack.record.folder import RESULT
        from entitrack.studies import cost_line, failures, plan_line, run_steps, table

        folder = composed.folder()
        steps = plan(composer, job, composed, folder)
        for step in steps:
            self.keys.add(step.composed.key)
            if not (step.folder / RESULT).exists():
                self._check_places(step.config, step.folder)
        self._print(lambda: print(plan_line(steps, folder)))
        self.resumed_in = self.resumed_in or f"hydra.run.dir={folder}"
        try:
            outcomes = run_steps(steps, folder, self.shown, self.keys, self._run_step)
        finally:
            self._finish_logging()
        self._print(lambda: terminal.show_study(table(outcomes), cost_line(outcomes), folder))
        return failures(outcomes)

    def _run_step(self, step: PlannedStep) -> Result | str:
        """Run and record a step of a study; gives why it could not be."""
        try:
            return self._record(step.composed, step.config, step.folder, step.words, alone=False)
        except Exception as error:
            return self._reason(error)

    def _record(
        self,
        composed: Composed,
        config: RunConfig,
        folder: Path,
        words: Sequence[str],
        show: bool = False,
        alone: bool = True,
    ) -> Result:
        """Run what is configured, write its result, show and log it; unless it is alone, logging goes on after that."""
        from entitrack.record import terminal
        from entitrack.record.folder import write
        from entitrack.record.provenance import Invocation, provenance
        from entitrack.record.tracking import begin_recording

        invocation = Invocation(self.shown, tuple(hide_words(words, self.keys)), datetime.now().astimezone())
        with env_override(composed.environment):
            begun = perf_counter()
            result, experiment = execute(config)
            seconds = perf_counter() - begun
        result = replace(result, provenance=provenance(config, experiment, invocation, seconds))
        problem = write(result, folder, self.keys)
        experiment.runner.note_use(self.keys.hide(str(folder)), result.method, invocation.begun.isoformat())
        if show:
            self._print(lambda: terminal.show_run(result, experiment.runner.cost, seconds, folder))
        if problem:
            self._warn(f"no figure could be drawn ({problem})", folder)
        self._finish_logging()
        self.logging = (begin_recording(result, config.tracking, folder, self.keys), folder)
        if alone:
            self._finish_logging()
        return result

    def _finish_logging(self) -> None:
        """Wait until the run before is logged, and warn if it could not be."""
        if self.logging is None:
            return
        (recording, folder), self.logging = self.logging, None
        problem = recording if recording is None or isinstance(recording, str) else recording.finish()
        if problem:
            self._warn(f"W&B has no record ({problem})", folder)

    def _check_places(self, config: RunConfig, folder: Path) -> None:
        """Refuse places that nothing can be recorded in, before anything is computed."""
        from entitrack.record.places import check_places

        check_places(config.tracking, folder, config.store)
        self.store = config.store

    def _warn(self, line: str, folder: Path) -> None:
        complain(f"warning: {line}; the result is in {folder}", self.keys)

    def _print(self, say: Callable[[], None]) -> None:
        """Print to standard output; a reader who leaves, or a device that is full, costs no more than the text."""
        try:
            say()
            if sys.stdout is not None:
                sys.stdout.flush()
        except (BrokenPipeError, SystemExit):  # rich turns the one into the other
            silence(sys.stdout)
        except OSError as error:
            silence(sys.stdout)
            complain(f"warning: standard output takes no more ({os.strerror(error.errno or 0)})", self.keys)

    def _how_to_resume(self) -> str:
        """What a command that was stopped by hand leaves behind, and how to go on."""
        from entitrack.runtime.store import Store

        again = self.shown
        if self.resumed_in is not None and self.resumed_in.partition("=")[0] not in again:
            again += f" {shlex.quote(self.resumed_in)}"
        if not self.store:
            return f"interrupted; nothing is kept; to start again: {again}"
        jobs = Store(Path(self.store)).job_count()
        waiting = f", {jobs} jobs go on on the server and will be collected" if jobs else ""
        return f"interrupted; finished sessions are kept in {self.store}{waiting}; to go on: {again}"


if __name__ == "__main__":
    main()
