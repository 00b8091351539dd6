"""What `--help` says: what there is to choose from; of what is chosen on the command line, every setting.

1. The words are composed and checked as for a run, so that a wrong one is refused with the same line.
2. Sections that words are about (`method=cmap`, `task.count=8`, `experiment=...`) are shown setting by setting, with
   the values that the command would give them; if there are none, the overview is.
3. Everything comes from settings classes and the first lines of their docstrings, and of the files in `conf/`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from pydantic import BaseModel

from entitrack.cli.command_line import Job, composer
from entitrack.cli.config import CONF, resolved
from entitrack.cli.flags import Flags
from entitrack.cli.general import GeneralSettings
from entitrack.cli.hydra_errors import key_of
from entitrack.cli.kinds import BACKENDS, LAUNCHERS, TASKS
from entitrack.cli.sections import SECTIONS, check_use, read_sections, section_classes
from entitrack.cli.steps import read_steps
from entitrack.core.confidential import Keys, hidden_key
from entitrack.core.settings import NO_VALUE
from entitrack.core.settings_words import Setting, describe
from entitrack.methods import method_names, settings_of

_WIDEST = 110
_ABOUT = (
    "entitrack: what did fine-tuning change inside a language model?",
    "It runs one method on a base model and its fine-tuned donors, and records what it finds.",
)
_EXAMPLES = (
    "entitrack method=cmap donor=float",
    "entitrack method=path_patching task.count=1008 method.verify=8",
    "entitrack --multirun method=cmap donor=float,goat,vicuna",
)
_MORE = (
    ("entitrack method=NAME --help", "a method's settings; as well task=NAME, model=NAME, backend=NAME, tracking=NAME"),
    ("entitrack WORDS --cfg job", "the whole configuration that the words give"),
    ("entitrack --hydra-help", "flags of Hydra, which reads the words: sweeps, folders of one's own"),
    ("README.md", "what the methods are, what they leave behind, servers, models of one's own"),
)


def help_text(flags: Flags, keys: Keys) -> str:
    """What a command line with `--help` prints.

    Raises:
        UserError: One of its words is wrong.
    """
    with composer(flags) as jobs:
        job = jobs.jobs(flags.overrides)[0] if flags.multirun else Job(flags.overrides)
        composed = jobs.compose(job)
        keys.add(composed.key)
        options = {group: jobs.options(group) for group in ("model", "experiment")}
    values, chosen = resolved(composed.config), _chosen(job.overrides, composed.study is not None)
    _check(values)
    shown = keys.hide_within({**values, "backend": hidden_key(values["backend"])})
    steps = _steps(composed.study)
    lines = [*steps, *_detail(shown, chosen)] if chosen or steps else _overview(options, flags.config_dir)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _chosen(words: Sequence[str], study: bool) -> list[str]:
    """The sections that words are about, in the order of the words; a study's steps have methods of their own."""
    named = (key_of(word).partition(".")[0].partition("@")[0] for word in words)
    sections = ("method" if name == "experiment" and not study else name for name in named)
    return list(dict.fromkeys(section for section in sections if section in SECTIONS))


def _steps(study: object) -> list[str]:
    """The steps of a study, if it is one, each with its words."""
    if study is None:
        return []
    told = [f"{step.name}: {' '.join(step.words)}" for step in read_steps(study)]
    steps = [line for text in told for line in wrap(text, _width(), initial_indent="  ", subsequent_indent=" " * 6)]
    return ["study: a run a step; @STEP/ is the folder of an earlier one", "", *steps, ""]


def _overview(options: Mapping[str, Sequence[str]], own: Path | None) -> Iterator[str]:
    """What there is to choose from."""
    yield from (line for text in _ABOUT for line in wrap(text, _width()))
    yield from ("", *(f"  {example}" for example in _EXAMPLES))
    yield from _table("Methods: method=NAME", {name: _first_line(settings_of(name)) for name in method_names()})
    yield from _table("Tasks: task=NAME", {name: _first_line(kind) for name, kind in TASKS.items()})
    for group, title in (("model", "Models: model=NAME"), ("experiment", "Named runs: experiment=NAME")):
        yield from _table(title, {name: _first_comment(group, name, own) for name in options[group]})
    yield from _table("Backends: backend=NAME", {name: _first_line(kind.settings) for name, kind in BACKENDS.items()})
    yield from _table("Launchers of sweeps: launcher=NAME", {name: _first_line(of) for name, of in LAUNCHERS.items()})
    yield from ("", "More")
    for command, text in _MORE:
        yield f"  {command}"
        yield from _wrapped(text, "      ")


