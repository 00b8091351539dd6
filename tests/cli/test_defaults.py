"""What holds where nothing is said. A default that changes gives every recorded command another result.

`defaults.txt` has them, and what each setting takes, as `--help` prints them; where one is to change, it changes there
too, on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from entitrack.cli.general import GeneralSettings
from entitrack.cli.kinds import BACKENDS, LAUNCHERS, TASKS
from entitrack.core.settings import Settings, defaults
from entitrack.core.settings_words import describe
from entitrack.core.stages import Edge, Stage
from entitrack.methods import method_names, settings_of
from entitrack.methods.path_patching.settings import Choice
from entitrack.models.checkpoint import Checkpoint
from entitrack.models.settings import FamilySettings
from entitrack.record.settings import TrackingSettings

RECORDED = Path(__file__).with_name("defaults.txt")


def sections() -> Iterator[tuple[str, type]]:
    """Every settings class, and the word that chooses it."""
    yield from ((f"method={name}", settings_of(name)) for name in method_names())
    yield from ((f"task={name}", kind) for name, kind in TASKS.items())
    yield from ((f"backend={name}", kind.settings) for name, kind in BACKENDS.items())
    yield from ((f"launcher={name}", kind) for name, kind in LAUNCHERS.items())
    yield from (("a stage", Stage), ("an edge", Edge), ("a choice of heads", Choice), ("a member", Checkpoint))
    yield from (("model", FamilySettings), ("tracking", TrackingSettings), ("every run", GeneralSettings))


def told() -> Iterator[str]:
    """A line a setting: its value where nothing is said, and what it takes."""
    for word, kind in sections():
        assert issubclass(kind, Settings), word
        yield word
        for setting in describe(kind, defaults(kind)):
            value = "" if setting.one_of_several else f"={setting.value}"
            yield f"  {setting.key}{value} [{setting.takes}]"


def test_defaults_are_those_that_are_recorded() -> None:
    assert list(told()) == RECORDED.read_text().splitlines()
