"""A folder holds the whole result: what is read from it is what was written, and what is damaged is named."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from safetensors.torch import save_file

import entitrack
from entitrack.core import measurement
from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.plain import decode, encode, plain
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import FEW_CONTEXTS, Estimate
from entitrack.core.table import Table
from entitrack.methods import method_names, settings_of
from entitrack.record import figures, folder, tracking
from entitrack.record.prompts import read_sets
from entitrack.runtime.housekeeping import units
from entitrack.runtime.uses import uses
from tests.methods import hand_made
from tests.record.small_runs import Runs


def everything(result: Result) -> dict[str, Any]:
    """A result but its measurements, as plain values that are equal where they are the same."""
    names = ("method", "facts", "artefacts", "words", "tables", "notes", "provenance")
    found: dict[str, Any] = encode(plain({name: getattr(result, name) for name in names}))
    return found


@pytest.mark.parametrize("method", method_names())
def test_what_is_read_is_what_was_written(method: str, runs: Runs) -> None:
    result, place = runs(method)
    read = entitrack.load(place)
    assert everything(read) == everything(result)
    assert list(read.measurements.items()) == list(result.measurements.items())
    assert [type(word) for word in read.words] == [type(word) for word in result.words]
    image = place / folder.FIGURE
    assert figures.image(read) == (image.read_bytes() if image.exists() else None)
    for name in result.measurements:
        pandas.testing.assert_frame_equal(read.frame(name), result.frame(name))
    assert read._repr_html_() == result._repr_html_()


@pytest.mark.parametrize("method", method_names())
def test_a_result_says_what_it_found_in_a_line(method: str, runs: Runs) -> None:
    result, _ = runs(method)
    assert result.headline.isprintable()
    assert 10 < len(result.headline) < 200


@pytest.mark.parametrize("method", method_names())
def test_what_a_method_leaves_for_others_is_what_it_says(method: str, runs: Runs) -> None:
    assert set(runs(method)[0].artefacts) == set(settings_of(method).leaves)


READ_ELSEWHERE = """
import sys
sys.modules |= dict.fromkeys(["transformers", "nnsight", "peft", "datasets", "wandb"])  # importing them fails
from entitrack import load
from entitrack.record import figures
for folder in sys.argv[1:]:
    result = load(folder)
    result._repr_html_(), [result.frame(name) for name in result.measurements], figures.image(result)
