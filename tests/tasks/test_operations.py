"""Stories of boxes: every answer follows from the text, by a simulator that reads nothing else."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entitrack.core.errors import UserError
from entitrack.tasks.desiderata import draw_pairs, find_desiderata
from entitrack.tasks.operations import KINDS, Operations
from entitrack.tasks.operations.wording import OperationsPrompt
from entitrack.tasks.protocol import CORRECT_OBJECT, PREV_QUERY_LABEL, QUERY_LABEL

READ = {
    "fact": r"(?:Box (?P<b>\w) contains the (?P<o>\w+)|[Tt]he (?P<o2>\w+) is in Box (?P<b2>\w))",
    "put": r"(?:Put the (\w+) into Box (\w)|The (\w+) is put into Box (\w))",
    "remove": r"(?:Remove the (\w+) from Box (\w)|The (\w+) is not in Box (\w))",
    "move": r"(?:Move the (\w+) from Box (\w) to Box (\w)|The (\w+) is put from Box (\w) into Box (\w))",
}
SWAPS = (
    r"Swap the (?P<o>\w+) in Box (?P<b>\w) with the (?P<p>\w+) in Box (?P<c>\w)",
    r"The (?P<o>\w+) is put into Box (?P<c>\w) and the (?P<p>\w+) into Box (?P<b>\w)",
)
"""What operations look like, written down here once more; `b` is where `o` was."""


def simulate(text: str) -> tuple[dict[str, str], list[tuple[str, tuple[str, ...]]], str]:
    """What is in which box in the end, what happened to which boxes, and which box is asked for, by the text alone."""
    facts, *told, question = text.split(". ")
    holds: dict[str, str] = {}
    for fact in facts.split(", "):
        found = re.fullmatch(READ["fact"], fact)
        assert found, fact
        holds[found["b"] or found["b2"]] = found["o"] or found["o2"]
    happened = []
    for sentence in told:
        kind, boxes = happen(sentence, holds)
        happened.append((kind, boxes))
    asked = re.fullmatch(r"Box (\w) contains the", question)
    assert asked, question
    return holds, happened, asked[1]


def happen(sentence: str, holds: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """Let a sentence happen; gives its kind and the boxes that it touches."""
    for form in SWAPS:
        swap = re.fullmatch(form, sentence)
        if swap:
            assert holds[swap["b"]] == swap["o"]
            assert holds[swap["c"]] == swap["p"]
            holds[swap["b"]], holds[swap["c"]] = swap["p"], swap["o"]
            return "swap", (swap["b"], swap["c"])
    for kind in ("put", "remove", "move"):
        found = re.fullmatch(READ[kind], sentence)
        if not found:
            continue
        thing, *boxes = (word for word in found.groups() if word)
        if kind == "put":
            assert boxes[0] not in holds
            assert thing not in holds.values()
            holds[boxes[0]] = thing
        else:
            assert holds.pop(boxes[0]) == thing
        if kind == "move":
            assert boxes[1] not in holds
            holds[boxes[1]] = thing
        return kind, tuple(boxes)
    raise AssertionError(sentence)


STORIES: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    boxes=st.integers(3, 5),
    operations=st.lists(st.sampled_from(KINDS), max_size=4),
    seed=st.integers(0, 10**6),
    wording=st.sampled_from(["imperative", "passive"]),
    count=st.integers(1, 12),
)


def task_of(drawn: dict[str, Any]) -> Operations | None:
    """The task of these settings; None where it says that they cannot be."""
    try:
        return Operations(**drawn)
    except UserError:
        assert drawn["operations"].count("remove") >= 2
        return None


@settings(max_examples=60, deadline=None)
@given(drawn=STORIES)
def test_every_answer_follows_from_the_text(drawn: dict[str, Any]) -> None:
    task = task_of(drawn)
    for prompt in task.prompts() if task else ():
        holds, happened, asked = simulate(prompt.text)
        assert prompt.answer == holds[asked]
        assert Counter(kind for kind, _ in happened) == Counter(drawn["operations"])
        touching = [kind for kind, boxes in happened if asked in boxes]
        last = 1 + KINDS.index(touching[-1]) if touching else 0  # type: ignore[arg-type]
        assert prompt.facets == {"touches": len(touching), "last": last}
        assert prompt.answer not in prompt.alternatives
        assert all(word in prompt.text for word in prompt.alternatives)
        check_roles(prompt, asked)


def check_roles(prompt: OperationsPrompt, asked: str) -> None:
    """Roles are where the letter and the object were named last before the question."""
    start = prompt.text.rindex(". ")
    words = {role: prompt.text[slice(*prompt.spans[role])] for role in (PREV_QUERY_LABEL, CORRECT_OBJECT, QUERY_LABEL)}
    assert words == {PREV_QUERY_LABEL: asked, CORRECT_OBJECT: prompt.answer, QUERY_LABEL: asked}
    for role in (PREV_QUERY_LABEL, CORRECT_OBJECT):
        end = prompt.spans[role][1]
        assert not re.search(rf"\b{words[role]}\b", prompt.text[end:start])
    assert prompt.spans[QUERY_LABEL][0] > start


@settings(max_examples=40, deadline=None)
@given(drawn=STORIES)
def test_counterfactuals_have_the_same_operations_and_length_and_no_answer(drawn: dict[str, Any]) -> None:
    task = task_of(drawn)
    for pair in task.pairs() if task else ():
        clean, other = simulate(pair.clean.text), simulate(pair.counterfactual.text)
        assert [kind for kind, _ in clean[1]] == [kind for kind, _ in other[1]]
        assert len(pair.clean.text.split()) == len(pair.counterfactual.text.split())
        assert other[2] not in other[0]
        assert f"Box {other[2]}" not in pair.clean.text
        names = dict(zip(letters(pair.clean.text), letters(pair.counterfactual.text), strict=True))
        assert [tuple(names[box] for box in boxes) for _, boxes in clean[1]] == [boxes for _, boxes in other[1]]
        assert not set(clean[0].values()) & set(other[0].values())
    if task:
        lengths = {len(prompt.text.split()) for prompt in (*task.prompts(), *task.backgrounds(5))}
        assert len(lengths) == 1


def letters(text: str) -> list[str]:
    """The letters of a story's boxes, as they are named, without the question's."""
    return re.findall(r"Box (\w)", text.rpartition(". ")[0])


def test_desiderata_have_one_explanation_each() -> None:
    task = Operations(count=60, boxes=4, wording="imperative")
    prompts = task.prompts()
    drawn = {rule.name: draw_pairs(rule, prompts, 0) for rule in find_desiderata(task, None)}
    assert list(drawn) == ["object_value", "box_label_value", "box_place"]
    for name, pairs in drawn.items():
        for pair in pairs:
            (holds, _, asked), (others, _, named) = simulate(pair.clean.text), simulate(pair.counterfactual.text)
            place = dict(zip(letters(pair.counterfactual.text), letters(pair.clean.text), strict=True))[named]
            readings = {"object_value": others[named], "box_place": holds[place], "own": holds[asked]}
            readings |= {"box_label_value": holds[named]} if name == "box_label_value" else {}
            assert pair.target == readings[name]
            assert len(set(readings.values())) == len(readings)


def test_parts_share_no_context_and_every_kind_is_met() -> None:
    search, judge = (Operations(count=200, part=part).prompts() for part in ("search", "judge"))
    assert not {prompt.context for prompt in search} & {prompt.context for prompt in judge}
    assert {prompt.facets["last"] for prompt in judge} == {0, 1, 3, 4}, "a box that was emptied is not asked for"
    assert {prompt.facets["touches"] for prompt in judge} >= {0, 1, 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"boxes": 12}, r"^task\.boxes: 12 boxes and what is put or moved take 14 letters; 12 leave"),
        ({"boxes": 1, "operations": ["remove"]}, r"^task\.operations: leave 0 of 1 boxes full; remove less"),
        ({"boxes": 1, "operations": ["swap"]}, r"^task\.operations: swap cannot happen to 1 boxes; use more"),
        ({"operations": ["steal"]}, r"^task\.operations\.0: .*steal"),
        ({"wording": "poetic"}, r"^task\.wording: .*poetic"),
    ],
)
def test_what_cannot_be_drawn_names_the_key(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Operations(**words)
    assert Operations(boxes=2).resized(4, "method.boxes.0").boxes == 4
    with pytest.raises(UserError, match=r"^method\.boxes\.0: "):
        Operations().resized(12, "method.boxes.0")
