"""The door: compose a configuration, run one method, record what it found.

python -m entitrack.run method=cmap donor=float
python -m entitrack.run --multirun method=cmap donor=float,goat,vicuna
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
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from hydra.core.utils import env_override

from entitrack.cli.command_line import Composer, Job, composer
from entitrack.cli.complaints import complain, explain, silence
from entitrack.cli.config import RunConfig, check
from entitrack.cli.flags import Flags, parse
from entitrack.core.confidential import Keys, hide_words
from entitrack.methods import run_method

if TYPE_CHECKING:
    from entitrack.core.result import Result
    from entitrack.methods.experiment import Experiment
    from entitrack.runtime.backends import Cost

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
    from entitrack.runtime.progress import track
    from entitrack.runtime.store import Store

    return Experiment(
        family=config.family,
        task=config.task,
        runner=Runner(config.backend, Store(Path(config.store)) if config.store else None),
        donor=config.donor,
        circuit_name=config.circuit,
        batch_size=config.batch_size,
        padding=config.padding,
        seed=config.seed,
        quirks=config.quirks,
        track=track,
    )


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
    """

    words: list[str]
    shown: str
    keys: Keys
    store: str | None = None

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
                return self._sweep(jobs, jobs.jobs(flags.overrides))
            self._run(jobs, Job(flags.overrides))
        return 0

    def _told(self, flags: Flags) -> str:
        """What the flags ask to be told."""
        if flags.asks_hydra:
            from entitrack.cli.told_by_hydra import tell

            return tell(flags, self.keys)
        from entitrack.cli.help import help_text

        return self.keys.hide(help_text(flags, self.keys))

    def _sweep(self, composer: Composer, jobs: Sequence[Job]) -> int:
        """Run every job, and say at the end which ones failed and why."""
        failures: list[str] = []
        try:
            for job in jobs:
                line = self._attempt(composer, job)
                if line is not None:
                    shown = " ".join(hide_words(job.overrides, self.keys))
                    failures.append(f"job {job.number} ({shown}): {line}")
        finally:
            for failure in failures:
                complain(failure, self.keys)
        if failures:
            complain(f"{len(failures)} of {len(jobs)} jobs failed", self.keys)
        return _FAILED if failures else 0

    def _attempt(self, composer: Composer, job: Job) -> str | None:
        """Run one job; gives why it failed."""
        try:
            self._run(composer, job)
        except Exception as error:
            line = explain(error)
            if line is None:
                print(self.keys.hide(traceback.format_exc()), file=sys.stderr)
            return line or f"the program failed ({type(error).__name__}: {error})"
        return None

    def _run(self, composer: Composer, job: Job) -> None:
        """Check a job's configuration, run it, record it, then show and log it."""
        composed = composer.compose(job)
        self.keys.add(composed.key)
        config, folder = check(composed.config), composed.folder()
        from entitrack.record.folder import write
        from entitrack.record.provenance import Invocation, provenance
        from entitrack.record.tracking import record as record_in_wandb

        self._check_places(config, folder)
        invocation = Invocation(self.shown, tuple(hide_words(job.overrides, self.keys)), datetime.now().astimezone())
        with env_override(composed.environment):
            begun = perf_counter()
            result, experiment = execute(config)
            seconds = perf_counter() - begun
        result = replace(result, provenance=provenance(config, experiment, invocation, seconds))
        problem = write(result, folder, self.keys)
        self._print(lambda: _show(result, experiment.runner.cost, seconds, folder))
        if problem:
            self._warn(f"no figure could be drawn ({problem})", folder)
        problem = record_in_wandb(result, config.tracking, folder, self.keys)
        if problem:
            self._warn(f"W&B has no record ({problem})", folder)

    def _check_places(self, config: RunConfig, folder: Path) -> None:
        """Refuse places that nothing can be recorded in, before anything is computed."""
        from entitrack.record.folder import check_folder
        from entitrack.record.tracking import check_tracking

        check_tracking(config.tracking)
        check_folder(folder)
        if config.store:
            check_folder(Path(config.store).absolute())
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

        if not self.store:
            return f"interrupted; nothing is kept; to start again: {self.shown}"
        jobs = Store(Path(self.store)).job_count()
        waiting = f", {jobs} jobs go on on the server and will be collected" if jobs else ""
        return f"interrupted; finished sessions are kept in {self.store}{waiting}; to go on: {self.shown}"


def _show(result: Result, cost: Cost, seconds: float, folder: Path) -> None:
    """Print a result, what it cost and where it is."""
    from entitrack.record import terminal

    terminal.show(result)
    for line in terminal.cost_lines(cost, seconds):
        print(f"  {line}")
    print(f"  recorded in {folder}")


if __name__ == "__main__":
    main()
