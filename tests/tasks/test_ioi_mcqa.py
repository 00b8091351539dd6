"""Givings and choices: every answer follows from the text, by a reader of nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entitrack.core.errors import UserError
from entitrack.tasks.desiderata import draw_pairs, find_desiderata
from entitrack.tasks.ioi import IOI
from entitrack.tasks.mcqa import MCQA
from entitrack.tasks.protocol import Prompt

SEEDS = st.integers(0, 10**6)


def giving(text: str) -> tuple[str, str, str]:
    """The two who meet, and who gives, by the text alone."""
    found = re.fullmatch(r"At the \w+ (\w+) met (\w+)\. There (\w+) \w+ a \w+ to", text)
    assert found, text
    return found[1], found[2], found[3]


def choices(text: str) -> tuple[list[str], list[str], int]:
    """The letters, the colors, and which is right, by the text alone."""
    found = re.fullmatch(r"The (\w+) is (\w+)\. Which color does the (\w+) have\? (.*)\. Answer:", text)
    assert found, text
    assert found[1] == found[3]
    pairs = [choice.split(": ") for choice in found[4].split(", ")]
    letters, colors = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return letters, colors, colors.index(found[2])


def word(prompt: Prompt, role: str) -> str:
    return prompt.text[slice(*prompt.spans[role])]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_the_receiver_is_the_one_who_is_not_named_again(seed: int) -> None:
    for pair in IOI(count=12, seed=seed).pairs():
        clean, other = pair.clean, pair.counterfactual
        first, second, subject = giving(clean.text)
        (receiver,) = {first, second} - {subject}
        assert (clean.answer, clean.alternatives) == (receiver, (subject,))  # type: ignore[attr-defined]
        assert clean.facets["receiver"] == [first, second].index(receiver)
        assert [word(clean, role) for role in ("receiver", "subject", "subject_again")] == [receiver, subject, subject]
        assert clean.spans["subject"] < clean.spans["subject_again"]
        names = giving(other.text)
        assert len({*names, first, second}) == 5, "nobody of the counterfactual is named twice, or in the clean one"
        assert len(clean.text.split()) == len(other.text.split())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, offered=st.integers(2, 6), drawn=st.booleans())
def test_the_answer_is_the_letter_at_the_color(seed: int, offered: int, drawn: bool) -> None:
    for pair in MCQA(count=12, seed=seed, choices=offered, letters=drawn).pairs():
        letters, colors, right = choices(pair.clean.text)
        assert pair.clean.answer == letters[right]
        assert pair.clean.facets["place"] == right
        assert len(set(letters)) == len(set(colors)) == offered
        assert word(pair.clean, "right_letter") == letters[right]
        assert word(pair.clean, "right_color") == word(pair.clean, "color") == colors[right]
        foreign, other_colors, place = choices(pair.counterfactual.text)
        assert place != right
        assert not set(foreign) & set(letters)
        assert not set(other_colors) & set(colors)
        assert len(pair.clean.text.split()) == len(pair.counterfactual.text.split())


def test_desiderata_of_givings() -> None:
    task = IOI(count=30)
    prompts = task.prompts()
    for rule in find_desiderata(task, None):
        for pair in draw_pairs(rule, prompts, 0):
            clean, other = giving(pair.clean.text), giving(pair.counterfactual.text)
            (receiver,), (foreign,) = ({*names[:2]} - {names[2]} for names in (clean, other))
            place = [*other[:2]].index(other[2])
            if rule.name == "receiver_name":
                assert pair.target == foreign
                assert place == [*clean[:2]].index(clean[2])
                assert not {*clean} & {*other}
            elif rule.name == "subject_name":
                assert (pair.target, other[2]) == (clean[2], receiver)
                assert place == [*clean[:2]].index(clean[2]), "who, and not where"
            else:
                assert pair.target == clean[2]
                assert place != [*clean[:2]].index(clean[2])
                assert not {*clean} & {*other}, "where, and not who"


def test_desiderata_of_choices() -> None:
    task = MCQA(count=30)
    for rule in find_desiderata(task, None):
        for pair in draw_pairs(rule, task.prompts(), 0):
            (letters, _, right), (foreign, _, place) = choices(pair.clean.text), choices(pair.counterfactual.text)
            assert pair.target == {"answer_letter": foreign[place], "answer_place": letters[place]}[rule.name]
            assert pair.target != letters[right]


@pytest.mark.parametrize("kind", [IOI, MCQA])
def test_parts_share_no_prompt_and_nothing_comes_twice(kind: type[IOI] | type[MCQA]) -> None:
    search, judge = ({prompt.text for prompt in kind(count=80, part=part).prompts()} for part in ("search", "judge"))
    assert len(search) == len(judge) == 80
    assert not search & judge
    assert {prompt.text for prompt in kind(count=80).of_part("judge").prompts()} == judge
    assert len({len(prompt.text.split()) for prompt in kind(count=40).backgrounds(20)}) == 1


def test_what_cannot_be_drawn_names_the_key() -> None:
    with pytest.raises(UserError, match=r"^task\.choices: 9 is not 2 or more and 6 or less"):
        MCQA(choices=9)
