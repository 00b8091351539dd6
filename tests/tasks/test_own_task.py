"""A task that is not about boxes: all methods run on it, from the command line, and what is wrong with one is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from entitrack.core.errors import UserError
from entitrack.methods import method_names, settings_of
from entitrack.tasks import Edge, Stage, TaskSettings
from entitrack.tasks.protocol import role_names
from entitrack.tasks.registry import make_task, with_defaults
from tests.conftest import Launch

FRUIT = Path(__file__).parents[1] / "examples" / "fruit.py"
SMALL = {
    "ablation": ["method.mean_count=14"],
    "activation_patching": ["method.models=[llama]", "method.repeats=1"],
    "circuit_curve": ["method.models=[llama]", "method.sizes=[3]", "method.random_orders=2", "method.mean_count=14"],
    "cmap": ["method.controls=2"],
    "cmap_map": ["method.exact=2"],
    "cmap_matrix": ["method.controls=2", "method.members=[llama,float]"],
    "cmap_order": ["method.controls=2", "method.steps=2"],
    "completeness": ["method.mean_count=14", "method.random_sets=2"],
    "dcm": ["method.steps=2"],
    "evaluate": ["method.models=[llama,float]"],
    "faithfulness": ["method.models=[llama]", "method.random_circuits=2", "method.mean_count=14"],
    "minimality": ["method.mean_count=14"],
    "stability": ["method.seeds=[]", "method.halves=2"],
    "positions": ["method.most=1", "method.mean_count=14"],
    "transfer": ["method.models=[llama]", "method.controls=2", "method.mean_count=14", "method.force=true"],
}
SEPARABLE = {"binding"}
"""Methods that ask of a list; a task says how it is pulled apart (`apart`), or they are refused."""


def run(launch: Launch, method: str, *words: str) -> dict[str, Any]:
    """The record of a run on the example task, which is left beside it as `my_tasks.py`."""
    shutil.copy(FRUIT, "my_tasks.py")
    fixed = ("task=my_tasks:Fruit", "tracking=disabled", "store=null", "model.device=cpu", f"output_dir=of_{method}")
    assert launch(f"method={method}", *fixed, *words) == 0
    (record,) = Path(f"of_{method}").rglob("result.json")
    return json.loads(record.read_text()) | {"folder": str(record.parent)}


def rows(record: dict[str, Any]) -> list[list[Any]]:
    return [[cell["value"] if isinstance(cell, dict) else cell for cell in row] for row in record["tables"][0]["rows"]]


def test_all_methods_run_on_a_task_that_is_not_boxes(launch: Launch, tmp_path: Path) -> None:
    found = run(launch, "path_patching", "task.count=56")
    groups = {
        group["name"]: group for group in json.loads((Path(found["folder"]) / "circuit.json").read_text())["groups"]
    }
    assert set(groups) == {"fetcher", "asker"}
    assert groups["fetcher"]["heads"], "the heads that fetch the fruit"
    file = f"{found['folder']}/circuit.json"
    words = {"transfer": [f"method.circuits={{fruit: '{file}'}}"]}
    words |= {method: [f"circuit={file}"] for method in method_names() if settings_of(method).needs_circuit}
    others = [method for method in method_names() if method not in {"path_patching", *SEPARABLE}]
    shown = {
        method: run(launch, method, "task.count=28", *words.get(method, []), *SMALL.get(method, []))
        for method in others
    }
    assert shown.keys() | {"path_patching", *SEPARABLE} == set(method_names())
    assert [row[0] for row in rows(shown["evaluate"])] == [f"place {place}" for place in range(7)]
    assert (
        rows(shown["desiderata"])[0][2]
        == "The heads carry the fruit itself: the patched run answers the counterfactual's fruit."
    )
    assert {row[0] for row in rows(shown["activation_patching"])} >= {"llama/nothing", "llama/fetcher", "llama/asker"}
    assert rows(shown["dcm"])[0][0] == "fetcher/fruit_value"
    first, *_, last = rows(shown["attention_knockout"])
    assert first[1] < last[1] - 0.1, "without the question's letter fewer answers are right"


def test_a_method_about_lists_says_what_a_task_lacks(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(FRUIT, "my_tasks.py")
    assert launch("method=binding", "task=my_tasks:Fruit", "tracking=disabled", "store=null") == 2
    assert "task 'my_tasks:Fruit' does not pull position, letter and content apart; give it `apart(seed)`" in (
        capsys.readouterr().err
    )


def test_words_of_the_command_line_reach_its_settings(launch: Launch) -> None:
    record = run(launch, "desiderata", "task.count=3", "task.baskets=2", "method.prompt=2")
    clean = record["tables"][0]["rows"][1][2]
    assert clean.count("Box") == 3
    assert record["prompts"]["count"] == 3


def test_a_sweep_goes_over_tasks(launch: Launch, tmp_path: Path) -> None:
    shutil.copy(FRUIT, "my_tasks.py")
    words = [
        "method=desiderata",
        "task=boxes,my_tasks:Fruit",
        "task.count=7",
        "tracking=disabled",
        "hydra.sweep.dir=swept",
    ]
    assert launch("--multirun", *words) == 0
    assert len(list(Path("swept").rglob("result.json"))) == 2


def test_the_readme_shows_the_example_and_it_is_short() -> None:
    source = FRUIT.read_text()
    assert f"```python\n{source}```" in (FRUIT.parents[2] / "entitrack" / "tasks" / "README.md").read_text()
    assert len(source.splitlines()) < 40


PLAIN = "class Mine:\n    def __init__(self, count=1): ...\n    def prompts(self): return []\n"
OWN = "from entitrack.tasks import TaskSettings, written\nclass Mine(TaskSettings):\n    count: int = 3\n"


@pytest.mark.parametrize(
    ("source", "words", "message"),
    [
        ("x = (", [], "task: cannot import 'MODULE' (SyntaxError"),
        ("x = 1", [], "task: module 'MODULE' has no 'Mine'; available: x"),
        ("Mine = 3", [], "task: MODULE:Mine is no task: it is 3, not a class"),
        (PLAIN, [], "task: MODULE:Mine is no task: it has no name, roles, stages, edges, facets, desiderata"),
        (PLAIN, ["task.nope=1"], "task: MODULE:Mine cannot be made with {'nope': 1} (TypeError"),
        (OWN, ["task.nope=1"], "task.nope: unknown key; available: count"),
        (OWN, ["task.count=many"], "task.count: 'many' is not a whole number"),
        (OWN, [], "task: task 'MODULE:Mine' has no prompts; give it `prompts()`"),
        (f"{OWN}    def prompts(self): return 1 / 0\n", [], "task: MODULE:Mine gives no prompts (ZeroDivisionError"),
        (f"{OWN}    def prompts(self): return []\n", [], "task: MODULE:Mine gives [], not a list of prompts"),
        (f"{OWN}    def prompts(self): return ['a']\n", [], "task: prompt 0 of MODULE:Mine is no prompt (Attribute"),
        (f"{OWN}    def prompts(self): return [written(['a'], 'b c')]\n", [], "task: prompt 0 of MODULE:Mine is no"),
    ],
)
def test_what_is_wrong_with_ones_own_task_is_one_line(
    source: str, words: list[str], message: str, launch: Launch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = f"tasks_{abs(hash((source, *words))):x}"
    (tmp_path / f"{module}.py").write_text(source)
    assert launch("method=desiderata", "tracking=disabled", f"task={module}:Mine", *words) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.startswith("entitrack: " + message.replace("MODULE", module)), complaint
    assert "\n" not in complaint


def test_a_module_that_is_not_there_is_named(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("method=evaluate", "task=nowhere_at_all:Mine") == 2
    assert capsys.readouterr().err.startswith("entitrack: task: cannot import 'nowhere_at_all'")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("path_patching", "method.stages: task 'MODULE:Mine' has no stages of its own; give it `stages`, or say"),
        ("attention_knockout", "method.edges: task 'MODULE:Mine' has no edges of its own; give it `edges`, or say"),
        ("dcm", "method.desiderata: task 'MODULE:Mine' has no desiderata; give it `desiderata`, or name"),
        (
            "path_patching method.stages=[{name: a, role: last}]",
            "task: task 'MODULE:Mine' has no counterfactuals;",
        ),
    ],
)
def test_what_a_task_does_not_say_is_asked_for(
    method: str, message: str, launch: Launch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "tasks_bare.py").write_text(f"{OWN}    def prompts(self): return [written(['the'], 'apple')]\n")
    name, _, word = method.partition(" ")
    words = ["task=tasks_bare:Mine", "tracking=disabled", *([word] if word else [])]
    assert launch(f"method={name}", *words) == 2
    assert capsys.readouterr().err.startswith("entitrack: " + message.replace("MODULE", "tasks_bare"))


class Bare(TaskSettings):
    stages: ClassVar[Sequence[Stage]] = (
        Stage(name="a", role="last"),
        Stage(name="b", role="x", component="v", receivers="a"),
    )
    edges: ClassVar[Sequence[Edge]] = (Edge(source="last", target="x"),)


def test_single_entries_of_a_tasks_own_lists_are_changed() -> None:
    changed = with_defaults({"stages": {"1": {"size": 9}}, "edges": {"0": {"target": "y"}}, "top": 3}, Bare())
    assert [(stage["name"], stage["size"]) for stage in changed["stages"]] == [("a", 4), ("b", 9)]
    assert changed["edges"] == [{"source": "last", "target": "y"}]
    assert changed["top"] == 3
    with pytest.raises(UserError, match=r"^method\.stages\.2: .*no such entry; available: 0, 1$"):
        with_defaults({"stages": {"2": {"size": 9}}}, Bare())
    with pytest.raises(UserError, match=r"^method\.edges\.0: 'last' is not a section"):
        with_defaults({"edges": {"0": "last"}}, Bare())


def test_a_place_that_stands_once_is_a_role() -> None:
    assert role_names(make_task("boxes", {"count": 7})) == [
        *("last", "query_label", "prev_query_label", "correct_object"),
        *(f"queried {word}" for word in ("the", "object", "is", "in", "Box", "label", "end")),
        *(f"question {word}" for word in ("Box", "label", "contains", "the")),
    ]
