"""A table of prompts: every source gives the same, every method runs on it, and what is wrong names its row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from entitrack.core.errors import UserError
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.desiderata import draw_pairs
from entitrack.tasks.table import CounterfactualAnswer, Table
from tests.conftest import Launch

ONE: dict[str, Any] = {
    "prompt": "Anna has the cup, Ben has the hat. Ben has the",
    "answer": "hat",
    "counterfactual": "Anna has the pen, Ben has the map. Ben has the",
    "counterfactual_answer": "map",
    "spans": {"asked": [35, 38], "held": "hat"},
    "counterfactual_spans": {"asked": [35, 38], "held": "map"},
    "alternatives": ["cup"],
    "context": "cup hat",
    "place": 1,
}
TWO = {**ONE, "prompt": "Anna has the cup, Ben has the hat. Anna has the", "answer": "cup", "alternatives": ["hat"]}
TWO |= {"spans": {"asked": [35, 39], "held": "cup"}, "place": 0}


def lines(path: Path, *rows: Mapping[str, Any]) -> Table:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Table(path=str(path), by=["place"])


def test_a_row_is_a_prompt_with_all_that_its_columns_say(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "t.jsonl", ONE, TWO).prompts()
    assert (first.text, first.answer, first.alternatives) == (ONE["prompt"], "hat", ("cup",))
    assert {role: first.text[start:end] for role, (start, end) in first.spans.items()} == {
        "asked": "Ben",
        "held": "hat",
    }
    assert second.text[slice(*second.spans["asked"])] == "Anna"
    assert (first.cluster, second.cluster) == (0, 0)
    assert [prompt.facets for prompt in (first, second)] == [{"place": 1}, {"place": 0}]
    assert first.counterfactual is not None
    assert first.counterfactual.text[slice(*first.counterfactual.spans["held"])] == "map"


def as_a_cell(value: Any) -> Any:
    """What a csv file has of a list or an object."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder", "splits"])
def test_every_source_gives_the_same_prompts(kind: str, tmp_path: Path) -> None:
    rows, path = [ONE, TWO], tmp_path / f"t.{kind}"
    same = lines(tmp_path / "t.jsonl", *rows)
    written = [
        {key: json.dumps(cell) if isinstance(cell, (dict, list)) else cell for key, cell in row.items()} for row in rows
    ]
    table = Dataset.from_list(written)
    if kind == "splits":
        DatasetDict(train=table.select([0]), test=table).save_to_disk(str(path))
    else:
        getattr(table, {"csv": "to_csv", "parquet": "to_parquet", "folder": "save_to_disk"}[kind])(str(path))
    task = Table(path=str(path), by=["place"], split="test" if kind == "splits" else None)
    assert [prompt.text for prompt in task.prompts()] == [prompt.text for prompt in same.prompts()]
    assert [dict(prompt.spans) for prompt in task.prompts()] == [dict(prompt.spans) for prompt in same.prompts()]
    assert [pair.counterfactual for pair in task.pairs()] == [pair.counterfactual for pair in same.pairs()]
    assert [prompt.alternatives for prompt in task.prompts()] == [prompt.alternatives for prompt in same.prompts()]


def test_structured_cells_of_parquet_need_no_json(tmp_path: Path) -> None:
    rows = [{**row, "spans": {"held": row["spans"]["held"]}} for row in (ONE, TWO)]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "t.parquet"))
    assert Table(path=str(tmp_path / "t.parquet")).prompts()[0].spans == {"held": (30, 33)}


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one, same = lines(tmp_path / "a.jsonl", ONE), lines(tmp_path / "b.jsonl", ONE)
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != lines(tmp_path / "c.jsonl", TWO).fingerprint
    Dataset.from_list([{"prompt": "a", "answer": "b"}]).save_to_disk(str(tmp_path / "d"))
    Dataset.from_list([{"prompt": "a", "answer": "c"}]).save_to_disk(str(tmp_path / "e"))
    assert Table(path=str(tmp_path / "d")).fingerprint != Table(path=str(tmp_path / "e")).fingerprint


def test_parts_deal_whole_contexts(tmp_path: Path) -> None:
    many = [{**ONE, "prompt": f"{ONE['prompt']}{' the' * number}", "context": f"{number // 2}"} for number in range(40)]
    task = lines(tmp_path / "t.jsonl", *many)
    parts = [{prompt.context for prompt in task.with_settings(part=part).prompts()} for part in ("search", "judge")]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 20


