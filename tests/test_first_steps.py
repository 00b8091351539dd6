"""What a newcomer runs first: the notebook's cells and the page's lines of Python, in order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "jobs" / "first_study.ipynb"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cells() -> list[dict[str, Any]]:
    """The code cells of the notebook."""
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells()):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["again"].tables == names["cmap"].tables
    assert [path.name for path in tmp_path.iterdir()] == ["cmap_float"]
    rows = [row[0] for row in names["cmap"].tables[0].rows]
    assert rows[-2:] == ["base with donor's value_fetcher", "base with donor's pos_transmitter"]


def test_the_notebook_is_one_that_jupyter_opens() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells())
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)


def test_the_pages_python_runs(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"## From Python.*?```python\n(.*?)```", (ROOT / "entitrack" / "README.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "cmap_float" / "result.json").is_file()
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {"store"}