print("read", len(sys.argv) - 1)
"""


def test_reading_and_drawing_need_no_models(runs: Runs, tmp_path: Path) -> None:
    folders = [str(runs(method)[1]) for method in method_names()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", READ_ELSEWHERE, *folders]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"read {len(method_names())}\n", done.stderr


@pytest.mark.parametrize("method", method_names())
def test_no_interval_is_computed_twice(
    method: str, runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = entitrack.load(runs(method)[1])
    asked: list[tuple[Any, ...]] = []

    def note(name: str, compute: Any) -> Any:
        def noted(*given: Any) -> Any:
            told = (part.numpy().tobytes() if isinstance(part, torch.Tensor) else part for part in given)
            asked.append((name, *told))
            return compute(*given)

        return noted

    for name in ("estimate", "difference", "p_value", "ratio"):
        monkeypatch.setattr(measurement, name, note(name, getattr(measurement, name)))
    again = read.laid_out()
    first = len(asked)
    for _ in range(2):
        figures.image(again)
        again._repr_html_()
    if again.tables:
        tracking.metrics(again.tables[0])
    again.save(tmp_path / "again")
    assert not set(asked[first:]) & set(asked[:first])
    assert len(set(asked[first:])) == len(asked[first:])


def some_result(**changed: Any) -> Result:
    """A result with everything that is hard to write."""
    on = hand_made.prompts(3, {"query": [0, 1, 2]})
    wild = [[math.nan, math.inf, -math.inf], [1e-310, -0.0, 0.1]]
    measurements = {
        "wild": hand_made.measured(wild, "model", on, model=("a", "b")),
        "other": hand_made.measured([[True, False]], "model", hand_made.prompts(2), model=("a",)),
        "alone": hand_made.measured(2.5, ""),
    }
    cells = (
        "nan",
        math.nan,
        Estimate(0.5, math.nan, math.nan, 3, FEW_CONTEXTS),
        Estimate(math.nan, -math.inf, 0.5, 3),
        None,
        3,
        True,
        "$number",
    )
    parts: dict[str, Any] = {
        "facts": {"float": "nan", "$number": {"$number": math.nan}, "$$": (1, (2, None))},
        "measurements": measurements,
        "artefacts": {"circuit": Circuit((Group("g", "last", ((0, 1),)),), {"size": 1})},
        "words": {3: "\ud800", 11: "\u202e"},
        "tables": (Table("title", tuple("abcdefgh"), (cells,)),),
        "notes": ("a\nb",),
        "provenance": {"config": {"x": math.inf}, "overrides": ["a=1"], "date": "today"},
    }
    return Result("cmap", **{**parts, **changed})


def test_a_result_of_ones_own_is_written_and_read(tmp_path: Path) -> None:
    result = some_result()
    read = entitrack.load(result.save(tmp_path / "a" / "b"))
    assert everything(read) == everything(result)
    assert dict(read.measurements) == dict(result.measurements)
    assert read.tables[0].rows[0][0] == "nan"
    assert math.isnan(read.tables[0].rows[0][1])  # type: ignore[arg-type]
    assert read["wild"] != read["other"]
    json.loads((tmp_path / "a" / "b" / "result.json").read_text(), parse_constant=pytest.fail)


def test_a_folder_with_a_result_is_left_alone(tmp_path: Path) -> None:
    some_result().save(tmp_path / "a")
    before = (tmp_path / "a" / "result.json").read_bytes()
    with pytest.raises(UserError, match=r"a: already holds a result\.json; choose another folder"):
        some_result(notes=()).save(tmp_path / "a")
    assert (tmp_path / "a" / "result.json").read_bytes() == before


def test_all_is_written_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Circuit, "write", lambda self, path: (_ for _ in ()).throw(OSError(28, "full", str(path))))
    with pytest.raises(OSError, match="full"):
        some_result().save(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [{"$number": "x"}, {"a": [{"$number": 1}]}])
def test_a_number_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="has a number"):
        decode(value)


def edit(path: Path, **changed: Any) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **changed}))


def other_arrays(path: Path) -> None:
    """Arrays that fit nothing, with the digest that makes them look well."""
    import hashlib

    save_file({"wild": torch.zeros(2)}, path)
    record = path.with_name("result.json")
    files = json.loads(record.read_text())["files"]
    edit(record, files={**files, path.name: hashlib.sha256(path.read_bytes()).hexdigest()})


RESULT, ARRAYS = "result.json", "arrays.safetensors"


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (lambda at: at.unlink(), RESULT, "there is no such file; pass the folder of a finished run"),
        (lambda at: at.write_text("{"), RESULT, "is not JSON"),
        (lambda at: at.write_text("[]"), RESULT, "is not a JSON object"),
        (lambda at: at.write_text('{"a": NaN}'), RESULT, "has NaN"),
        (lambda at: at.write_text("{}"), RESULT, "names no format: it is no result that is read again; run again"),
        (lambda at: at.write_bytes(b"\xff\xfe\x00"), RESULT, "is not text in UTF-8"),
        (lambda at: edit(at, format=2), RESULT, "is of format 2, and format 1 is read here; read it with a later"),
        (lambda at: edit(at, format=True), RESULT, "names no format"),
        (lambda at: edit(at, method="../../os"), RESULT, "is of a method '../../os', which there is not; available"),
        (lambda at: edit(at, method=["cmap"]), RESULT, r"is of a method \['cmap'\]"),
        (lambda at: edit(at, measurements={"gone": {}}), RESULT, "is damaged"),
        (lambda at: edit(at, tables=[{"rows": 1}]), RESULT, "is damaged"),
        (lambda at: edit(at, words={"x": "y"}), RESULT, "is damaged"),
        (lambda at: edit(at, facts={"a": {"$number": "7"}}), RESULT, "is damaged"),
        (lambda at: edit(at, files={}), RESULT, "names no arrays.safetensors"),
        (lambda at: at.unlink(), ARRAYS, r"cannot be read \(No such file or directory\); copy the whole folder"),
        (lambda at: at.write_bytes(at.read_bytes()[:-1] + b"\x7f"), ARRAYS, "is not the file that result.json was"),
        (lambda at: at.write_bytes(at.read_bytes() + b"\n"), "prompts.jsonl", "is not the file that result.json was"),
        (lambda at: at.unlink(), "circuit.json", "cannot be read"),
    ],
)
def test_what_is_damaged_is_one_line_that_names_the_file(
    damage: Callable[[Path], object], file: str, says: str, tmp_path: Path
) -> None:
    some_result().save(tmp_path / "a")
    damage(tmp_path / "a" / file)
    with pytest.raises(UserError, match=says) as told:
        entitrack.load(tmp_path / "a")
    assert str(told.value).startswith(str(tmp_path / "a" / file))
    assert "\n" not in str(told.value)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    some_result().save(tmp_path / "a")
    other_arrays(tmp_path / "a" / ARRAYS)
    with pytest.raises(UserError, match="is damaged"):
        entitrack.load(tmp_path / "a")


def test_a_folder_that_moved_is_read(tmp_path: Path) -> None:
    some_result().save(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert entitrack.load(str(tmp_path / "b")).method == "cmap"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('{"set": 0}\n[]\n', "line 2 "),
        ('{"set": 0}\n{"set": 1}\n', "line 2 is of a set 1, which there is not"),
        ('{"set": 0}\n{"set": 0}\n', "has 2 prompts where there should be 1"),
    ],
)
def test_a_line_that_is_no_prompt_is_named_by_its_number(lines: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        read_sets(lines, [{"count": 1, "facets": []}])


def test_the_store_knows_what_a_run_used(runs: Runs) -> None:
    _, place = runs("cmap")
    (use,) = (use for use in uses(place.parent / "outputs" / "store") if Path(use.run).name == "cmap")
    assert use.method == "cmap"
    assert set(use.units.values()) == {"llama", "float"}
    kept = {unit.key for unit in units(place.parent / "outputs" / "store")}
    assert set(use.units) <= kept