def test_its_desideratum_targets_the_counterfactuals_answer(tmp_path: Path) -> None:
    prompts = lines(tmp_path / "t.jsonl", ONE).prompts()
    (pair,) = draw_pairs(CounterfactualAnswer(), prompts, seed=0)
    assert (pair.clean.text, pair.counterfactual.text, pair.target) == (ONE["prompt"], ONE["counterfactual"], "map")
    bare = lines(tmp_path / "u.jsonl", {**ONE, "counterfactual_answer": "hat"}).prompts()
    with pytest.raises(UserError, match=r"u\.jsonl, line 1: has no counterfactual of another answer"):
        draw_pairs(CounterfactualAnswer(), bare, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "prompt is None, not text"),
        ({"prompt": " "}, "prompt is empty"),
        ({"answer": "two words"}, "answer is 'two words', not one word"),
        ({"answer": 3}, "answer is 3, not text"),
        ({"place": "one"}, "place is 'one', not a whole number"),
        ({"place": True}, "place is True, not a whole number"),
        ({"place": 2**63}, "place is 9223372036854775808, not a whole number below"),
        ({"answer": "\ud800"}, "answer is not text in UTF-8"),
        ({"prompt": "a \ud800"}, "prompt is not text in UTF-8"),
        ({"alternatives": "cup"}, "alternatives is 'cup', which is not JSON"),
        ({"alternatives": {"a": 1}}, "alternatives is {'a': 1}, not a list of words"),
        ({"alternatives": ["cup", "cup"]}, "alternatives has a word twice"),
        ({"alternatives": ["hat"]}, "alternatives has the answer 'hat'"),
        ({"spans": ["asked"]}, r"spans is \['asked'\], not an object of roles"),
        ({"spans": {"asked": "Ben"}}, r"spans, role 'asked': 'Ben' stands in the prompt 2 times; give \[start, end\]"),
        ({"spans": {"asked": "Carl"}}, "spans, role 'asked': 'Carl' is not in the prompt"),
        ({"spans": {"asked": [3, 999]}}, r"spans, role 'asked' is at \[3, 999\], not \[start, end\] within the 46"),
        ({"spans": {"asked": [3, 3]}}, r"is at \[3, 3\]"),
        ({"spans": {"asked": [True, 3]}}, r"is at \[True, 3\]"),
        ({"spans": {"last": [0, 3]}}, "spans has the role 'last', which is the last token"),
        ({"spans": {"a/b": [0, 3]}}, "'a/b' is no name"),
        ({"spans": {"asked": [0, 4]}}, r"has the roles \['asked'\], and line 1 has \['asked', 'held'\]"),
        ({"counterfactual_spans": {"held": "map"}}, "counterfactual_spans does not have the role 'asked'"),
        ({"prompt": ONE["prompt"]}, "asks what line 1 asks"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_row(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    second = {**ONE, "prompt": ONE["prompt"].replace("cup", "pot"), **change}
    with pytest.raises(
        UserError, match=rf"t\.jsonl, line 2(, spans)?: .*{message}|t\.jsonl, line 2: {message}"
    ) as error:
        lines(tmp_path / "t.jsonl", ONE, second).prompts()
    assert "\n" not in str(error.value)


def test_a_facet_is_a_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^task\.by\.0: 'a/b' is no name"):
        Table(path=str(tmp_path / "t.csv"), by=["a/b"])


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    Dataset.from_list([{"text": "a", "answer": "b"}]).to_csv(str(tmp_path / "t.csv"))
    with pytest.raises(UserError, match=r"t\.csv: has no column 'prompt'; available: text, answer"):
        Table(path=str(tmp_path / "t.csv")).prompts()
    assert Table(path=str(tmp_path / "t.csv"), prompt="text").prompts()[0].origin.endswith("t.csv, row 1")
    with pytest.raises(UserError, match=r"t\.csv, row 1: has no 'counterfactual'; patching needs one a prompt"):
        Table(path=str(tmp_path / "t.csv"), prompt="text").pairs()


def rows_of_boxes(count: int) -> list[dict[str, Any]]:
    """Box prompts as someone else might have written them down."""
    return [
        {
            "prompt": pair.clean.text,
            "answer": pair.clean.answer,
            "counterfactual": pair.counterfactual.text,
            "spans": {name: list(span) for name, span in pair.clean.spans.items()},
            "counterfactual_spans": {name: list(span) for name, span in pair.counterfactual.spans.items()},
            "alternatives": list(pair.clean.alternatives),  # type: ignore[attr-defined]
            "context": str(pair.clean.cluster),
        }
        for pair in Boxes(count=count, part="search").pairs()
    ]


@pytest.mark.slow
def test_path_patching_of_a_table_is_that_of_the_task_it_was_written_from(launch: Launch, tmp_path: Path) -> None:
    lines(tmp_path / "boxes.jsonl", *rows_of_boxes(140))
    stages = (
        "{name: value_fetcher, role: last}",
        "{name: reader, role: prev_query_label, component: v, receivers: value_fetcher}",
    )
    fixed = (
        "method=path_patching",
        f"method.stages=[{','.join(stages)}]",
        "tracking=disabled",
        "store=null",
        "model.device=cpu",
    )
    assert launch(*fixed, "task=table", "task.path=boxes.jsonl", "output_dir=one") == 0
    assert launch(*fixed, "task=boxes", "task.count=140", "task.part=search", "output_dir=two") == 0
    found = [json.loads(next(Path(folder).rglob("circuit.json")).read_text())["groups"] for folder in ("one", "two")]
    assert found[0] == found[1]
    assert found[0][0]["heads"]
