"""Words that cannot stand where they are given: one line each, which names the key, and where in a list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.hostile.trial import Trial, attempt

PAIRS = "from entitrack.tasks.desiderata import DesideratumPair as P\n"


def rule(name: str, says: str, body: str, called: str = "'mine'") -> Trial:
    """A desideratum of one's own, whose `pairs` has this body."""
    source = f"{PAIRS}class Mine:\n    name = {called}\n    def pairs(self, prompts, seed):\n        {body}\n"
    module = f"rules_{abs(hash(name)):x}"
    words = ("method=desiderata", f"method.desiderata=['{module}:Mine']")
    return Trial(f"desideratum, {name}", words, says.replace("MODULE", module), {f"{module}.py": source})


def module(name: str, says: str, source: str) -> Trial:
    """A module of one's own that cannot be imported."""
    words = ("method=desiderata", f"method.desiderata=['broken_{name}:Mine']")
    return Trial(f"module, {name}", words, says, {f"broken_{name}.py": source})


def stage(name: str, says: str, *changes: str) -> Trial:
    return Trial(f"stage, {name}", ("method=path_patching", *changes), says)


def member(name: str, says: str, called: str) -> Trial:
    """A member of the family with a name that the command line cannot give it."""
    family = f"# @package _global_\nmodel: {{members: {{'{called}': {{path: x}}}}}}\n"
    words = ("--config-dir", "own", "experiment=family")
    return Trial(f"member, {name}", words, says, {"own/experiment/family.yaml": family})


def boxes(name: str, says: str, *arguments: str) -> Trial:
    """Generated prompts, of which no model is asked."""
    return Trial(f"boxes, {name}", ("method=desiderata", "~task.path", "task=boxes", *arguments), says)


LISTS = [
    Trial(
        "groups, unknown",
        ("method.groups=[value_fetcher,nope]",),
        r"method\.groups\.1: no group 'nope'.*available: value_f",
    ),
    Trial("groups, empty", ("method.groups=['']",), r"method\.groups\.0: no group '' in the circuit"),
    Trial(
        "groups, twice",
        ("method.groups=[value_fetcher,value_fetcher]",),
        r"method\.groups\.1: group 'value_fetcher' is there twice",
    ),
    Trial("groups, the whole", ("method.groups=['full circuit']",), r"method\.groups\.0: no group 'full circuit'"),
    Trial("groups, markup", ("method.groups=['[/red]']",), r"method\.groups\.0: no group '\[/red\]' in the circuit"),
    Trial("form", ("method.form=sideways",), r"method\.form: unknown form 'sideways'; available: output, input"),
    Trial(
        "components, unknown",
        ("method.form=input", "method.components=[q,z]"),
        r"method\.components\.1: the input form does not move 'z'; available: q, k, v",
    ),
    Trial(
        "components, twice",
        ("method.form=input", "method.components=[q,q]"),
        r"method\.components\.1: 'q' is there twice",
    ),
    Trial(
        "components, other order",
        ("method.form=input", "method.components=[kq]"),
        r"method\.components\.0: unknown component 'kq'",
    ),
    Trial("components of the other form", ("method.components=[q]",), r"method\.components\.0: the output form .* 'q'"),
    *(
        Trial(
            f"models of {method}, {name}", (f"method={method}", f"method.models={models}"), rf"method\.models\.{says}"
        )
        for method in ("evaluate", "faithfulness", "activation_patching")
        for name, models, says in (
            ("unknown", "[llama,nope]", r"1: family 'golden' has no member 'nope'; available: llama"),
            ("twice", "[llama,float,llama]", r"2: 'llama' is there twice"),
            ("empty", "['']", r"0: family 'golden' has no member ''"),
        )
    ),
    Trial(
        "boxes of a file",
        ("method=evaluate", "method.boxes=[2]"),
        r"method\.boxes: task 'boxes_file' has its own prompts",
    ),
    Trial("edges, none", ("method=attention_knockout", "method.edges=[]"), r"method\.edges: there are none"),
    Trial(
        "edges, source",
        ("method=attention_knockout", "method.edges=[{source: nope, target: last}]"),
        r"method\.edges\.0\.source: the task has no role 'nope'; available: last",
    ),
    Trial(
        "edges, target",
        ("method=attention_knockout", "method.edges=[{source: last, target: query_label}, {source: last, target: ''}]"),
        r"method\.edges\.1\.target: the task has no role ''",
    ),
    Trial(
        "edges, twice",
        (
            "method=attention_knockout",
            "method.edges=[{source: last, target: query_label}, {source: last, target: query_label}]",
        ),
        r"method\.edges\.1: 'last' to 'query_label' is there twice",
    ),
    Trial(
        "edges, itself",
        ("method=attention_knockout", "method.edges=[{source: last, target: last}]"),
        r"method\.edges\.0: 'last' is not before itself",
    ),
    Trial(
        "edges, backwards",
        ("method=attention_knockout", "method.edges=[{source: query_label, target: last}]"),
        r"method\.edges: 'last' is not before 'query_label'",
    ),
    Trial(
        "desiderata, unknown",
        ("method=dcm", "method.desiderata=[paper,nope]"),
        r"method\.desiderata\.1: there is no desideratum 'nope'",
    ),
    Trial(
        "desiderata, empty",
        ("method=dcm", "method.desiderata=['']"),
        r"method\.desiderata\.0: there is no desideratum ''",
    ),
    Trial("desiderata, none", ("method=dcm", "method.desiderata=[]"), r"method\.desiderata: no desideratum is listed"),
    Trial(
        "desiderata, twice",
        ("method=dcm", "method.desiderata=[positional,paper]"),
        r"method\.desiderata\.1: desiderata are listed twice: positional",
    ),
    Trial(
        "sparsity, twice",
        ("method=dcm", "method.sparsity=[0.1,1e-1]"),
        r"method\.sparsity\.1: the weight 0\.1 is there twice",
    ),
    Trial(
        "screen", ("method=path_patching", "method.screen=attribution"), r"method\.screen: 'attribution' does not read"
    ),
    Trial(
        "memory",
        ("method=path_patching", "memory=much"),
        r"memory: 'much' is neither 'auto' nor a number",
    ),
    Trial(
        "metric",
        ("method=faithfulness", "method.metric='[red]'"),
        r"method\.metric: unknown metric '\[red\]'; available",
    ),
    Trial(
        "random circuits",
        ("method=faithfulness", "method.random_circuits=1000000000"),
        r"method\.random_circuits: 10+ is not",
    ),
    Trial("mean count", ("method=faithfulness", "method.mean_count=1000000000"), r"method\.mean_count: 10+ is not"),
    Trial("repeats", ("method=activation_patching", "method.repeats=100000000"), r"method\.repeats: 10+ is not"),
]

