"""Every pair of every desideratum satisfies its definition, whatever the seed and the number of boxes."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from entitrack.core.errors import UserError
from entitrack.tasks.boxes import Boxes, BoxesPrompt, parse_sentence
from entitrack.tasks.boxes.desiderata import DESIDERATA, EXTRA, PAPER
from entitrack.tasks.desiderata import draw_pairs, find_desiderata, find_desideratum
from entitrack.tasks.protocol import CORRECT_OBJECT, PREV_QUERY_LABEL, QUERY_LABEL, DesideratumPair

POSITIONAL = [name for name in DESIDERATA if name not in ("object_value", "box_label_value", "incorrect_segment")]
UNALTERED = ["object_value", "box_label_value", "positional", "incorrect_segment"]
CASES = list(product((3, 7, 12), range(2)))


def clean_prompts(boxes: int, seed: int) -> list[BoxesPrompt]:
    return Boxes(count=10 * boxes, boxes=boxes, seed=seed).prompts()


def clean_of(pair: DesideratumPair) -> BoxesPrompt:
    assert isinstance(pair.clean, BoxesPrompt)
    return pair.clean


def undo(name: str, text: str) -> str:
    """The counterfactual's text without what the desideratum did to it."""
    box = r"the [\w-]+ is in Box [A-Z]"
    undone = {
        "random_text_start": (r"^There are a bunch of boxes containing objects, ", ""),
        "random_text_end": (r", these are a bunch of boxes containing objects\.", "."),
        "add_tokens_btw_box_and_obj": (r"is contained in the Box", "is in Box"),
        "add_seg_start": (rf"^T{box[1:]}, ", ""),
        "add_seg_end": (rf", {box}\.", "."),
        "add_box_before_correct_segment": (r"[tT]here are three additional boxes, Box PP, Box BB and Box AA, ", ""),
        "altered_box_obj_order": (r"Box ([A-Z]) contains the ([\w-]+)(?=[,.])", r"the \2 is in Box \1"),
        "altered_box_obj_association": (r"is not in", "is in"),
        "no_comma": (r"(?<=Box [A-Z]) the", ", the"),
        "add_comma": (r", is in", " is in"),
    }
    if name not in undone:
        return text
    once = re.subn(*undone[name], text)
    assert once[1] == 1 or name in ("no_comma", "add_comma")
    return once[0][:1].upper() + once[0][1:]


def counterfactual_of(name: str, pair: DesideratumPair) -> BoxesPrompt:
    return parse_sentence(undo(name, pair.counterfactual.text).replace(" ,", ","))


@pytest.mark.parametrize("name", DESIDERATA)
@pytest.mark.parametrize(("boxes", "seed"), CASES)
def test_a_counterfactual_is_another_prompt_in_other_words(name: str, boxes: int, seed: int) -> None:
    """It parses once the alteration is undone, and shares no object, letter or position with the clean prompt."""
    prompts = clean_prompts(boxes, seed)
    pairs = DESIDERATA[name].pairs(prompts, seed)
    assert [pair.clean for pair in pairs] == prompts
    for pair in pairs:
        clean, other = clean_of(pair), counterfactual_of(name, pair)
        assert len(other.context.boxes) == boxes
        assert not {box.object for box in clean.context.boxes} & {box.object for box in other.context.boxes}
        shared = set(clean.context.labels) & set(other.context.labels)
        assert shared == ({other.label} if name == "box_label_value" else set())
        assert other.query != clean.query
        assert (other.query, other.answer) == (pair.counterfactual.facets["query"], pair.counterfactual.answer)
        assert pair.counterfactual.cluster == clean.cluster


@pytest.mark.parametrize("name", DESIDERATA)
@pytest.mark.parametrize(("boxes", "seed"), CASES)
@pytest.mark.parametrize("published", [False, True])
def test_the_target_is_the_definitions(name: str, boxes: int, seed: int, published: bool) -> None:
    for pair in draw_pairs(DESIDERATA[name], clean_prompts(boxes, seed), seed, published):
        clean, query = clean_of(pair), pair.counterfactual.facets["query"]
        start, end = pair.counterfactual.spans[QUERY_LABEL]
        asked = pair.counterfactual.text[start:end]
        expected = {
            "object_value": pair.counterfactual.answer,
            "box_label_value": {box.label: box.object for box in clean.context.boxes}.get(asked),
            "incorrect_segment": clean.context.boxes[(query + 1) % boxes].object,
        }.get(name, clean.context.boxes[query].object)
        assert pair.target == expected
        if not published:
            assert pair.target != clean.answer


