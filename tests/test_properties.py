"""What the readers of circuits, masks and prompts do with anything at all: they read it, or say in one line why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from entitrack.core.circuits import Circuit, Group, check_group_name, read_circuit
from entitrack.core.errors import UserError, printable
from entitrack.core.masks import Masks, read_masks
from entitrack.core.names import LONGEST
from entitrack.tasks.boxes import Boxes, BoxesFile, BoxesPrompt
from entitrack.tasks.table import Table

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SIGNS = "abcXYZ019_-. "
WORDS = ["groups", "name", "role", "heads", "found_on", "sentence", "last", "one", "base", "random 1", "[/red]", ""]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
JSON = st.recursive(
    SCALARS,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), part),
    max_leaves=12,
)


def is_name(name: str) -> bool:
    try:
        check_group_name(name, "group")
    except UserError:
        return False
    return True


NAMES = st.text(SIGNS, min_size=1, max_size=LONGEST).filter(is_name)
HEADS = st.lists(st.tuples(st.integers(0, 2**70), st.integers(0, 99)), unique=True, max_size=5).map(tuple)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3),
    max_leaves=8,
)
FOUND_ON = st.dictionaries(st.text(max_size=6), PLAIN, max_size=3)
CIRCUITS = st.builds(
    Circuit,
    st.lists(st.builds(Group, NAMES, NAMES, HEADS), min_size=1, max_size=4, unique_by=lambda group: group.name).map(
        tuple
    ),
    FOUND_ON,
)
MASKS = st.builds(Masks, st.dictionaries(NAMES, st.dictionaries(NAMES, HEADS, max_size=3), max_size=3), FOUND_ON)


def nearly_a_circuit(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Records that are a circuit but for one or two places."""
    group = st.fixed_dictionaries(
        {"name": NAMES | part, "role": st.just("last") | part, "heads": st.just([[0, 1]]) | part}
    )
    return st.fixed_dictionaries({"groups": st.lists(group, max_size=2) | part}, optional={"found_on": part})


def one_line(error: UserError) -> None:
    """What is said is one line, without anything that moves a cursor, and not a page."""
    said = str(error)
    assert said == printable(said)
    assert len(said) < 1000


Read = Callable[[str], object]


def read_or_refuse(read: Read, path: Path, content: bytes) -> object | None:
    """What is read from a file of that content; None if it is refused, which must be a user's error."""
    path.write_bytes(content)
    try:
        return read(str(path))
    except UserError as error:
        one_line(error)
        return None


READERS: dict[str, Read] = {
    "circuit": lambda path: read_circuit(path, "none"),
    "masks": read_masks,
    "prompts": lambda path: BoxesFile(path=path).prompts(),
    "table": lambda path: Table(path=path, prompt="name", answer="role", spans="heads").prompts(),
}


@pytest.mark.parametrize("kind", READERS)
@FEW
@given(content=st.binary(max_size=80))
@example(content=b"\xef\xbb\xbf{}")
@example(content=b"\xff\xfe{\0}\0")
@example(content=b"[" * 50_000)
@example(content=b'{"a":' * 50_000)
def test_any_bytes_are_read_or_refused(kind: str, content: bytes, tmp_path: Path) -> None:
    read_or_refuse(READERS[kind], tmp_path / "file", content)


@pytest.mark.parametrize("kind", READERS)
@FEW
@given(record=JSON)
@example(record={"groups": [{"name": "a", "role": "last", "heads": [[10**5000, 0]]}]})
def test_any_json_is_read_or_refused(kind: str, record: object, tmp_path: Path) -> None:
    read_or_refuse(READERS[kind], tmp_path / "file", _dump(record))


def _dump(record: object) -> bytes:
    try:
        return json.dumps(record).encode()
    except ValueError:  # a number of more digits than Python writes
        return b'{"groups": [{"name": "a", "role": "last", "heads": [[' + b"9" * 5000 + b", 0]]}]}"