STAGES = [
    stage("a row", r"method\.stages\.0\.name: nothing may be called 'nothing'", "method.stages.0.name=nothing"),
    stage("markup", r"method\.stages\.1\.name: '\[/red\]' is no name; a name has", "method.stages.1.name='[/red]'"),
    stage("mathematics", r"method\.stages\.0\.name: '\$x_' is no name", "method.stages.0.name='$x_'"),
    stage("empty", r"method\.stages\.0\.name: '' is no name", "method.stages.0.name=''"),
    stage("right to left", r"method\.stages\.0\.name: '\\u202eabc' is no name", "method.stages.0.name='\u202eabc'"),
    stage("zero width", r"method\.stages\.0\.name: 'a\\u200bb' is no name", "method.stages.0.name='a\u200bb'"),
    stage("very long", r"method\.stages\.0\.name: 'a{79}\.\.\. is no name", f"method.stages.0.name={'a' * 3000}"),
    stage("hidden", r"method\.stages\.0\.name: '_x' is no name", "method.stages.0.name=_x"),
    stage("a folder", r"method\.stages\.0\.name: '\.\./x' is no name", "method.stages.0.name=../x"),
    stage(
        "as random sets",
        r"method\.stages\.0\.name: no group may be called 'random 1'",
        "method.stages.0.name='random 1'",
    ),
    stage("role", r"method\.stages\.2\.role: the task has no role 'nope'", "method.stages.2.role=nope"),
    stage(
        "receivers",
        r"method\.stages\.1\.receivers: no earlier stage 'struct_reader'",
        "method.stages.1.receivers=struct_reader",
    ),
]

BOXES = [
    boxes(
        "13", r"task\.boxes: 13 boxes do not leave letters for a counterfactual; available: 1 to 12", "task.boxes=13"
    ),
    boxes("none", r"task\.boxes: 0 boxes are none; available: 1 to 12", "task.boxes=0"),
    boxes(
        "very many prompts",
        r"task\.count: 100000000 prompts are too many; available: 1 to 1000000",
        "task.count=100000000",
    ),
    boxes(
        "more prompts than contexts",
        r"task\.count: 2700 prompts cannot be drawn: the test half has 1[34]\d\d contexts",
        "task.boxes=1",
        "task.count=2700",
    ),
    boxes(
        "without an unknown word",
        r"task\.without\.1: there is no object 'nope'; available: apple",
        "task.without=[bell,nope]",
    ),
    boxes("split", r"task\.split: unknown split 'x\\n'", 'task.split="x\n"'),
]

