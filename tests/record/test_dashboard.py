"""The W&B workspace as code: every chart is about metrics that the runs have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dashboard
import pytest

from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Table
from entitrack.record import tracking
from tests.methods import hand_made


def result(method: str, *rows: tuple[str, float], curve: bool = False) -> Result:
    cells = tuple((name, Estimate(value, 0.0, 1.0, 9), value) for name, value in rows)
    losses = {"loss": hand_made.measured([[2.0, 1.0]], "mask step", mask=("a",), step=("0", "1"))} if curve else {}
    return Result(method, {}, losses, tables=(Table("t", ("model", "accuracy [95 %]", "F(C)/F(M)"), cells),))


RESULTS = [
    result("cmap", ("llama (base)", 0.5), ("float (donor)", 0.75)),
    result("cmap", ("llama (base)", 0.5), ("goat (donor)", 0.75), ("some / group", 0.5)),
    result("dcm", ("one", 0.25), curve=True),
]


def test_a_chart_is_a_column_over_the_rows_of_all_runs() -> None:
    assert dashboard.charts(RESULTS) == {
        "cmap": {
            "accuracy": ["base/accuracy", "donor/accuracy", "some / group/accuracy"],
            "F(C)/F(M)": ["base/F(C)/F(M)", "donor/F(C)/F(M)", "some / group/F(C)/F(M)"],
        },
        "dcm": {"accuracy": ["one/accuracy"], "F(C)/F(M)": ["one/F(C)/F(M)"]},
    }


def panels(specification: Any) -> list[tuple[str, dict[str, Any]]]:
    sections = specification["spec"]["section"]["panelBankConfig"]["sections"]
    return [(panel["viewType"], panel["config"]) for section in sections for panel in section["panels"]]


def test_the_specification_is_what_w_and_b_is_given() -> None:
    pytest.importorskip("wandb_workspaces")
    told = {metric for one in RESULTS for metric in tracking.metrics(one.tables[0])}
    named = {metric for bars in dashboard.charts(RESULTS).values() for metrics in bars.values() for metric in metrics}
    assert named < told, "every chart is about metrics that runs have"
    shown = panels(dashboard.specification(RESULTS, "mine"))
    assert [kind for kind, _ in shown] == [
        "Media Browser", "Bar Chart", "Bar Chart", "Media Browser", "Bar Chart", "Bar Chart", "Run History Line Plot"
    ]  # fmt: skip
    assert shown[1][1]["metrics"] == dashboard.charts(RESULTS)["cmap"]["accuracy"]
    assert shown[1][1]["groupBy"] == "config:donor.value"
    assert shown[-1][1]["metrics"] == ["loss/a"]


def test_the_job_prints_it_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb_workspaces")
    RESULTS[0].save(tmp_path / "runs" / "one")
    monkeypatch.setattr(sys, "argv", ["dashboard.py", str(tmp_path / "runs")])
    dashboard.main()
    told = json.loads(capsys.readouterr().out)
    assert [kind for kind, _ in panels(told)] == ["Media Browser", "Bar Chart", "Bar Chart"]
    monkeypatch.setattr(sys, "argv", ["dashboard.py", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit):
        dashboard.main()
    assert "FOLDER: has no result.json" in capsys.readouterr().err
