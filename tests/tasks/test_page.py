"""The page about tasks names all that ship, its picture is true, and its row of a table is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from entitrack.tasks.boxes import parse_sentence
from entitrack.tasks.registry import SHIPPED
from entitrack.tasks.table import Table

PAGE = (Path(__file__).parents[2] / "entitrack" / "tasks" / "README.md").read_text()


def test_every_task_that_ships_is_in_the_page() -> None:
    for name in SHIPPED:
        assert f"| `{name}` |" in PAGE


def test_the_pictures_marks_are_under_the_roles() -> None:
    clean, marks, *_ = PAGE.partition("```\n")[2].splitlines()
    text = clean.partition("->")[0].strip().removeprefix("clean").strip()
    start = clean.index(text)
    prompt = parse_sentence(text)
    marked = [match.start() for match in re.finditer("│", marks)]
    assert len(marked) == 4
    for (begin, end), mark in zip(sorted(prompt.spans.values()), marked, strict=False):
        assert start + begin <= mark < start + end


def test_the_row_that_it_shows_is_a_prompt(tmp_path: Path) -> None:
    row = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    (tmp_path / "held.jsonl").write_text(json.dumps(row) + "\n")
    (prompt,) = Table(path=str(tmp_path / "held.jsonl"), by=["place"]).prompts()
    assert {role: prompt.text[slice(*span)] for role, span in prompt.spans.items()} == {"asked": "Ben", "held": "hat"}