def _detail(values: Mapping[str, Any], chosen: Sequence[str]) -> Iterator[str]:
    """Every setting of the sections that were chosen, and of what is outside of all sections."""
    kinds = section_classes(values)
    for section in chosen:
        given = values[section]
        yield f"{section}={given['mode' if section == 'tracking' else 'name']}"
        yield from _wrapped(_first_line(kinds[section]), "  ")
        yield ""
        yield from _settings(kinds[section], given, f"{section}.")
    yield "every run"
    yield ""
    yield from _settings(GeneralSettings, values, "")
    if chosen:
        yield "example"
        yield f"  {_example(chosen, values)}"


def _check(values: Mapping[str, Any]) -> None:
    """Refuse wrong words; what is still to be given, a value or a donor, is no mistake yet."""
    if NO_VALUE not in _leaves(values):
        checked = read_sections(values)
        if checked.general.donor is not None:
            check_use(checked.general, checked.family, checked.method)


def _leaves(value: Any) -> Iterator[Any]:
    """The values in nested sections and lists."""
    if isinstance(value, (Mapping, list)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(entry)
    else:
        yield value


def _settings(kind: type, values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Key, value, and what it does and takes, of every setting of a class."""
    if not issubclass(kind, BaseModel):
        yield from (f"  {prefix}{name}={_as_word(value)}" for name, value in values.items() if name != "name")
        yield ""
        return
    for setting in describe(kind, values):
        yield from _entry(setting, prefix)
    if not kind.model_fields:
        yield "  nothing to set"
    yield ""


def _entry(setting: Setting, prefix: str) -> Iterator[str]:
    """One setting: its key and value, and below what it does and takes."""
    assigned = "" if setting.one_of_several else f"={_as_word(setting.value)}"
    line = f"  {prefix}{setting.key}{assigned}"
    yield line if len(line) <= _width() else f"{line[: _width() - 4]} ..."
    yield from _wrapped(f"{setting.help} [{setting.takes}]", "      ")


def _as_word(value: Any) -> str:
    """A value as the command line takes it."""
    if value == NO_VALUE:
        return "(must be given)"
    if value is None:
        return "null"
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _example(chosen: Sequence[str], values: Mapping[str, Any]) -> str:
    """A command about what was chosen."""
    method = values["method"]["name"]
    words = [f"method={method}"]
    words += [f"{section}={values[section]['name']}" for section in chosen if section not in ("method", "tracking")]
    if settings_of(method).needs_donor and values["donor"]:
        words.append(f"donor={_as_word(values['donor'])}")
    return " ".join(["entitrack", *words])


def _table(title: str, rows: Mapping[str, str]) -> Iterator[str]:
    """Names and what they are, side by side."""
    yield from ("", title)
    wide = max(map(len, rows), default=0)
    for name, text in rows.items():
        first, *others = wrap(text, max(20, _width() - wide - 4)) or [""]
        yield f"  {name:{wide}}  {first}"
        yield from (f"  {'':{wide}}  {line}" for line in others)


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(text, _width(), initial_indent=indent, subsequent_indent=indent)


def _width() -> int:
    """Columns: those of the terminal, or 80 where there is none."""
    columns = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else 80
    return max(40, min(columns, _WIDEST))


def _first_line(kind: type) -> str:
    """The first line of a class's docstring."""
    return (kind.__doc__ or "").strip().partition("\n")[0].strip()


def _first_comment(group: str, name: str, own: Path | None) -> str:
    """The first sentence of the comment that a group's file begins with."""
    for folder in (own, CONF):
        path = folder / group / f"{name}.yaml" if folder else None
        if path is not None and path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            comments = takewhile(lambda line: line.startswith("#"), lines)
            text = " ".join(line.removeprefix("#").strip() for line in comments if "@package" not in line)
            return f"{text.partition('. ')[0].rstrip('.')}." if text else ""
    return ""
