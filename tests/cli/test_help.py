"""`--help`: everything that can be set, said once, at once, and on any terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from entitrack.cli.general import GeneralSettings
from entitrack.cli.kinds import BACKENDS, LAUNCHERS, TASKS
from entitrack.core.settings import Settings, defaults
from entitrack.core.settings_words import describe
from entitrack.methods import method_names, settings_of
from entitrack.models.settings import FamilySettings
from entitrack.record.settings import TrackingSettings
from tests.conftest import Launch

HEAVY = ("torch", "transformers", "nnsight", "datasets", "matplotlib", "pandas", "wandb", "httpx")
LIGHT_COMMANDS = [
    "--help",
    "method=cmap --help",
    "backend=ndif model=tiny task=boxes tracking=online -h",
    "method=nope",
    "seed=x",
    "donor=nope",
    "method=cmap method.components=[q]",
    "task=boxes_file",
]


def every_class() -> Iterator[type[BaseModel]]:
    """Every settings class that the command line knows."""
    yield from (settings_of(name) for name in method_names())
    yield from (kind.settings for kind in BACKENDS.values())
    yield from LAUNCHERS.values()
    yield from (kind for kind in TASKS.values() if issubclass(kind, BaseModel))
    yield from (FamilySettings, GeneralSettings, TrackingSettings)


def help_for(launch: Launch, capsys: pytest.CaptureFixture[str], words: str = "") -> str:
    assert launch(*words.split(), "--help") == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


@pytest.mark.parametrize("kind", list(every_class()), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_setting_says_what_it_does_and_takes(kind: type[Settings]) -> None:
    assert (kind.__doc__ or "").strip()
    for setting in describe(kind, defaults(kind)):
        assert setting.help, setting.key
        assert setting.takes, setting.key


def test_the_overview_names_everything_that_can_be_chosen(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    words = help_for(launch, capsys).split()
    for name in (*method_names(), *TASKS, *BACKENDS, *LAUNCHERS, "tiny", "llama-7b", "tiny_circuit"):
        assert name in words


def test_methods_are_told_by_their_questions(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    told = " ".join(help_for(launch, capsys).split())
    for name in method_names():
        assert f"{name} {(settings_of(name).__doc__ or '').splitlines()[0]}" in told


@pytest.mark.parametrize("method", method_names())
def test_a_method_shows_all_its_settings(method: str, launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_for(launch, capsys, f"method={method}").splitlines()
    keys = {line.strip().partition("=")[0] for line in lines if line.startswith("  ") and line[2] != " "}
    assert {f"method.{name}" for name in settings_of(method).model_fields} <= keys
    assert set(GeneralSettings.model_fields) <= keys


def test_sections_that_words_are_about_are_shown(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    told = help_for(launch, capsys, "backend=ndif model=tiny task=boxes tracking=online")
    for word in ("backend.in_flight=4", "model.members.NAME.adapter", "task.boxes=7", "tracking.mode=online"):
        assert f"  {word}\n" in told
    assert "method." not in told


def test_values_are_those_that_the_words_give(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    told = help_for(launch, capsys, "experiment=tiny_circuit method.verify=8 seed=3 output_dir=here")
    for word in ("method.verify=8", "seed=3", "store=here/store", "method.choose.by=count", "method.stages.N.role"):
        assert f"  {word}\n" in told


@pytest.mark.parametrize("words", ["", "method=path_patching backend=ndif model=tiny", "task=boxes_file"])
def test_it_fits_80_columns_and_is_plain_when_piped(
    words: str, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = help_for(launch, capsys, words)
    assert max(map(len, told.splitlines())) <= 80
    assert told.replace("\n", "").isprintable()


def test_what_must_be_given_is_marked(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "  task.path=(must be given)\n" in help_for(launch, capsys, "task=boxes_file")


def test_a_setting_that_counts_with_another_one_says_so(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "with by=fdr only" in " ".join(help_for(launch, capsys, "method=path_patching").split())


def test_keys_are_not_shown(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    words = "backend=ndif backend.key=s3cret-of-mine backend.host=https://me:pass-of-mine@host" + "/x" * 60
    told = help_for(launch, capsys, words)
    assert "s3cret" not in told
    assert "pass-of" not in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("method=nope", "method: there is no method 'nope'; available: ablation, activation_patching"),
        ("method=cmap method.nope=1", "method.nope: unknown key; available: groups"),
        ("method=cmap seed=x", "seed: 'x' is not a whole number"),
        ("donor=nope", "donor: family 'sparse' has no member 'nope'"),
        ("nonsense", "command line: 'nonsense' is not KEY=VALUE"),
    ],
)
def test_a_wrong_word_is_one_line(words: str, says: str, launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(*words.split(), "--help") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"entitrack: {says}")
    assert len(told.err.splitlines()) == 1


def test_a_family_that_names_no_donor_yet_is_shown(
    launch: Launch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "mine.yaml").write_text(
        "# My own models. In order.\nname: mine\nbase: a\nmembers:\n  a: {path: x}\n"
    )
    assert "  donor=null\n" in help_for(launch, capsys, "--config-dir my model=mine")
    assert re.search(r"^  mine +My own models\.$", help_for(launch, capsys, "--config-dir my"), re.MULTILINE)


def test_a_sweep_is_shown_by_its_first_job(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert help_for(launch, capsys, "--multirun method=dcm,cmap").startswith("method=dcm\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("method=cmap --cfg job", "batch_size: 84"),
        ("method=cmap --cfg job --package method", "form: output"),
        ("method=cmap --info defaults", "method/cmap"),
        ("--hydra-help", "--multirun"),
    ],
)
def test_hydra_goes_on_telling_what_it_tells(
    words: str, says: str, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(*words.split()) == 0
    assert says in capsys.readouterr().out


def test_help_and_mistakes_need_none_of_the_heavy_libraries() -> None:
    """One after the other in one process: what one of them needed is named with it."""
    program = (
        "import contextlib, io, json, sys\n"
        "from entitrack.run import main\n"
        "needed = {}\n"
        f"for command in {LIGHT_COMMANDS!r}:\n"
        "    sys.argv = ['entitrack', *command.split()]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main()\n"
        f"    needed[command] = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps(needed))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {command: [] for command in LIGHT_COMMANDS}
