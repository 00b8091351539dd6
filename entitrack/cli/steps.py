"""The steps of a study: one run each, in order, that may read what steps before them found.

    study:
      circuit: experiment=sparse_circuit
      cmap: method=cmap circuit=@circuit/circuit.json

1. A step is the words of one command. What is set for all of them, in the study's own file, holds for each; what the
   command line sets wins over both, where the step's method looks at it (`donor`, `circuit`, `compat`).
2. `@STEP/` stands for the folder of an earlier step; what is read from there must be something that its method finds.
3. Every step is composed and checked before any model is loaded; what is wrong is one line that names the step.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from entitrack.cli.command_line import STUDY, Composed, Composer, Job
from entitrack.cli.config import RunConfig, check
from entitrack.cli.hydra_errors import key_of
from entitrack.cli.quoting import text_word
from entitrack.cli.sections import looks_at
from entitrack.core.errors import UserError, shown
from entitrack.methods import settings_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_EARLIER = re.compile(r"(?<![\w/@.-])@([^/\s,\]\)}'\"]*)/?([\w./-]*)")
"""`@STEP/FILE`, at the beginning of a value or of an entry of a list."""
_FOR_SOME = ("donor", "circuit", "compat")
"""What may be set for all steps, and is told only to those that use it."""


@dataclass(frozen=True)
class Step:
    """One run of a study.

    Attributes:
        name: Its name, and that of its folder.
        words: The words that make it up, as they are written.
        reads: What it reads of earlier steps: their names, and the file's.
    """

    name: str
    words: tuple[str, ...]
    reads: tuple[tuple[str, str], ...]

    @property
    def place(self) -> str:
        """The key of the configuration that it is written at."""
        return f"{STUDY}.{self.name}"


@dataclass(frozen=True)
class PlannedStep:
    """A step that can be run, as far as that can be known.

    Attributes:
        step: The step.
        words: All words of its run.
        composed: Its configuration.
        config: The same, checked.
        folder: Where its result belongs.
    """

    step: Step
    words: tuple[str, ...]
    composed: Composed
    config: RunConfig
    folder: Path


def read_steps(study: object) -> list[Step]:
    """The steps of a study, in order; one whose words are null is left out.

    Args:
        study: As it is written: a section of names and words.

    Raises:
        UserError: There are none; a name is none for a folder; words cannot be told apart; or one reads what no
            earlier step leaves.
    """
    if not isinstance(study, Mapping):
        raise UserError(STUDY, f"{shown(study)} is not a section", fix="write study.NAME='\"method=...\"'")
    steps: list[Step] = []
    for name, text in study.items():
        if text is not None:
            steps.append(_read(str(name), text, [step.name for step in steps]))
    if not steps:
        raise UserError(STUDY, "has no steps", fix="write study.NAME='\"method=...\"'")
    return steps


def _read(name: str, text: object, earlier: Sequence[str]) -> Step:
    place = f"{STUDY}.{name}"
    if not isinstance(text, str):
        raise UserError(place, f"{shown(text)} is not the words of a command, such as 'method=cmap'")
    if not _NAME.fullmatch(name):
        raise UserError(place, "is no name of a folder", fix="name steps with letters, digits, '_' and '-'")
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(place, f"cannot be read ({error})", fix="quote as on a command line") from error
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise UserError(place, f"{shown(word)} is not KEY=VALUE")
        if key_of(word).partition(".")[0] in (STUDY, "hydra"):
            raise UserError(place, f"{key_of(word)} is the whole study's, and no step's")
    reads = tuple((found[1], found[2]) for word in words for found in _EARLIER.finditer(word.partition("=")[2]))
    for source, file in reads:
        if source not in earlier:
            raise UserError(place, f"reads @{source}, which is no step before it", earlier)
        if not file:
            raise UserError(place, f"names no file of @{source}", fix=f"write @{source}/circuit.json")
    return Step(name, words, reads)


def plan(composer: Composer, job: Job, composed: Composed, folder: Path) -> list[PlannedStep]:
    """Every step of a study, composed and checked; nothing is loaded.

    Args:
        composer: Composes.
        job: The words of the study.
        composed: Its configuration.
        folder: The study's folder.

    Raises:
        UserError: Naming the step, and what is wrong with it.
    """
    planned: list[PlannedStep] = []
    steps, shared = read_steps(composed.study), _shared(job)
    for step in steps:
        with _naming(step):
            planned.append(_planned(composer, shared, step, folder))
            _check_reads(step, {before.step.name: before.config.method for before in planned})
    return planned


def _planned(composer: Composer, shared: Sequence[str], step: Step, folder: Path) -> PlannedStep:
    some = [word for word in shared if key_of(word) in _FOR_SOME]
    words = step_words(step, [word for word in shared if word not in some], folder)
    composed = composer.compose(Job(words))
    if some:
        used = [word for word in some if _uses(composed, key_of(word))]
        words = step_words(step, [word for word in shared if word not in some or word in used], folder)
        composed = composer.compose(Job(words))
    return PlannedStep(step, words, composed, check(composed.config), folder / step.name)


def _shared(job: Job) -> list[str]:
    """The words of a study that are each step's, too.

    Raises:
        UserError: One chooses a method.
    """
    for word in job.overrides:
        if key_of(word) == "method":
            fix = "leave it out, or say study=null for a single run"
            raise UserError("method", "the steps of a study have methods of their own", fix=fix)
    return [word for word in job.overrides if key_of(word).partition(".")[0] not in (STUDY, "hydra")]


def step_words(step: Step, shared: Sequence[str], folder: Path) -> tuple[str, ...]:
    """The words of a step's run: its own, then those of the study, which win.

    An `experiment` of the step is composed upon that of the study.
    """
    own = [_with_folders(word, folder) for word in step.words]
    experiments = [word.partition("=")[2] for word in (*shared, *own) if key_of(word) == "experiment"]
    merged = [f"experiment=[{','.join(name.strip('[]') for name in experiments)}]"] if experiments else []
    taken = {key_of(word) for word in shared}
    others = [word for word in own if key_of(word) not in {*taken, "experiment"}]
    return (*merged, *others, *(word for word in shared if key_of(word) != "experiment"), f"{STUDY}=null")


def _with_folders(word: str, folder: Path) -> str:
    """A word with the files of earlier steps for what stands for them."""
    key, equals, value = word.partition("=")
    put = lambda found: text_word(str(_near(folder) / found[1] / found[2]))  # noqa: E731
    return key + equals + _EARLIER.sub(put, value)


def _near(folder: Path) -> Path:
    """A folder as it is written from here, where it is below."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _uses(composed: Composed, key: str) -> bool:
    """Whether the method of a step looks at something that is set for all steps."""
    return looks_at(str(composed.config.method.name), key)


def _check_reads(step: Step, methods: Mapping[str, str]) -> None:
    """Refuse a step that reads what the step before it does not leave."""
    for source, file in step.reads:
        leaves = [f"{name}.json" for name in settings_of(methods[source]).leaves]
        if file not in leaves:
            problem = f"reads {file!r} of @{source}, whose method {methods[source]!r} does not leave it"
            raise UserError("", problem, leaves, "" if leaves else "such a method leaves nothing for others to read")


@contextmanager
def _naming(step: Step) -> Iterator[None]:
    """Errors name the step."""
    try:
        yield
    except UserError as error:
        raise UserError(step.place, str(error).removeprefix(": ")) from error
