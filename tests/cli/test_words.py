"""Values in Python are what they were once Hydra has read them as words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from entitrack.cli.words import words_of
from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError

SIGNS = st.sampled_from("ab1_-./\\'\"\n\t ,:=[]{}()+~é\u202e%@?|*")
TEXTS = st.text(SIGNS, max_size=12) | st.sampled_from(["null", "True", "nan", "-inf", "1e5", "5", "/tmp/a-b.json"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
KEYS = st.from_regex(r"[a-z_][a-z0-9_-]{0,5}", fullmatch=True).filter(lambda key: key not in {"null", "true", "false"})
VALUES = st.recursive(PLAIN, lambda part: st.lists(part, max_size=3) | st.dictionaries(KEYS, part, max_size=3))


def read(value: Any) -> Any:
    (word,) = words_of("key", [value], keep=lambda found: "kept.json")
    return OverridesParser.create().parse_override(word).value()[0]  # type: ignore[index]


@given(VALUES)
@example("\\'")
@example("a\\")
@example("'")
def test_what_is_written_is_read(value: Any) -> None:
    found = read(value)
    assert found == value
    assert repr(found) == repr(value)  # 1 is no True, and 1.0 no 1


def test_mappings_are_keys_and_other_kinds_are_plain() -> None:
    given = {"choose": {"by": "fdr", "rate": 0.1}, "stages": [{"a": None}], "path": Path("a/b"), "n": numpy.int64(3)}
    assert list(words_of("method", given, keep=str)) == [
        "method.choose.by=fdr",
        "method.choose.rate=0.1",
        "method.stages=[{a:null}]",
        "method.path=a/b",
        "method.n=3",
    ]
    assert read(Circuit(())) == "kept.json"


@pytest.mark.parametrize("value", [object(), {"a b": 1}, [{1: 2}], b"bytes", 1j])
def test_what_is_no_setting_is_named(value: Any) -> None:
    with pytest.raises(UserError, match=r"^key"):
        list(words_of("key", value, keep=str))