@FEW
@given(record=nearly_a_circuit(JSON))
def test_what_is_read_as_a_circuit_is_one(record: object, tmp_path: Path) -> None:
    found = read_or_refuse(READERS["circuit"], tmp_path / "c.json", json.dumps(record).encode())
    if found is None:
        return
    assert isinstance(found, Circuit)
    assert found.groups
    assert len({group.name for group in found.groups}) == len(found.groups)
    for group in found.groups:
        assert is_name(group.name)
        assert all(type(index) is int and index >= 0 for head in group.heads for index in head)
        assert len(set(group.heads)) == len(group.heads)


@FEW
@given(circuit=CIRCUITS)
def test_a_circuit_that_is_written_is_read(circuit: Circuit, tmp_path: Path) -> None:
    circuit.write(tmp_path / "c.json")
    assert read_circuit(str(tmp_path / "c.json"), "none") == circuit


@FEW
@given(masks=MASKS)
def test_masks_that_are_written_are_read(masks: Masks, tmp_path: Path) -> None:
    masks.write(tmp_path / "m.json")
    assert read_masks(str(tmp_path / "m.json")) == masks


@FEW
@given(name=st.text(max_size=LONGEST + 4) | st.text(SIGNS, max_size=LONGEST + 4))
@example(name="a\u200bb")
@example(name="\u202ecba")
@example(name="naïve")
@example(name="_hidden")
@example(name="$x_1$")
@example(name="a" * (LONGEST + 1))
def test_a_name_cannot_be_read_as_anything_else(name: str) -> None:
    """No markup, no mathematics, no separator, no line, nothing invisible; what is refused is said in one line."""
    try:
        check_group_name(name, "group")
    except UserError as error:
        one_line(error)
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("[]{}$\\/:;,'\"<>|*?&=#")
    assert 0 < len(name) <= LONGEST
    assert name.strip() == name
    assert name[0].isalnum()


ORDERS = st.permutations(range(15))
DRAWN = Boxes(count=15, boxes=3, seed=5).prompts()


@FEW
@given(order=ORDERS, ends=st.sampled_from(["\n", "\r\n", "\n\n"]), mark=st.booleans())
def test_prompts_keep_their_contexts_in_any_order(order: list[int], ends: str, mark: bool, tmp_path: Path) -> None:
    """Two prompts are of one cluster if and only if they have one context, and each knows its line."""
    lines = [json.dumps({"sentence": DRAWN[index].text}) for index in order]
    (tmp_path / "p.jsonl").write_bytes((b"\xef\xbb\xbf" if mark else b"") + ends.join(lines).encode())
    found = BoxesFile(path=str(tmp_path / "p.jsonl")).prompts()
    assert [(prompt.text, prompt.answer) for prompt in found] == [(DRAWN[i].text, DRAWN[i].answer) for i in order]
    for one, first in zip(found, order, strict=True):
        for other, second in zip(found, order, strict=True):
            assert (one.cluster == other.cluster) == (DRAWN[first].cluster == DRAWN[second].cluster)
    step = 2 if ends == "\n\n" else 1
    for number, prompt in enumerate(found):
        assert prompt.origin == f"{tmp_path / 'p.jsonl'}, line {1 + step * number}"
    assert len({prompt.cluster for prompt in found}) == 1 + max(prompt.cluster for prompt in found)


SENTENCES = st.lists(
    st.sampled_from(
        ["The ", "the ", "book ", "is in ", "Box ", "Q", "X", ", ", ". ", "contains the", " key", "\u2028", "<s>"]
    ),
    max_size=24,
).map("".join)


@FEW
@given(sentence=SENTENCES | st.text(max_size=40))
def test_a_sentence_that_is_read_says_the_same(sentence: str, tmp_path: Path) -> None:
    content = json.dumps({"sentence": sentence}).encode()
    found = read_or_refuse(READERS["prompts"], tmp_path / "p.jsonl", content)
    if found is not None:
        prompt = found[0]  # type: ignore[index]
        assert isinstance(prompt, BoxesPrompt)
        assert prompt.text.lower() in sentence.lower()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u202eright", "\u2028"])
def test_a_file_whose_own_name_is_no_line_is_named_in_one(kind: str, name: str, tmp_path: Path) -> None:
    assert read_or_refuse(READERS[kind], tmp_path / name, b"{") is None
