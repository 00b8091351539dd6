"""A key depends on everything that a result depends on, and on nothing else."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from entitrack.runtime import keys
from entitrack.runtime.keys import ONLY_SHOWS, PACKAGE, code_digest, unit_key
from tests.disk.test_records import bits, tensors


def key(value: Any) -> str:
    return unit_key("f", "model", "cpu", {"value": value})


FEW_TENSORS = st.sampled_from(
    [
        *(torch.tensor(0.0), torch.tensor(-0.0), torch.tensor(0), torch.tensor([0]), torch.tensor([0.0])),
        *(torch.zeros(0), torch.zeros(0, 2), torch.zeros(2, 0), torch.zeros(0, dtype=torch.int64)),
        *(torch.arange(4), torch.arange(4).view(2, 2), torch.arange(4).view(2, 2).T, torch.arange(4).int()),
        *(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16), torch.ones(1)),
        *(torch.tensor(float("nan")), torch.tensor([True]), torch.tensor([1], dtype=torch.uint8)),
    ]
)
FEW = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        0.0,
        -0.0,
        1.0,
        float("nan"),
        float("inf"),
        "",
        "0",
        "1",
        "None",
        "a/",
        "str/1/a",
        "a,b",
    ]
)
NAMES = st.sampled_from(["a", "b", "", "a/", "1", 1, 0, None, "ab"])
LEAVES = FEW | FEW_TENSORS | tensors() | st.text(max_size=2) | st.integers() | st.floats()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=5
)


def equal(one: Any, other: Any) -> bool:
    """Whether an intervention could not tell two inputs apart."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return (one.dtype, one.shape, bits(one)) == (other.dtype, other.shape, bits(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=500)
def test_two_inputs_share_a_key_if_they_are_equal_and_only_then(one: Any, other: Any) -> None:
    assert (key(one) == key(other)) == equal(one, other)


@given(st.lists(FEW | FEW_TENSORS, max_size=5), st.lists(FEW | FEW_TENSORS, max_size=5))
@settings(deadline=None, max_examples=100)
def test_nesting_counts(one: list[Any], other: list[Any]) -> None:
    """The same leaves in another nesting: borders between values must not move."""
    variants = [one + other, [one, other], [one, *other], [*one, other], [[one], other], {"a": one, "b": other}]
    for index, left in enumerate(variants):
        for right in variants[index + 1 :]:
            assert (key(left) == key(right)) == equal(left, right)


@given(st.dictionaries(NAMES, FEW, max_size=5), st.randoms())
def test_the_order_of_names_does_not_count(mapping: dict[Any, Any], drawn: Any) -> None:
    shuffled = list(mapping.items())
    drawn.shuffle(shuffled)
    assert key(dict(shuffled)) == key(mapping)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1: "a", "1": "b"}, {1: "b", "1": "a"}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (["ab"], ["a", "b"]),
        (["str/1/a"], ["a"]),
        ([], {}),
        ([[]], []),
        (None, "None"),
        (1, True),
        (0, False),
        (1, 1.0),
        (0.0, -0.0),
        ("1", 1),
        (torch.tensor(1), 1),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.zeros(0, 3), torch.zeros(3, 0)),
        (torch.ones(2).bfloat16(), torch.ones(2).half()),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (torch.arange(4).view(2, 2), torch.arange(4).view(2, 2).T),
        (torch.view_as_complex(torch.ones(2, 2)), torch.view_as_complex(torch.ones(2, 2)).conj()),
    ],
    ids=repr,
)
def test_what_is_different_has_different_keys(one: Any, other: Any) -> None:
    assert key(one) != key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        (torch.arange(4).view(2, 2).T, torch.tensor([[0, 2], [1, 3]])),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
        (torch.ones(2)[::2], torch.ones(1)),
        (torch.ones(1).expand(3), torch.ones(3)),
        (float("nan"), float("nan")),
        (torch.arange(3), torch.nn.Parameter(torch.arange(3), requires_grad=False)),
    ],
    ids=repr,
)
def test_what_is_the_same_to_an_intervention_has_one_key(one: Any, other: Any) -> None:
    assert key(one) == key(other)


def test_function_model_and_place_count_each_for_itself() -> None:
    names = [
        ("f", "m", "p"),
        ("g", "m", "p"),
        ("f", "n", "p"),
        ("f", "m", "q"),
        ("fm", "", "p"),
        ("", "fm", "p"),
        ("f", "mp", ""),
    ]
    assert len({unit_key(*words, {}) for words in names}) == len(names)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, torch.float32, torch.eye(2).to_sparse(), 1j])
def test_what_has_no_bytes_has_no_key(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot make a key of"):
        key(value)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's code, to be changed."""
    folder = tmp_path_factory.mktemp("code") / "entitrack"
    shutil.copytree(
        PACKAGE, folder, ignore=lambda place, names: [n for n in names if Path(n).suffix not in ("", ".py")]
    )
    return folder


def digest(folder: Path) -> str:
    code_digest.cache_clear()
    return code_digest(folder)


def _listed_as(path: Path) -> str:
    """Where `ONLY_SHOWS` should have a file that numbers do not depend on."""
    match path.parts:
        case ("methods", _, "view.py"):
            return "methods/*/view.py"
        case ("record" | "launch" as room, *_):
            return room
    return path.as_posix()


def test_a_changed_byte_in_any_file_that_computes_is_another_digest(copy: Path) -> None:
    before, showing = digest(copy), []
    files = sorted(copy.rglob("*.py"))
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        if digest(copy) == before:
            showing.append(file.relative_to(copy))
        file.write_bytes(content)
    assert digest(copy) == before == digest(PACKAGE)
    assert {_listed_as(path) for path in showing} == set(ONLY_SHOWS)
    assert len(showing) < len(files) / 4


@pytest.mark.parametrize("place", ["new.py", "methods/new.py", "newroom/new.py", "runtime/ndif/new.py"])
def test_a_new_file_counts_unless_it_is_said_to_only_show(place: str, copy: Path) -> None:
    before = digest(copy)
    file = copy / place
    made = not file.parent.exists()
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"")
    assert digest(copy) != before
    file.unlink()
    if made:
        file.parent.rmdir()
    assert digest(copy) == before


def test_a_moved_file_is_another_digest(copy: Path) -> None:
    before = digest(copy)
    (copy / "core" / "names.py").rename(copy / "core" / "titles.py")
    assert digest(copy) != before
    (copy / "core" / "titles.py").rename(copy / "core" / "names.py")


@pytest.mark.parametrize("library", keys.LIBRARIES)
def test_another_version_of_a_library_is_another_digest(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = digest(PACKAGE), keys._version
    monkeypatch.setattr(keys, "_version", lambda name: "0.0.1" if name == library else version(name))
    assert digest(PACKAGE) != before


def test_another_python_is_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(PACKAGE)
    monkeypatch.setattr(keys.sys, "version_info", (3, 99, 0, "final", 0))
    assert digest(PACKAGE) != before


@pytest.fixture(autouse=True)
def _digest_afresh() -> None:
    code_digest.cache_clear()
