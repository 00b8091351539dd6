"""Parts of contexts, and how far what was chosen overlaps with what it is judged on."""

from __future__ import annotations

from entitrack.core.parts import context_digests, origin_of_choice, part_of

TEXTS = ["a 0", "a 1", "b 0", "c 0", "c 1"]
CLUSTERS = [0, 0, 1, 2, 2]


def test_a_part_is_a_function_of_the_text_that_no_version_may_change() -> None:
    expected = {"a": "judge", "b": "judge", "c": "judge", "d": "search", "g": "search", "h": "judge"}
    assert {text: part_of(text) for text in expected} == expected


def test_a_context_counts_once_however_many_questions_it_has() -> None:
    assert len(set(context_digests(TEXTS, CLUSTERS))) == 3
    assert context_digests(TEXTS[:3], CLUSTERS[:3]) == context_digests(TEXTS, CLUSTERS)[:2]


def test_shared_contexts_are_counted_among_one_s_own() -> None:
    found_on = {"contexts": context_digests([*TEXTS[2:], "d 0"], [5, 0, 0, 7])}
    origin = origin_of_choice("circuit mine", found_on, TEXTS, CLUSTERS)
    assert (origin.contexts, origin.shared, origin.total) == (3, 2, 3)
    assert origin.note == "circuit mine was found on 3 contexts; of the 3 contexts here 2 are among them"


def test_what_does_not_say_is_told_so() -> None:
    for found_on in ({}, {"contexts": None}, {"contexts": "abc"}):
        assert "does not say" in origin_of_choice("circuit theirs", found_on, TEXTS, CLUSTERS).note
