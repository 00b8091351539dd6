"""The program from Python: models, a task and a place to run, of which methods are asked.

1. What is given in Python becomes the words of a command line (`cli.words`), which are composed and checked as there:
   names, defaults and complaints are the same.
2. Models are loaded when they are first needed, and kept; finished sessions are in the store, as on the command line.
3. A result has its provenance, the words with which the command line gives it too, and is written by `save` alone.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from einops import rearrange
from hydra.core.utils import env_override

from entitrack.cli.command_line import STUDY, Composed, Job, composer
from entitrack.cli.config import RunConfig, check
from entitrack.cli.flags import parse
from entitrack.cli.general import GeneralSettings
from entitrack.cli.host import host_left_alone
from entitrack.cli.sections import looks_at
from entitrack.cli.words import words_of
from entitrack.core.circuits import Circuit
from entitrack.core.confidential import Keys, hide_words
from entitrack.core.errors import UserError, unknown_key
from entitrack.core.masks import Masks
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.methods import method_names, settings_of
from entitrack.methods.ablated_model import mean_z, one_length
from entitrack.methods.ablation_settings import AblationSettings
from entitrack.models.family import Family
from entitrack.record.folder import check_folder
from entitrack.record.provenance import Invocation, provenance
from entitrack.run import execute, experiment_of

SECTIONS = ("model", "task", "backend")
TOP = tuple(name for name in GeneralSettings.model_fields if name != STUDY)
_ANY = "evaluate"
"""A method that every study can run."""
_CHECKED_AS = (_ANY, "faithfulness", "cmap")
"""A study is checked before any method is asked for, with the first of these that uses all that is set for all."""

FROM_PYTHON = "from Python"
"""How the store calls what ran without a folder."""

Section = str | Mapping[str, Any]
"""Name of an option in `conf/`, or settings of the section; `name` among them chooses the option."""


class Study:
    """Models, a task and a place to run.

    Args:
        model: A family in `conf/model`, or its settings; None takes the command line's default, the embedded family.
        task: A task in `conf/task`, or its settings, such as `{"count": 84}`; None takes the default.
        overrides: Further words as on the command line, such as `model.dtype=bfloat16` or `experiment=sparse_circuit`.
        config_dir: A folder of configurations of one's own, as `--config-dir`.
        top: `backend`, and what is set outside of sections, for every run that uses it: `donor`, `circuit`,
            `batch_size`, `memory`, `padding`, `seed`, `store`, ... (`store=None` keeps nothing).

    Raises:
        UserError: Something is not known, or not what its key takes; it names what is.
    """

    def __init__(
        self,
        model: Section | None = None,
        task: Section | None = None,
        overrides: Sequence[str] = (),
        config_dir: str | Path | None = None,
        **top: Any,
    ) -> None:
        for name in top:
            if name not in (*SECTIONS, *TOP):
                raise unknown_key("", name, [*SECTIONS, "overrides", "config_dir", *TOP])
        sections = {"model": model, "task": task}
        self._given = {**{name: given for name, given in sections.items() if given is not None}, **top}
        self._overrides = tuple(overrides)
        self._flags = () if config_dir is None else ("--config-dir", str(config_dir))
        self._family: tuple[Any, Family] | None = None
        self._files: TemporaryDirectory[str] | None = None
        asked = next(method for method in _CHECKED_AS if all(_uses(method, *entry) for entry in self._given.items()))
        self._check(self._words(asked, {}))

    def run(self, method: str, **settings: Any) -> Result:
        """Ask one question.

        Args:
            method: Name of the method.
            settings: The method's settings, nested ones as dicts: `choose={"by": "fdr"}`. Names that are none of the
                method's are, for this run alone, what `Study` takes: `donor="goat"`, `task={"count": 84}`. A path or
                name of a circuit or masks may be given as what another run found: `result.artefacts["circuit"]`.

        Returns:
            The result, with what it was computed from. Nothing is written but finished sessions, to the store.

        Raises:
            UserError: A name is not known, or a value is not what its key takes.
        """
        words = self._words(method, settings)
        composed, config = self._check(words)
        keys = Keys()
        keys.add(composed.key)
        shown = tuple(hide_words(words, keys))
        command = shlex.join(["python", "-m", "entitrack.run", *self._flags, *shown])
        invocation = Invocation(keys.hide(command), shown, datetime.now().astimezone())
        if config.store:
            check_folder(Path(config.store).absolute())
        with env_override(composed.environment):
            begun = perf_counter()
            result, experiment = execute(config)
            seconds = perf_counter() - begun
        used = keys.hide_within(provenance(config, experiment, invocation, seconds))
        experiment.runner.note_use(f"{FROM_PYTHON}: {' '.join(shown)}", result.method, invocation.begun.isoformat())
        return replace(result, provenance=used)

    def mean_z(self, model: str | None = None, count: int | None = None) -> Measurement:
        """What mean ablation puts in the place of a head: its mean z over prompts with random content (section 4.2).

        Args:
            model: Name of a member of the family; None takes the base.
            count: Number of prompts; None takes the default of `method.mean_count`.

        Returns:
            Values `[layer, head, token, d_head]`, at every token of the task's prompts.

        Raises:
            UserError: There is no such member, or prompts differ in length.
        """
        settings = AblationSettings() if count is None else AblationSettings(mean_count=count)
        experiment = experiment_of(self._check(self._words(_ANY, {}))[1])
        member = experiment.member(model, "model")
        length = one_length(experiment.encoded(experiment.task.prompts()), "task")
        values = mean_z(experiment, member, settings.mean_count, length)
        heads = member.anatomy["n_heads"]
        by_head = rearrange(values, "layer token (head d_head) -> layer head token d_head", head=heads)
        return Measurement(by_head, ("layer", "head", "token", "d_head"))

    def __repr__(self) -> str:
        """As it was made; a server's key is not shown."""
        words = hide_words([*self._given_words(self._given), *self._overrides], Keys())
        return f"Study({' '.join(words)})"

    def _words(self, method: str, settings: Mapping[str, Any]) -> list[str]:
        """The command line that asks a method, with these settings of this run alone."""
        if method not in method_names():
            raise UserError("method", f"there is no method {method!r}", method_names())
        own = settings_of(method).model_fields
        given = {name: value for name, value in self._given.items() if _uses(method, name, value)}
        for name, value in settings.items():
            if name in own:
                continue
            if name not in (*SECTIONS, *TOP):
                known = [*own, *(other for other in (*SECTIONS, *TOP) if other not in own)]
                raise unknown_key("method", name, known)
            given[name] = _merged(given.get(name), value) if name in SECTIONS else value
        of_method = {name: value for name, value in settings.items() if name in own}
        below = words_of("method", of_method, self._kept)
        return [*self._given_words(given), f"method={method}", *self._overrides, *below]

    def _given_words(self, given: Mapping[str, Any]) -> list[str]:
        """What is given outside of the method, as words: options of sections first."""
        words: list[str] = []
        for name, value in given.items():
            if name not in SECTIONS:
                words += words_of(name, value, self._kept)
                continue
            section = _settings(value)
            options = words_of(name, section.pop("name"), self._kept) if "name" in section else ()
            words = [*options, *words, *words_of(name, section, self._kept)]
        return words

    def _check(self, words: Sequence[str]) -> tuple[Composed, RunConfig]:
        """The checked configuration of a command line, with the family whose models are loaded."""
        with host_left_alone(), composer(parse(self._flags)) as opened:
            composed = opened.compose(Job(tuple(words)))
            if composed.study is not None:
                fix = "ask its methods one by one, or give the study to the command line"
                raise UserError(STUDY, "is of the command line", fix=fix)
            config = check(composed.config)
        section = config.plain["model"], config.plain["backend"]
        if self._family is None or self._family[0] != section:
            self._family = section, config.family
        return composed, replace(config, family=self._family[1])

    def _kept(self, artefact: Circuit | Masks) -> str:
        """The path of what another run found, written for as long as the study lives."""
        if self._files is None:
            self._files = TemporaryDirectory(prefix="entitrack-")
        kind, folder = type(artefact).__name__.lower(), Path(self._files.name)
        artefact.write(folder / "written.json")
        digest = hashlib.sha256((folder / "written.json").read_bytes()).hexdigest()
        return str((folder / "written.json").rename(folder / f"{kind}-{digest[:16]}.json"))


def _uses(method: str, name: str, value: Any) -> bool:
    """Whether a method takes what is set for all runs; asked for by itself, one that does not look at it refuses it."""
    return value is None or looks_at(method, name)


def _settings(section: Section) -> dict[str, Any]:
    return {"name": section} if isinstance(section, str) else dict(section)


def _merged(before: Section | None, section: Section) -> dict[str, Any]:
    """A section with the settings of one run; another option leaves nothing of the first."""
    old, added = _settings(before or {}), _settings(section)
    return added if added.get("name", old.get("name")) != old.get("name") else {**old, **added}
