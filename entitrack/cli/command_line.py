"""From the words of a command line to composed configurations, one for each job.

Hydra's own way of starting a program makes a folder before anything is checked, writes the command line with its keys
into it, and ends a sweep at the first job that cannot be composed. So this composes with Hydra, and starts by itself.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from entitrack.cli.config import CONF
from entitrack.cli.flags import VERSION_BASE, Flags
from entitrack.cli.hydra_errors import CONFIGURATION, explain_composition, key_of
from entitrack.cli.kinds import offer_task
from entitrack.core.confidential import KEY
from entitrack.core.errors import UserError, shown

STUDY = "study"
"""Key of the steps of a study; and what its folder goes by, as that of a single run goes by its method."""

_LONGEST_KEY = 200
_ELSEWHERE: dict[str, object] = {
    "launcher._target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "sweeper._target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "sweeper.params": None,
    "mode": None,
    "job.chdir": None,
    "callbacks": {},
}
"""Settings of Hydra that nothing here follows, with the only value that is taken."""


def _kind_of_run(study: object, method: str) -> str:
    """What the folders of runs are sorted by, as conf/config.yaml asks."""
    return method if study is None else STUDY


OmegaConf.register_new_resolver("kind_of_run", _kind_of_run, replace=True)


@dataclass(frozen=True)
class Job:
    """One run that was asked for.

    Attributes:
        overrides: The words that make it up.
        number: Its place in a sweep; None outside of one.
        folder: Where its result belongs; None: where Hydra's settings say.
    """

    overrides: tuple[str, ...]
    number: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Composed:
    """A job's configuration.

    Attributes:
        config: The configuration, without Hydra's own section.
        whole: The same, with it.
        number: The job's place in a sweep; None outside of one.
        place: Where its result belongs; None: where Hydra's settings say.
    """

    config: DictConfig
    whole: DictConfig
    number: int | None
    place: Path | None = None

    def folder(self) -> Path:
        """Where the result belongs.

        Raises:
            UserError: Hydra's settings say nothing.
        """
        if self.place is not None:
            return self.place
        if self.number is None:
            return self._place("hydra.run.dir")
        return self._place("hydra.sweep.dir", "hydra.sweep.subdir")

    def sweep_folder(self) -> Path:
        """Where the results of a sweep belong.

        Raises:
            UserError: Hydra's settings say nothing.
        """
        return self._place("hydra.sweep.dir")

    def _place(self, *keys: str) -> Path:
        """A folder that Hydra's settings say, key by key."""
        parts: list[str] = []
        for key in keys:
            with explain_composition([key]):
                value = OmegaConf.select(self.whole, key)
            if value is None or not str(value).strip() or "\0" in str(value):
                raise UserError(key, f"{value!r} is not a folder", fix="leave it as it is, or name one")
            parts.append(str(value))
        return Path(*parts).absolute()

    @property
    def key(self) -> object:
        """The server's key, wherever it was given; None if there is none that can be read."""
        with contextlib.suppress(OmegaConfBaseException):
            return OmegaConf.select(self.config, KEY)
        return None

    @property
    def study(self) -> object:
        """The steps of a study, as they are written; None for a single run.

        Raises:
            UserError: They point to something that is not there.
        """
        with explain_composition([STUDY]):
            study = OmegaConf.select(self.config, STUDY)
            return OmegaConf.to_container(study, resolve=True) if OmegaConf.is_config(study) else study

    @property
    def environment(self) -> dict[str, str]:
        """Variables that are set while the job runs."""
        return {str(name): str(value) for name, value in self.whole.hydra.job.env_set.items()}


