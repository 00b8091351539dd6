"""Bad words on the command line: one line each, which names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.hostile.trial import Trial, attempt

TRIALS = [
    Trial("unknown method", ("method=nope",), r"method: there is no method 'nope'; available: .*cmap"),
    Trial("unknown group", ("method.groups=[nope]",), r"method\.groups\.0: no group 'nope' in the circuit"),
]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_is_wrong_is_one_line(
    trial: Trial,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt(trial, launch, golden_overrides, tmp_path, capsys, monkeypatch)