DESIDERATA = [
    module("syntax", r"method\.desiderata\.0: cannot import 'broken_syntax' \(SyntaxError", "class Mine(:\n"),
    module("leaves", r"method\.desiderata\.0: cannot import 'broken_leaves' \(SystemExit", "import sys\nsys.exit(0)\n"),
    module("raises", r"method\.desiderata\.0: cannot import 'broken_raises' \(RuntimeError: a b c\)", "raise RuntimeError('a\\nb\\nc')\n"),
    module("other", r"method\.desiderata\.0: module 'broken_other' has no 'Mine'; available: Yours", "class Yours: ...\n"),
    module("number", r"method\.desiderata\.0: broken_number:Mine is no desideratum; give it", "Mine = 3\n"),
    module("nameless", r"method\.desiderata\.0: broken_nameless:Mine is no desideratum", "class Mine:\n    def pairs(self): ...\n"),
    module("pairless", r"method\.desiderata\.0: broken_pairless:Mine is no desideratum", "class Mine:\n    name = 'x'\n"),
    module("argument", r"method\.desiderata\.0: broken_argument:Mine cannot be made without", "class Mine:\n    def __init__(self, x): ...\n"),
    Trial("module, absent", ("method=desiderata", "method.desiderata=['nowhere.at.all:X']"), r"method\.desiderata\.0: cannot import 'nowhere\.at\.all'"),
    Trial("module, no name", ("method=desiderata", "method.desiderata=[':X']"), r"method\.desiderata\.0: cannot import '' \(ValueError"),
    Trial("module, relative", ("method=desiderata", "method.desiderata=['..x:X']"), r"method\.desiderata\.0: cannot import '\.\.x'"),
    rule("named as one that ships", r"method\.desiderata\.0, name of MODULE:Mine: nothing may be called 'positional'", "return []", "'positional'"),
    rule("named in markup", r"method\.desiderata\.0, name of MODULE:Mine: '\[b\]' is no name", "return []", "'[b]'"),
    rule("raises", r"method\.desiderata: desideratum 'mine' gives no pairs \(KeyError: 'x'\)", "return {}['x']"),
    rule("leaves", r"method\.desiderata: desideratum 'mine' gives no pairs \(SystemExit", "raise SystemExit(3)"),
    rule("nothing", r"method\.desiderata: desideratum 'mine' gives None, not a list of pairs", "return None"),
    rule("too few", r"method\.desiderata: desideratum 'mine' gives 0 pairs for 42 prompts", "return []"),
    rule("no pairs", r"method\.desiderata: pair 0 of desideratum 'mine' is no pair \(AttributeError", "return list(prompts)"),
    rule("two words", r"method\.desiderata: pair 0 of desideratum 'mine' is no pair \(ValueError: its target is 'a b', not one", "return [P(p, p, 'a b') for p in prompts]"),
    rule("no word", r".*is no pair \(ValueError: its target is '', not one word", "return [P(p, p, '') for p in prompts]"),
    rule("a number", r".*is no pair \(ValueError: its target is 3, not one word", "return [P(p, p, 3) for p in prompts]"),
    rule("no prompt", r".*is no pair \(AttributeError: 'str' object has no attribute 'text'\)", "return [P(p, 'a', p.answer) for p in prompts]"),
]  # fmt: skip

MEMBERS = [
    member("markup", r"model\.members\.\[x\]: '\[x\]' is no name", "[x]"),
    member("a slash", r"model\.members\.a/b: 'a/b' is no name", "a/b"),
    Trial("family, markup", ("model.name='[/red]'",), r"model\.name: '\[/red\]' is no name"),
    Trial("family, empty", ("model.name=''",), r"model\.name: '' is no name"),
]


@pytest.mark.parametrize("trial", [*LISTS, *STAGES, *BOXES, *DESIDERATA, *MEMBERS], ids=lambda trial: trial.name)
def test_a_word_that_cannot_stand_there_is_named(
    trial: Trial,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = golden_overrides
    if "task=boxes" in trial.arguments:
        overrides = [word for word in golden_overrides if not word.startswith("task")]
    arguments = tuple(word for word in trial.arguments if word != "~task.path")
    attempt(Trial(trial.name, arguments, trial.says, trial.files), launch, overrides, tmp_path, capsys, monkeypatch)


NAMES = ["clusters", "circuit", "scores", "a.b", "a", "b.c", "random", "n"]
"""Names that arrays or columns have, and that join to the same key if the joint is a dot."""


@pytest.mark.parametrize(
    "method",
    [
        ["cmap"],
        ["cmap", "method.form=input", "method.components=[q,kv]"],
        ["minimality", "method.mean_count=7", "method.force=true"],
        ["completeness", "method.mean_count=7", "method.random_sets=2"],
        ["activation_patching", "method.models=[llama,float]", "method.repeats=1", "method.desiderata=[positional]"],
    ],
    ids=" ".join,
)
def test_groups_named_as_anything_else_are_results_of_their_own(
    method: list[str], launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many arrays and rows as with harmless names, each group's own, and all of them printed."""
    from safetensors.torch import load_file

    found = {}
    for kind, names in {"plain": [f"g{number}" for number in range(len(NAMES))], "other": NAMES}.items():
        groups = [{"name": name, "role": "last", "heads": [[2, n % 6]]} for n, name in enumerate(names)]
        (tmp_path / f"{kind}.json").write_text(json.dumps({"groups": groups}))
        words = [f"method={method[0]}", "tracking=disabled", *golden_overrides, *method[1:]]
        assert launch(*words, f"circuit={kind}.json", f"output_dir={kind}", "store=null") == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in names)
        (folder,) = [path.parent for path in (tmp_path / kind).rglob("result.json")]
        arrays = load_file(folder / "arrays.safetensors")
        tables = json.loads((folder / "result.json").read_text())["tables"]
        found[kind] = (
            sorted(tuple(array.shape) for array in arrays.values()),
            [len(table["rows"]) for table in tables],
        )
    assert found["plain"] == found["other"]