@pytest.mark.parametrize("name", DESIDERATA)
@pytest.mark.parametrize(("boxes", "seed"), CASES)
@pytest.mark.parametrize("published", [False, True])
def test_spans_hold_what_their_roles_say(name: str, boxes: int, seed: int, published: bool) -> None:
    for pair in draw_pairs(DESIDERATA[name], clean_prompts(boxes, seed), seed, published):
        other = pair.counterfactual
        words = {role: other.text[start:end] for role, (start, end) in other.spans.items()}
        assert words[CORRECT_OBJECT] == other.answer
        assert words[PREV_QUERY_LABEL] == words[QUERY_LABEL]
        assert other.spans[PREV_QUERY_LABEL][1] < other.spans[QUERY_LABEL][0]
        assert other.text.endswith(f". Box {words[QUERY_LABEL]} contains the")
        assert other.text[:1].isupper()


@pytest.mark.parametrize("seed", range(5))
def test_each_variable_alone_tells_its_target(seed: int) -> None:
    """By default no two of the paper's three explain one answer: the label's box is at another position."""
    for pair in DESIDERATA["box_label_value"].pairs(clean_prompts(7, seed), seed):
        clean, query = clean_of(pair), pair.counterfactual.facets["query"]
        assert clean.context.boxes[query].object not in (pair.target, clean.answer)
    for pair in DESIDERATA["object_value"].pairs(clean_prompts(7, seed), seed):
        assert pair.target not in {box.object for box in clean_of(pair).context.boxes}


@pytest.mark.parametrize("name", ["object_value", "positional", "no_comma"])
def test_the_published_quirk_never_asks_for_the_first_box_and_may_share_the_position(name: str) -> None:
    rule: Any = DESIDERATA[name]
    pairs = [pair for seed in range(8) for pair in rule.published_pairs(clean_prompts(7, seed), seed)]
    queries = [pair.counterfactual.facets["query"] for pair in pairs]
    assert set(queries) == set(range(1, 7))
    askable = [pair for pair in pairs if pair.clean.facets["query"] > 0]
    same = sum(pair.counterfactual.facets["query"] == pair.clean.facets["query"] for pair in askable) / len(askable)
    assert same == pytest.approx(1 / 6, abs=0.06)


@pytest.mark.parametrize("name", DESIDERATA)
def test_pairs_are_a_function_of_the_seed(name: str) -> None:
    prompts = clean_prompts(7, 0)
    rule = DESIDERATA[name]
    assert rule.pairs(prompts, 3) == rule.pairs(prompts, 3)
    assert rule.pairs(prompts, 3) != rule.pairs(prompts, 4)


@pytest.mark.parametrize("name", UNALTERED)
def test_every_other_position_is_asked_for(name: str) -> None:
    pairs = [pair for seed in range(6) for pair in DESIDERATA[name].pairs(clean_prompts(5, seed), seed)]
    asked = {(pair.clean.facets["query"], pair.counterfactual.facets["query"]) for pair in pairs}
    excluded = 2 if name == "incorrect_segment" else 1
    assert len(asked) == 5 * (5 - excluded)


def test_too_few_boxes_are_refused() -> None:
    with pytest.raises(UserError, match="needs 3 to 12 boxes"):
        DESIDERATA["incorrect_segment"].pairs(clean_prompts(2, 0), 0)
    for rule in PAPER:
        assert rule.pairs(clean_prompts(2, 0), 0)


def test_names_and_sets() -> None:
    assert len(PAPER) == 3
    assert len(EXTRA) == 11
    assert [rule.name for rule in find_desiderata(Boxes(), ["paper", "no_comma"])] == [
        *(rule.name for rule in PAPER),
        "no_comma",
    ]
    assert len(find_desiderata(Boxes(), ["all"])) == 14


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["positonal"], "there is no desideratum 'positonal'"),
        (["paper", "positional"], "listed twice: positional"),
        ([], "no desideratum is listed"),
        (["no_such_module:Rule"], "cannot import 'no_such_module'"),
        (["json:Rule"], "module 'json' has no 'Rule'"),
        (["json:JSONDecoder"], "is no desideratum"),
        (["collections:UserString"], "cannot be made without arguments"),
    ],
)
def test_mistakes_are_named(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_desiderata(Boxes(), names)


def test_ones_own_is_found_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
class Reversed:
    name = "reversed"

    def pairs(self, prompts, seed):
        from entitrack.tasks.desiderata import DesideratumPair
        return [DesideratumPair(prompt, other, other.answer) for prompt, other in zip(prompts, prompts[::-1])]
"""
    (tmp_path / "rules_of_mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    rule = find_desideratum(Boxes(), "rules_of_mine:Reversed")
    prompts = clean_prompts(3, 0)
    assert rule.name == "reversed"
    assert rule.pairs(prompts, 0)[0].target == prompts[-1].answer
