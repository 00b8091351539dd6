"""What an error says: one line that names the place and the fix, and is not long."""

from __future__ import annotations

import pytest

from entitrack.core.errors import UserError, printable, quoted, reason, shown, unknown_key


def test_a_line_names_place_problem_choices_and_fix() -> None:
    assert str(UserError("here", "is wrong")) == "here: is wrong"
    assert str(UserError("here", "is wrong", ["a", "b"], "do this")) == "here: is wrong; available: a, b; do this"
    assert str(UserError("a\nb", "is wrong", fix="do this")) == r"a\nb: is wrong; do this"


@pytest.mark.parametrize("quote", [quoted, shown])
def test_a_value_is_quoted_from_its_beginning_and_cut(quote: object) -> None:
    assert callable(quote)
    assert quote("ab") == "'ab'"
    assert quote(b"ab") == "b'ab'"
    assert quote([1, "a"]) == "[1, 'a']"
    long = quote("0123456789" * 1000)
    assert long.startswith("'0123456789012345678901234567890123456789")
    assert "..." in long
    assert len(long) < 200
    assert "..." in quote(list(range(10_000)))
    edge = next(size for size in range(10, 1000) if "..." in quote("x" * size))
    assert quote("x" * (edge - 1)) == repr("x" * (edge - 1))


def test_a_cut_value_says_how_long_it_is() -> None:
    assert shown("x" * 1000).endswith("... (1002 characters)")
    assert shown(10**5000) == "a number of thousands of digits"


def test_an_unknown_key_names_what_was_probably_meant() -> None:
    known = ["batch_size", "seed"]
    listed = "unknown key; available: batch_size, seed"
    assert str(unknown_key("", "batchsize", known)) == f"batchsize: {listed}; do you mean batch_size?"
    assert str(unknown_key("method", "zzz", known)) == f"method.zzz: {listed}"


def test_the_reason_of_an_error_is_one_line() -> None:
    assert reason(ValueError("two\nlines")) == "ValueError: two lines"
    assert reason(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(reason(ValueError("x" * 10_000))) < 400
    assert reason(ValueError("x" * 10_000)).startswith("ValueError: xxxxx")


def test_what_cannot_be_seen_is_written_out() -> None:
    assert printable("a\tb\u200b\x1bc ü") == r"a\tb\u200b\x1bc ü"
