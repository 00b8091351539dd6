"""The page about runs: what is on it, without a browser; all methods."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from entitrack import report as door
from entitrack.core.circuits import Circuit
from entitrack.core.drawing import HeatMap
from entitrack.methods import method_names, question_of
from entitrack.record.report.markup import VOID
from entitrack.record.report.page import report
from entitrack.record.report.reading import Run, read_runs
from tests.record.small_runs import Runs


@pytest.fixture(scope="module")
def all_runs(runs: Runs) -> list[Run]:
    return [Run(folder, result) for result, folder in map(runs, method_names())]


@pytest.fixture(scope="module")
def page(all_runs: list[Run]) -> str:
    return report(all_runs, "All & every <method>")


class Outline(HTMLParser):
    """Opens and closes elements as a browser does, and refuses what does not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.headings: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.identifiers += [str(value) for name, value in attrs if name == "id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_in_order(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert len(set(outline.identifiers)) == len(outline.identifiers)
    assert outline.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert "<title>All &amp; every &lt;method&gt;</title>" in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert target in outline.identifiers


def test_nothing_is_fetched(page: str) -> None:
    assert all(target.startswith("#") for target in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", page)


def test_every_method_has_its_claim_figure_limits_command_and_numbers(page: str, all_runs: list[Run]) -> None:
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', page, re.DOTALL))
    for run in all_runs:
        section, result = sections[run.result.method], run.result
        text = re.sub(r"<[^>]+>", "", section)
        assert plain(result.claim()) in text
        assert plain(question_of(result.method)) in text
        assert all(plain(limit) in text for limit in result.limits())
        assert plain(str(result.provenance["command"])) in text
        assert section.count("<caption>") == len(result.tables)
        drawing = result.drawing()
        assert section.count('role="img"') == (len(drawing.panels) if drawing else 0)
        for panel in drawing.panels if drawing else ():
            if isinstance(panel, HeatMap):
                assert section.count("data-tip=") >= len(panel.rows.entries) * len(panel.columns.entries)


def plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_circuits_are_drawn_with_every_head(page: str, all_runs: list[Run]) -> None:
    section = re.findall(r'<section id="circuits">(.*?)</section>', page, re.DOTALL)[0]
    circuits = [run.result.artefacts["circuit"] for run in all_runs if "circuit" in run.result.artefacts]
    sizes = [sum(len(group.heads) for group in circuit.groups) for circuit in circuits if isinstance(circuit, Circuit)]
    assert section.count('class="head cell"') == sum(sizes) > 0


def test_prompts_can_be_looked_into(page: str, all_runs: list[Run]) -> None:
    (run,) = (run for run in all_runs if run.result.method == "cmap")
    section = re.findall(r'<section id="cmap">(.*?)</section>', page, re.DOTALL)[0]
    assert run.result["correct"].prompts is not None
    rows = re.findall(r'<tr data-wrong="([^"]*)">', section)
    assert len(rows) == len(run.result["correct"].prompts)
    wrong = int((~run.result["correct"].at(model="base").values).sum())
    assert sum("0" in row.split() for row in rows) == wrong


def test_claims_tell_numbers_that_tables_have(all_runs: list[Run]) -> None:
    """Every interval in a claim stands in a table, or is the difference of two that do."""
    for run in all_runs:
        cells = {str(cell) for table in run.result.tables for row in table.rows for cell in row}
        told = re.findall(r"-?\d*\.\d{3} \[[^\]]+\]", run.result.claim())
        if run.result.method not in ("evaluate", "minimality"):
            assert all(number in cells for number in told), (run.result.method, told)


def test_the_command_line_writes_a_page_and_figures(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = runs("cmap")
    out = tmp_path / "report.html"
    assert door.main([str(folder), "--out", str(out), "--figures", "pdf,svg"]) == 0
    assert out.read_text().startswith("<!doctype html>")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"cmap-cmap.pdf", "cmap-cmap.svg"}
    assert "1 runs" in capsys.readouterr().out


def test_folders_are_looked_into(runs: Runs, tmp_path: Path) -> None:
    result, folder = runs("cmap")
    _, other = runs("compare")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "one").symlink_to(folder)
    (tmp_path / "two").symlink_to(other)
    found = read_runs([tmp_path / "two", tmp_path / "deep" / "er" / "one"])
    assert [run.result.method for run in found] == ["compare", "cmap"]
    assert found[1].about == "sparse \u00b7 float \u2192 llama \u00b7 boxes"
    result.save(tmp_path / "deep" / "saved")
    assert [run.folder.name for run in read_runs([tmp_path / "deep"])] == ["saved"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere"], "'nowhere': is no folder"),
        (["."], "'.': holds no result.json, nor does a folder in it"),
        ([".", "--figures", "gif"], "--figures: no format 'gif'; available: png, pdf, svg"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert door.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"entitrack.report: {complaint}")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_read_is_left_out(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = runs("cmap")
    result.save(tmp_path / "one")
    result.save(tmp_path / "two")
    (tmp_path / "two" / "result.json").write_text("{}")
    assert [run.folder.name for run in read_runs([tmp_path])] == ["one"]
    assert "left out" in capsys.readouterr().err
