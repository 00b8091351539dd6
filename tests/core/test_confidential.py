"""Keys are hidden wherever they were given, and nothing else is."""

from __future__ import annotations

import pytest

from entitrack.core.confidential import HIDDEN, Keys, hidden_key, hide_words

KEY = "abcdef"


def test_a_key_of_the_environment_is_hidden_everywhere() -> None:
    for name in ("NDIF_API_KEY", "WANDB_API_KEY", "HF_TOKEN"):
        assert Keys({name: KEY, "OTHER": "visible"}).hide(f"a {KEY} visible") == f"a {HIDDEN} visible"
    assert Keys({}).hide(f"a {KEY}") == f"a {KEY}"


@pytest.mark.parametrize(("given", "hides"), [("abcdef", True), ("abcde", False), ("", False), (None, False)])
def test_what_is_short_spoils_no_text(given: object, hides: bool) -> None:
    keys = Keys({})
    keys.add(given)
    assert (keys.hide("abcdefg") == f"{HIDDEN}g") == hides
    assert (keys.hide("abcdefg") == "abcdefg") == (not hides)


def test_a_key_with_another_one_in_it_is_hidden_whole() -> None:
    keys = Keys({})
    for word in (KEY, f"  {KEY}123  ", HIDDEN * 2, f" {HIDDEN}  "):
        keys.add(word)
    assert keys.hide(f"{KEY}123 {KEY}") == f"{HIDDEN} {HIDDEN}"
    assert keys.hide(f" {HIDDEN}  ") == f" {HIDDEN}  "


def test_passwords_of_addresses_are_hidden_to_the_last_sign() -> None:
    assert Keys({}).hide("at https://me:p@ss@host/x and ftp://h/y") == f"at https://{HIDDEN}@host/x and ftp://h/y"


def test_values_are_hidden_in_any_nesting() -> None:
    keys = Keys({"HF_TOKEN": KEY})
    nested = {KEY: [KEY, (1, None, {"a": f"x{KEY}"})], "b": True}
    assert keys.hide_within(nested) == {HIDDEN: [HIDDEN, [1, None, {"a": f"x{HIDDEN}"}]], "b": True}


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("backend.key=short", f"backend.key={HIDDEN}"),
        ("+backend.key=abcdefgh", f"+backend.key={HIDDEN}"),
        ("backend={name: ndif, key: abcdefgh}", f"backend={{name: ndif, key: {HIDDEN}}}"),
        ("++backend={key: 'abcdefgh'}", f"++backend={{key: {HIDDEN}}}"),
        ("other.key=abcdefgh", f"other.key={HIDDEN}"),
        ("method=cmap", "method=cmap"),
        ("no assignment", "no assignment"),
    ],
)
def test_a_word_of_a_command_is_shown_without_its_key(word: str, shown: str) -> None:
    keys = Keys({"HF_TOKEN": "abcdefgh"} if word.startswith("other") else {})
    assert keys.hide_override(word) == shown
    if "abcdefgh" in word:
        assert keys.hide("abcdefgh") == HIDDEN


def test_every_key_of_a_sweep_is_hidden_in_all_words() -> None:
    words = ["output_dir=abcdefgh", "backend.key='abcdefgh','ijklmnop'", "x=ijklmnop"]
    assert hide_words(words, Keys({})) == [f"output_dir={HIDDEN}", f"backend.key={HIDDEN}", f"x={HIDDEN}"]


def test_a_section_is_recorded_without_its_key() -> None:
    assert hidden_key({"name": "ndif", "key": "a"}) == {"name": "ndif", "key": HIDDEN}
    assert hidden_key({"name": "ndif", "key": None}) == {"name": "ndif", "key": None}
    assert hidden_key("local") == "local"
