"""Variables and names: every answer follows from the text, by a reader of nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entitrack.core.errors import UserError
from entitrack.models.family import Family
from entitrack.tasks.bindings import FORMS, Bindings
from entitrack.tasks.desiderata import draw_pairs, find_desiderata
from entitrack.tasks.encoding import check_first_tokens, encode
from entitrack.tasks.protocol import CORRECT_OBJECT, PREV_QUERY_LABEL, QUERY_LABEL, continued

FACT = r"(\w+) (?:=|is from) (\w+)"
TASKS = st.builds(
    Bindings,
    count=st.integers(1, 20),
    facts=st.integers(2, 4),
    form=st.sampled_from(sorted(FORMS)),
    seed=st.integers(0, 10**6),
)


def read(text: str) -> tuple[dict[str, str], str]:
    """What is bound to what, and what is asked for, by the text alone."""
    facts, question = text.split(". ", 1)
    found = [re.fullmatch(FACT, fact) for fact in facts.split(", ")]
    asked = re.fullmatch(r"(\w+) (?:= |is from)", question)
    assert all(found), text
    assert asked, text
    return {fact[1]: fact[2] for fact in found if fact}, asked[1]


@settings(max_examples=60, deadline=None)
@given(task=TASKS)
def test_every_answer_follows_from_the_text(task: Bindings) -> None:
    prompts = task.prompts()
    assert len({prompt.text for prompt in prompts}) == len(prompts) == task.count
    for prompt in prompts:
        bound, asked = read(prompt.text)
        assert prompt.answer == bound[asked]
        assert set(prompt.alternatives) == set(bound.values()) - {prompt.answer}
        assert len(bound) == prompt.facets["boxes"] == task.facts
        assert list(bound).index(asked) == prompt.facets["query"]
        words = {role: prompt.text[slice(*span)] for role, span in prompt.spans.items()}
        assert words == {QUERY_LABEL: asked, PREV_QUERY_LABEL: asked, CORRECT_OBJECT: prompt.answer}
        assert prompt.spans[PREV_QUERY_LABEL] < prompt.spans[QUERY_LABEL]


@settings(max_examples=40, deadline=None)
@given(task=TASKS)
def test_counterfactuals_share_nothing_and_answer_nothing(task: Bindings) -> None:
    for pair in task.pairs():
        (clean, _), (other, asked) = read(pair.clean.text), read(pair.counterfactual.text)
        assert not clean.keys() & other.keys()
        assert not set(clean.values()) & set(other.values())
        assert asked not in {*clean, *other}
        assert len(pair.clean.text.split()) == len(pair.counterfactual.text.split())


@pytest.mark.parametrize("form", FORMS)
def test_desiderata_pull_position_name_and_value_apart(form: str) -> None:
    task = Bindings(count=20, facts=3, form=form)  # type: ignore[arg-type]
    prompts = task.prompts()
    rules = find_desiderata(task, None)
    assert [rule.name for rule in rules] == ["object_value", "box_label_value", "positional"]
    for rule in rules:
        for pair in draw_pairs(rule, prompts, 0):
            (clean, asked), (other, named) = read(pair.clean.text), read(pair.counterfactual.text)
            by_place = list(clean.values())[list(other).index(named)]
            meant = {"object_value": other[named], "box_label_value": clean.get(named), "positional": by_place}
            assert pair.target == meant[rule.name]
            assert sum(word == pair.target for word in (*meant.values(), clean[asked])) == 1


def test_parts_share_no_context() -> None:
    search, judge = (Bindings(count=200, part=part).prompts() for part in ("search", "judge"))
    assert not {prompt.context for prompt in search} & {prompt.context for prompt in judge}


def test_what_cannot_be_drawn_names_the_key() -> None:
    with pytest.raises(UserError, match=r"^task\.facts: 5 facts do not leave others for a counterfactual; .*2 to 4"):
        Bindings(facts=5)
    with pytest.raises(UserError, match=r"^method\.boxes\.1: task\.facts: 9"):
        Bindings().resized(9, "method.boxes.1")
    assert Bindings(form="names").resized(9, "method.boxes.1").facts == 9


def test_the_embedded_family_reads_them(tiny_family: Family) -> None:
    task = Bindings(count=8)
    prompts = task.prompts()
    check_first_tokens(prompts, tiny_family.tokenizer)
    batch = encode(prompts, tiny_family.tokenizer)
    assert tiny_family.tokenizer.convert_ids_to_tokens(batch.answers.tolist()) == [prompt.answer for prompt in prompts]
    last = batch.tokens[range(len(prompts)), batch.positions["last"]].tolist()
    assert set(tiny_family.tokenizer.convert_ids_to_tokens(last)) == {"="}


def test_a_space_at_the_end_stands_before_the_answer() -> None:
    assert continued("k = ", "7") == continued("k =", "7") == "k = 7"
