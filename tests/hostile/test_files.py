"""Files that hold no circuit, no masks or no prompts: one line, which names the file and what is wrong in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Launch
from tests.hostile.trial import Trial, attempt

ONE = {"name": "one", "role": "last", "heads": [[0, 1], [3, 2]]}


def circuit(name: str, content: Any, says: str) -> Trial:
    """A circuit file; what is neither text nor bytes is written as JSON."""
    written = content if isinstance(content, (str, bytes)) else json.dumps(content)
    return Trial(f"circuit, {name}", ("circuit=c.json",), says, {"c.json": written})


def group(what: str, says: str, /, **change: Any) -> Trial:
    """A circuit of one group that differs from a right one."""
    return circuit(f"group {what}", {"groups": [{**ONE, **change}]}, says)


def masks(name: str, content: Any, says: str) -> Trial:
    """A file of masks."""
    written = content if isinstance(content, (str, bytes)) else json.dumps(content)
    return Trial(f"masks, {name}", ("method=activation_patching", "method.masks=m.json"), says, {"m.json": written})


def prompts(name: str, content: str | bytes, says: str, *arguments: str) -> Trial:
    """A file of prompts, of which no model is asked."""
    words = ("method=desiderata", "method.desiderata=[object_value]", "task.path=p.jsonl", *arguments)
    return Trial(f"prompts, {name}", words, says, {"p.jsonl": content})


def line(sentence: str) -> str:
    return json.dumps({"sentence": sentence})


def boxes(count: int) -> str:
    """A sentence about many boxes."""
    letters = [chr(ord("A") + number // 26) + chr(ord("A") + number % 26) for number in range(count)]
    segments = ", ".join(f"the thing-{number} is in Box {letter}" for number, letter in enumerate(letters))
    return f"T{segments[1:]}. Box AA contains the thing-0."


UNKNOWN = line("The zyxw is in Box Q, the key is in Box X. Box Q contains the zyxw.")
GOOD = line("The book is in Box Q, the key is in Box X. Box Q contains the book.")
OTHER = line("The book is in Box Q, the key is in Box X. Box X contains the key.")
TASK = ("method=desiderata", "method.desiderata=[object_value]")

CIRCUITS = [
    Trial("circuit, a folder", ("circuit={here}",), r"circuit: '.*' is a folder; give the path of a file"),
    Trial("circuit, a device", ("circuit=/dev/zero",), r"circuit: '/dev/zero' is a pipe or a device"),
    Trial("circuit, below a file", ("circuit=boxes.jsonl/c.json",), r"circuit: no file 'boxes\.jsonl/c\.json'"),
    Trial("circuit, a name that is too long", (f"circuit={'c' * 5000}",), r"circuit: no file 'c{40}"),
    circuit("empty file", "", r"c\.json: is not JSON"),
    circuit("white space", " \n\t ", r"c\.json: is not JSON"),
    circuit("half a file", '{"groups": [{"name": "one"', r"c\.json: is not JSON \(.*line 1"),
    circuit("two objects", '{"groups": []} {"groups": []}', r"c\.json: is not JSON \(Extra data"),
    circuit("a list", [ONE], r"c\.json: is not a JSON object but \["),
    circuit("a text", "full circuit", r"c\.json: is not JSON"),
    circuit("null", None, r"c\.json: is not a JSON object but None"),
    circuit("no groups", {"found_on": {}}, r"c\.json: not a circuit \(has no 'groups'\)"),
    circuit("empty groups", {"groups": []}, r"c\.json: the circuit has no groups"),
    circuit("groups by name", {"groups": {"one": ONE}}, r"c\.json: not a circuit \(groups is .*, not a list\)"),
    circuit("groups are null", {"groups": None}, r"c\.json: not a circuit \(has no 'groups'\)"),
    circuit(
        "a group is a list", {"groups": [[0, 1]]}, r"c\.json: not a circuit \(group 0 is \[0, 1\], not an object\)"
    ),
    circuit(
        "a group twice", {"groups": [ONE, {**ONE, "role": "query_label"}]}, r"c\.json: two groups are called 'one'"
    ),
    circuit("a key twice", '{"groups": [], "groups": []}', r"c\.json: has the key 'groups' twice"),
    circuit("NaN", '{"groups": [], "found_on": {"x": NaN}}', r"c\.json: has NaN, which is not a number in JSON"),
    circuit(
        "1e999", '{"groups": [], "found_on": {"x": 1e999}}', r"c\.json: has the number '1e999', which is too large"
    ),
    circuit("nested deep", '{"found_on":' + "[" * 200 + "]" * 200 + "}", r"c\.json: is nested deeper than 64 levels"),
    circuit("nested without end", "[" * 100_000, r"c\.json: is nested deeper than 64 levels"),
    circuit("no UTF-8", b'{"groups":\n "\xff"}', r"c\.json, line 2: is not text in UTF-8 \(invalid start byte\)"),
    circuit("UTF-16", json.dumps({"groups": [ONE]}).encode("utf-16"), r"c\.json, line 1: is not text in UTF-8"),
    circuit("null bytes", b"\0" * 64, r"c\.json: is not JSON"),
    circuit("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), r"c\.json, line 1: is not text in UTF-8"),
    circuit("found on a text", {"groups": [ONE], "found_on": "llama"}, r"c\.json: not a circuit \(found_on is 'llama'"),
    circuit("a masks file", {"heads": {"one": {}}}, r"c\.json: not a circuit \(has no 'groups'\)"),
    group("without a name", r"c\.json: not a circuit \(has no 'name'\)", name=None),
    group("with a number as name", r"c\.json: not a circuit \(name is 3, not text\)", name=3),
    group("with a list as name", r"c\.json: not a circuit \(name is \['a'\], not text\)", name=["a"]),
    group("with an empty name", r"c\.json, name of group 0: '' is no name; a name has letters", name=""),
    group("in markup", r"c\.json, name of group 0: '\[/red\]' is no name", name="[/red]"),
    group("with a new line", r"c\.json, name of group 0: 'a\\nb' is no name", name="a\nb"),
    group("that is a row", r"c\.json, name of group 0: nothing may be called 'full circuit'", name="full circuit"),
    group("called as random sets", r"c\.json, name of group 0: no group may be called 'random 12'", name="random 12"),
    group("without a role", r"c\.json: not a circuit \(has no 'role'\)", role=None),
    group("at two roles", r"c\.json: not a circuit \(role is \['last'\], not text\)", role=["last"]),
    group("at no role", r"circuit, group 'one': the task has no role 'first'; available: last", role="first"),
    group("with heads as text", r"c\.json, group 'one': heads are '0\.1', not a list", heads="0.1"),
    group("without heads", r"c\.json, group 'one': heads are None, not a list", heads=None),
    group("with a flat list", r"c\.json, group 'one': 3 is not \[layer, head\]", heads=[3, 2]),
    group("with three numbers", r"c\.json, group 'one': \[0, 1, 2\] is not \[layer, head\]", heads=[[0, 1, 2]]),
    group("with one number", r"c\.json, group 'one': \[0\] is not \[layer, head\]", heads=[[0]]),
    group("with true", r"c\.json, group 'one': \[True, 0\] is not \[layer, head\] as whole numbers", heads=[[True, 0]]),
    group("with 1.0", r"c\.json, group 'one': \[1\.0, 0\] is not \[layer, head\]", heads=[[1.0, 0]]),
    group("with '1'", r"c\.json, group 'one': \['1', 0\] is not \[layer, head\]", heads=[["1", 0]]),
    group("with null", r"c\.json, group 'one': \[None, 0\] is not \[layer, head\]", heads=[[None, 0]]),
    group(
        "with -1", r"c\.json, group 'one': \[0, -1\] is not \[layer, head\] as whole numbers from 0", heads=[[0, -1]]
    ),
    group(
        "with a huge number",
        r"circuit, group 'one': no head \[1267650600228229401496703205376, 0\]",
        heads=[[2**100, 0]],
    ),
    circuit(
        "a number without end",
        '{"groups": [{"name": "one", "role": "last", "heads": [[' + "9" * 10_000 + ", 0]]}]}",
        r"c\.json: Exceeds the limit",
    ),
    group("with a head twice", r"c\.json, group 'one': lists a head twice: \[3, 2\]", heads=[[3, 2], [0, 1], [3, 2]]),
    group("with a layer too many", r"circuit, group 'one': no head \[4, 0\]; available: layers 0 to 3", heads=[[4, 0]]),
]

MASKS = [
    Trial("masks, absent", ("method=activation_patching", "method.masks=m.json"), r"method\.masks: no file 'm\.json'"),
    Trial("masks, a folder", ("method=activation_patching", "method.masks={here}"), r"method\.masks: '.*' is a folder"),
    masks("empty file", b"", r"m\.json: is not JSON"),
    masks("a list", [], r"m\.json: is not a JSON object but \[\]"),
    masks("a circuit", {"groups": [ONE]}, r"m\.json: does not hold masks \(has no 'heads'\)"),
    masks(
        "heads in a list", {"heads": [[0, 1]]}, r"m\.json: does not hold masks \(heads is \[\[0, 1\]\], not an object\)"
    ),
    masks(
        "no desiderata",
        {"heads": {"one": [[0, 1]]}},
        r"m\.json: does not hold masks \(group 'one' has \[\[0, 1\]\], not",
    ),
    masks("true", {"heads": {"one": {"positional": [[True, 1]]}}}, r"m\.json, mask one/positional: \[True, 1\] is not"),
    masks(
        "twice",
        {"heads": {"one": {"positional": [[1, 1], [1, 1]]}}},
        r"m\.json, mask one/positional: lists a head twice",
    ),
    masks("markup", {"heads": {"[b]": {}}}, r"m\.json, group: '\[b\]' is no name"),
    masks("a slash", {"heads": {"one": {"a/b": []}}}, r"m\.json, desideratum of group 'one': 'a/b' is no name"),
    masks(
        "found on a list",
        {"heads": {}, "found_on": []},
        r"m\.json: does not hold masks \(found_on is \[\], not an object\)",
    ),
    masks("no mask", {"heads": {}}, r"m\.json: has no mask for value_fetcher/object_value; available: none"),
    masks("infinity", '{"heads": {}, "found_on": {"x": -Infinity}}', r"m\.json: has -Infinity, which is not a number"),
    masks(
        "heads of another circuit",
        {"heads": {"value_fetcher": {rule: [[0, 5]] for rule in ("object_value", "box_label_value", "positional")}}},
        r"m\.json: heads '?\[\[0, 5\]\]'? of the mask for value_fetcher/object_value are not in the circuit's group",
    ),
]

PROMPTS = [
    Trial("prompts, a folder", (*TASK, "task.path={here}"), r"task\.path: '.*' is a folder"),
    Trial("prompts, no path", (*TASK, "task.path=''"), r"task\.path: is empty"),
    Trial("prompts, a device", (*TASK, "task.path=/dev/zero"), r"task\.path: '/dev/zero' is a pipe or a device"),
    Trial("prompts, absent", (*TASK, "task.path=no.jsonl"), r"task\.path: cannot read 'no\.jsonl' \(No such file"),
    prompts("empty file", "", r"p\.jsonl: has 0 prompts, 1 are asked for"),
    prompts("blank lines", "\n \r\n\n", r"p\.jsonl: has 0 prompts, 1 are asked for"),
    prompts("fewer than asked for", GOOD, r"p\.jsonl: has 1 prompts, 5 are asked for", "task.count=5"),
    prompts("a list", f"{GOOD}\n[1]", r"p\.jsonl, line 2: is not a JSON object but \[1\]; a line looks like"),
    prompts("a text", f'{GOOD}\n\n"x"', r"p\.jsonl, line 3: is not a JSON object but 'x'"),
    prompts(
        "a sentence in a list", f'{GOOD}\r\n{{"sentence": ["a"]}}', r"p\.jsonl, line 2: sentence is \['a'\], not text"
    ),
    prompts("no sentence", '{"text": "a"}', r"p\.jsonl, line 1: has no 'sentence'"),
    prompts("two sentences", '{"sentence": "a", "sentence": "b"}', r"p\.jsonl, line 1: has the key 'sentence' twice"),
    prompts("NaN", '{"sentence": NaN}', r"p\.jsonl, line 1: has NaN, which is not a number"),
    prompts("no UTF-8", GOOD.encode() + b"\n" + b'{"sentence": "\xe9"}', r"p\.jsonl, line 2: is not text in UTF-8"),
    prompts("UTF-16", GOOD.encode("utf-16"), r"p\.jsonl, line 1: is not text in UTF-8"),
    prompts("half a line", f"{GOOD}\n{OTHER[:40]}", r"p\.jsonl, line 2: is not JSON"),
    prompts("two objects in a line", f"{GOOD}{OTHER}", r"p\.jsonl, line 1: is not JSON \(Extra data"),
    prompts("carriage returns alone", f"{GOOD}\r{OTHER}\r", r"p\.jsonl, line 1: has a carriage return within"),
    prompts(
        "a line separator in an object",
        GOOD.replace("key", "\u2028key").replace("\\u2028", "\u2028"),
        r"p\.jsonl, line 1: segment",
    ),
    prompts("a line separator between", f"{GOOD}\u2028{OTHER}", r"p\.jsonl, line 1: is not JSON \(Extra data"),
    prompts("nested without end", '{"sentence":' + "[" * 50_000, r"p\.jsonl, line 1: is nested deeper than 64 levels"),
    prompts(
        "a huge line", line("The book is in Box Q, " * 10_000), r"p\.jsonl, line 1: has 220,\d+ bytes, more than 65,536"
    ),
    prompts(
        "a long word",
        line(f"The {'x' * 9000}. Box Q contains the"),
        r"p\.jsonl, line 1: segment 'The x{50,90}'?\.\.\. is not",
    ),
    prompts(
        "a null character",
        line("The bo\0ok is in Box Q. Box Q contains the"),
        r"p\.jsonl, line 1: segment 'The bo\\x00ok",
    ),
    prompts(
        "an escape sequence",
        line("The \x1b[31mbook is in Box Q. Box Q contains the"),
        r"p\.jsonl, line 1: segment 'The \\x1b",
    ),
    prompts(
        "a lone surrogate", '{"sentence": "The \\ud800 is in Box Q. Box Q contains the"}', r"p\.jsonl, line 1: segment"
    ),
    prompts(
        "a new line in a sentence", line("The book is in Box Q\n. Box Q contains the"), r"p\.jsonl, line 1: question"
    ),
    prompts("no question", line("The book is in Box Q."), r"p\.jsonl, line 1: no question"),
    prompts(
        "a letter twice",
        line("The book is in Box Q, the key is in Box Q. Box Q contains the"),
        r".*line 1: two boxes have the same letter",
    ),
    prompts(
        "an object twice",
        line("The key is in Box X, the key is in Box Q. Box Q contains the"),
        r".*line 1: two boxes have the same object",
    ),
    prompts("no such box", line("The book is in Box Q. Box R contains the"), r"p\.jsonl, line 1: no box 'R'"),
    prompts(
        "a wrong answer",
        GOOD.replace("the book.", "the key."),
        r"p\.jsonl, line 1: the answer is given as 'key', but box Q has 'book'",
    ),
    prompts(
        "13 boxes",
        f"{GOOD}\n{line(boxes(13))}",
        r"p\.jsonl, line 2: 13 boxes do not leave letters for a counterfactual",
    ),
    prompts("700 boxes", line(boxes(600)), r"p\.jsonl, line 1: 600 boxes do not leave letters"),
    prompts(
        "the same again",
        f"{GOOD}\n{OTHER}\n{GOOD}",
        r"p\.jsonl, line 3: asks what line 1 asks, about the same context; remove",
    ),
    prompts(
        "one box",
        line("The book is in Box Q. Box Q contains the book."),
        r"task: desideratum 'object_value' needs 2 to 12 boxes",
    ),
    Trial(
        "prompts, an unknown word beyond the first batch",
        ("method=evaluate", "task.path=p.jsonl", "batch_size=1", "method.models=[llama]"),
        r"p\.jsonl, line 4: the tokenizer does not know the answer 'zyxw'",
        {"p.jsonl": f"{GOOD}\n\n{OTHER}\n{UNKNOWN}\n"},
    ),
]


@pytest.mark.parametrize("trial", [*CIRCUITS, *MASKS, *PROMPTS], ids=lambda trial: trial.name)
def test_a_file_that_does_not_hold_it_is_named(
    trial: Trial,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt(trial, launch, golden_overrides, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("key", ["circuit", "task.path", "method.masks"])
def test_a_pipe_is_not_waited_for(
    key: str,
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    os.mkfifo(tmp_path / "pipe")
    says = rf"{key}: 'pipe' is a pipe or a device; give the path of a file"
    trial = Trial("a pipe", ("method=activation_patching", f"{key}=pipe"), says)
    attempt(trial, launch, golden_overrides, tmp_path, capsys, monkeypatch)


def test_a_file_of_the_size_of_a_disk_is_not_read(
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "large.jsonl").open("wb") as stream:
        stream.truncate(1 << 40)
    trial = Trial("large", (*TASK, "task.path=large.jsonl"), r"task\.path: 'large\.jsonl' has 1,099,511,627,776 bytes")
    attempt(trial, launch, golden_overrides, tmp_path, capsys, monkeypatch)