class Composer:
    """Composes the jobs of one command.

    Args:
        loader: Hydra, looking in the folders of the command.
        config_name: Name of the primary configuration.
    """

    def __init__(self, loader: Hydra, config_name: str) -> None:
        self._hydra = loader
        self._config_name = config_name
        self._first: DictConfig | None = None
        self._is_group = cache(lambda key: bool(self.options(key)))  # hydra looks through all folders for it

    def jobs(self, overrides: Sequence[str]) -> list[Job]:
        """Every job of a sweep.

        Raises:
            UserError: A word cannot be read.
        """
        parsed = [_parsed(word) for word in overrides]
        with explain_composition(overrides):
            (batch,) = BasicSweeper.split_arguments(parsed, None)
        return [Job(tuple(words), number) for number, words in enumerate(batch)]

    def compose(self, job: Job) -> Composed:
        """The configuration of a job.

        Raises:
            UserError: It does not compose: a word cannot be read, or names a group's option that does not exist.
        """
        words = [self._open(word) for word in job.overrides]
        try:
            with explain_composition(job.overrides):
                whole = self._compose(words)
        except UserError as error:
            raise self._located(words, error) from error
        with read_write(whole.hydra), open_dict(whole.hydra):
            whole.hydra.job.num = job.number or 0
            whole.hydra.job.id = str(job.number or 0)
        HydraConfig.instance().set_config(whole)
        config = whole.copy()
        with read_write(config), open_dict(config):
            del config["hydra"]
        return Composed(config, whole, job.number, job.folder)

    def options(self, group: str) -> list[str]:
        """Names of the configurations that a group offers."""
        return sorted(self._hydra.config_loader.get_group_options(group))

    def _compose(self, words: list[str]) -> DictConfig:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a folder to search in that is not there
            whole = self._hydra.compose_config(self._config_name, words, RunMode.RUN, with_log_configuration=False)
        if self._first is not None:
            OmegaConf.copy_cache(from_config=self._first, to_config=whole)  # one time stamp for all jobs
        self._first = self._first or whole
        for key, value in _ELSEWHERE.items():
            chosen = OmegaConf.select(whole, f"hydra.{key}")
            if chosen != value:
                raise UserError(f"hydra.{key}", f"{chosen!r} is not taken here", fix="leave it as it is")
        return whole

    def _located(self, words: list[str], error: UserError) -> UserError:
        """The same error; where it names no key, with that of the first word with which it comes up."""
        if not str(error).startswith(f"{CONFIGURATION}: "):
            return error
        for number in range(len(words) + 1):
            try:
                with explain_composition(words[:number]):
                    self._compose(words[:number])
            except UserError:
                place = key_of(words[number - 1]) if number else CONFIGURATION
                return UserError(place, str(error).removeprefix(f"{CONFIGURATION}: "))
        return error

    def _open(self, word: str) -> str:
        """An override of a key that may be new: the schema says which keys there are, and names the others."""
        override = _parsed(word)
        key, value = override.key_or_group, override.value()
        if key == "task" and isinstance(value, str) and ":" in value:
            offer_task(value)
        group = self._is_group(key)
        named = isinstance(value, (str, list)) or override.is_sweep_override()
        if group and not override.is_delete() and not named:
            raise UserError(key, f"{word.partition('=')[2]!r} is no {key}", self.options(key))
        closed = group or override.is_delete() or override.package is not None
        if closed or key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            return word
        return f"++{word.lstrip('+')}"


def _parsed(word: str) -> Override:
    """A word of the command line.

    Raises:
        UserError: It cannot be read.
    """
    if not key_of(word) or ("=" not in word and not word.startswith("~")):
        raise UserError("command line", f"{shown(word)} is not KEY=VALUE")
    if len(key_of(word)) > _LONGEST_KEY:
        raise UserError("command line", f"a key of {len(key_of(word))} characters is none of the configuration's")
    with explain_composition([word]):
        (override,) = OverridesParser.create().parse_overrides([word])
    return override


@contextmanager
def composer(flags: Flags) -> Iterator[Composer]:
    """Hydra, opened on the program's configuration and the command's own folder of configurations."""
    version.setbase(VERSION_BASE)
    path = create_config_search_path(str(CONF))
    if flags.config_dir is not None:
        own = f"file://{flags.config_dir.absolute()}"
        path.prepend(provider="command-line", path=own, anchor=SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    loader = Hydra.create_main_hydra2("entitrack", path)
    try:
        yield Composer(loader, flags.config_name)
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
