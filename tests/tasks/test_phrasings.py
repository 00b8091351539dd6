"""Laws of box prompts in every phrasing; what a fact looks like is written down here once more, by hand."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.methods import run_method
from entitrack.methods.evaluate.settings import Settings as EvaluateSettings
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.stages import check_stages
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import (
    Box,
    Boxes,
    BoxesContext,
    BoxesFile,
    BoxesPrompt,
    count_contexts,
    held_out,
    parse_sentence,
)
from entitrack.tasks.boxes.desiderata import DESIDERATA
from entitrack.tasks.boxes.phrasings import PHRASINGS, PhrasingName
from entitrack.tasks.boxes.vocabulary import OBJECTS
from entitrack.tasks.desiderata import draw_pairs
from entitrack.tasks.encoding import encode, template_positions
from entitrack.tasks.protocol import CORRECT_OBJECT, LAST, PREV_QUERY_LABEL, QUERY_LABEL, Prompt, role_names

Written = Callable[[str, str], str]


def in_each(object_first: Any, label_first: Any) -> dict[str, Any]:
    """What there is for each phrasing, of which two put the object first."""
    return {
        "object_first": object_first,
        "label_first": label_first,
        "sentences": object_first,
        "question": label_first,
    }


FACTS: dict[str, Written] = in_each(
    lambda word, label: f"the {word} is in Box {label}", lambda word, label: f"Box {label} contains the {word}"
)
READ = in_each(
    r"[tT]he (?P<word>[\w-]+) is in Box (?P<label>[A-Z])", r"Box (?P<label>[A-Z]) contains the (?P<word>[\w-]+)"
)
SEPARATORS = {"object_first": ", ", "label_first": ", ", "sentences": ". ", "question": ". "}
ASKED = {"question": ("Question: What does Box ", " contain? Answer: The")}
"""What stands before and after the letter of the question, where not what the paper has."""
everywhere = pytest.mark.parametrize("phrasing", FACTS)
TWO = BoxesContext((Box("document", "Q"), Box("bread", "X")))


def boxes(phrasing: str, **settings: Any) -> Boxes:
    return Boxes(phrasing=phrasing, **settings)


def boxes_prompts(phrasing: str, **settings: Any) -> list[BoxesPrompt]:
    """Clean prompts, counterfactuals and backgrounds."""
    task = boxes(phrasing, **settings)
    drawn: list[Any] = [prompt for pair in task.pairs() for prompt in (pair.clean, pair.counterfactual)]
    published: list[Any] = [pair.counterfactual for pair in task.published_pairs()]
    return [*drawn, *published, *task.backgrounds(20)]


def asking(phrasing: str, label: str) -> str:
    before, after = ASKED.get(phrasing, ("Box ", " contains the"))
    return f"{before}{label}{after}"


def context_of(phrasing: str, prompt: Prompt, label: str, front: str = "") -> str:
    """The context of a prompt without its last dot, which is all that is not its question, nor in front."""
    question = f". {asking(phrasing, label)}"
    assert prompt.text.startswith(front)
    assert prompt.text.endswith(question)
    return prompt.text.removeprefix(front).removesuffix(question)


def sentences(phrasing: str, facts: list[str]) -> list[str]:
    """Facts as they stand in a context: with a capital where a sentence begins."""
    each = SEPARATORS[phrasing] == ". "
    return [f"{fact[:1].upper()}{fact[1:]}" if each or not number else fact for number, fact in enumerate(facts)]


def words_of(prompt: Prompt) -> dict[str, str]:
    return {role: prompt.text[start:end] for role, (start, end) in prompt.spans.items()}


def places_of(prompt: Any) -> dict[str, list[str]]:
    return {name: [prompt.text[start:end] for start, end in spans] for name, spans in prompt.template.items()}


def test_these_are_all_phrasings() -> None:
    assert set(FACTS) == set(PHRASINGS) == set(get_args(PhrasingName))


def test_the_texts_are_those_that_they_are_said_to_be() -> None:
    texts = {name: BoxesPrompt(TWO, 0, "Q", phrasing=phrasing).text for name, phrasing in PHRASINGS.items()}
    assert texts == {
        "object_first": "The document is in Box Q, the bread is in Box X. Box Q contains the",
        "label_first": "Box Q contains the document, Box X contains the bread. Box Q contains the",
        "sentences": "The document is in Box Q. The bread is in Box X. Box Q contains the",
        "question": "Box Q contains the document. Box X contains the bread."
        " Question: What does Box Q contain? Answer: The",
    }


def test_the_usual_phrasing_is_what_was_there_before_there_was_a_choice() -> None:
    """Text, draws and the keys of what was stored; the digest is of the texts before."""
    texts = "\n".join(prompt.text for prompt in boxes_prompts("object_first", count=70, seed=3))
    assert hashlib.sha256(texts.encode()).hexdigest().startswith("e0c56e2fa45e6480")
    assert Boxes().fingerprint == {"task": "boxes", "count": 504, "boxes": 7, "seed": 0, "split": "test"}
    assert boxes("label_first").fingerprint == {**Boxes().fingerprint, "phrasing": "label_first"}


@pytest.mark.parametrize("phrasing", list(FACTS)[1:])
def test_phrasings_say_the_same(phrasing: str) -> None:
    """One seed draws one content, whatever the words; the half that a context is in does not depend on them."""
    both = (boxes_prompts(each, count=21) for each in ("object_first", phrasing))
    for one, other in zip(*both, strict=True):
        assert (one.context, one.query, one.label, one.answer) == (
            other.context,
            other.query,
            other.label,
            other.answer,
        )
        assert one.context.text == other.context.text
        assert one.text != other.text
        assert one != other
    assert all(held_out(prompt.context) for prompt in boxes(phrasing, count=70).prompts())


@everywhere
@pytest.mark.parametrize("seed", range(5))
def test_spans_cover_the_words_that_they_should(phrasing: str, seed: int) -> None:
    for prompt in boxes_prompts(phrasing, count=14, seed=seed):
        asked, read = prompt.context.boxes[prompt.query], words_of(prompt)
        assert read == {CORRECT_OBJECT: asked.object, PREV_QUERY_LABEL: asked.label, QUERY_LABEL: prompt.label}
        context = context_of(phrasing, prompt, prompt.label)
        letter = (
            len(context) + len(". ") + len(asking(phrasing, prompt.label).partition(f"Box {prompt.label}")[0] + "Box ")
        )
        assert prompt.spans[QUERY_LABEL] == (letter, letter + len(prompt.label))
        # Roles in the context: within the fact that is asked for, where that fact has them.
        fact = FACTS[phrasing](asked.object, asked.label)
        start = context.lower().index(fact.lower())
        inside = re.fullmatch(READ[phrasing], context[start : start + len(fact)])
        assert inside
        assert prompt.spans[CORRECT_OBJECT] == (start + inside.start("word"), start + inside.end("word"))
        assert prompt.spans[PREV_QUERY_LABEL] == (start + inside.start("label"), start + inside.end("label"))


@everywhere
def test_a_text_is_its_facts_and_parses_back(phrasing: str) -> None:
    for prompt in boxes_prompts(phrasing, count=21):
        facts = [FACTS[phrasing](box.object, box.label) for box in prompt.context.boxes]
        text = SEPARATORS[phrasing].join(sentences(phrasing, facts))
        assert prompt.text == f"{text}. {asking(phrasing, prompt.label)}"
        if prompt.context.boxes[prompt.query].label == prompt.label:
            again = parse_sentence(prompt.text, prompt.cluster)
            assert again == prompt
            assert again.phrasing.name == phrasing
            for ending in (f" {prompt.answer}", f" {prompt.answer}."):
                assert parse_sentence(f"<s> {prompt.text}{ending}", prompt.cluster) == prompt


@everywhere
def test_the_template_is_the_text(phrasing: str) -> None:
    """Every character but spaces is in one place, and the place is named after the word there."""
    for prompt in boxes_prompts(phrasing, count=9, boxes=3):
        covered = sorted(span for spans in prompt.template.values() for span in spans)
        assert "".join(prompt.text[start:end] for start, end in covered) == prompt.text.replace(" ", "")
        assert all(one[1] <= other[0] for one, other in pairwise(covered))
        for name, spans in prompt.template.items():
            words = {prompt.text[start:end] for start, end in spans}
            whose, _, word = name.partition(" ")
            known = {"queried": [prompt.context.boxes[prompt.query]], "question": []}
            about = known.get(whose, [box for n, box in enumerate(prompt.context.boxes) if n != prompt.query])
            if word == "label":
                assert words == ({box.label for box in about} or {prompt.label})
            elif word == "object":
                assert words == {box.object for box in about}
            elif word.startswith("after "):
                assert prompt.text[spans[0][0] - len(word) + len("after ") : spans[0][0]] == word.removeprefix("after ")
                assert words in ({":"}, {"?"})
            else:
                assert {each.lower() for each in words} <= ({",", "."} if word == "end" else {word.lower()})


@everywhere
@pytest.mark.parametrize("seed", range(5))
def test_a_counterfactual_shares_nothing_but_its_words(phrasing: str, seed: int) -> None:
    for pair in boxes(phrasing, count=21, seed=seed).pairs():
        one, other = (
            [*re.finditer(READ[phrasing], context_of(phrasing, prompt, words_of(prompt)[QUERY_LABEL]))]
            for prompt in (pair.clean, pair.counterfactual)
        )
        assert len(one) == len(other) == 7
        for name in ("word", "label"):
            assert not {fact[name] for fact in one} & {fact[name] for fact in other}
        asked = words_of(pair.counterfactual)[QUERY_LABEL]
        assert asked not in {fact["label"] for fact in (*one, *other)}


ADDED = "there are three additional boxes, box pp, box bb and box aa, "
ALTERED: dict[str, dict[str, Written]] = {
    "add_tokens_btw_box_and_obj": in_each(
        lambda word, label: f"the {word} is contained in the Box {label}",
        lambda word, label: f"Box {label} is a box containing the {word}",
    ),
    "altered_box_obj_order": in_each(FACTS["label_first"], FACTS["object_first"]),
    "altered_box_obj_association": in_each(
        lambda word, label: f"the {word} is not in Box {label}",
        lambda word, label: f"Box {label} does not contain the {word}",
    ),
    "add_box_before_correct_segment": {name: lambda w, la, f=fact: ADDED + f(w, la) for name, fact in FACTS.items()},  # type: ignore[misc]
}
"""How the fact that is asked for reads."""
COMMA: dict[str, Written] = in_each(
    lambda word, label: f"the {word}, is in Box {label}", lambda word, label: f"Box {label}, contains the {word}"
)


@everywhere
@pytest.mark.parametrize("name", DESIDERATA)
@pytest.mark.parametrize("published", [False, True])
def test_every_pair_of_every_desideratum_holds(phrasing: str, name: str, published: bool) -> None:
    prompts = boxes(phrasing, count=28, boxes=4).prompts()
    for pair in draw_pairs(DESIDERATA[name], prompts, 1, published):
        clean, other, read = pair.clean, pair.counterfactual, words_of(pair.counterfactual)
        assert isinstance(clean, BoxesPrompt)
        query = other.facets["query"]
        targets = {
            "object_value": other.answer,
            "box_label_value": {box.label: box.object for box in clean.context.boxes}.get(read[QUERY_LABEL]),
            "incorrect_segment": clean.context.boxes[(query + 1) % 4].object,
        }
        assert pair.target == targets.get(name, clean.context.boxes[query].object)
        assert read == {
            CORRECT_OBJECT: other.answer,
            PREV_QUERY_LABEL: read[QUERY_LABEL],
            QUERY_LABEL: read[QUERY_LABEL],
        }
        asked = ALTERED.get(name, {}).get(phrasing) or (COMMA if name == "add_comma" else FACTS)[phrasing]
        fact = asked(other.answer, read[QUERY_LABEL])
        assert other.text.lower().count(fact.lower()) == 1
        facts = len(re.findall(READ[phrasing], context_of(phrasing, other, read[QUERY_LABEL])))
        altered = name in ALTERED and name != "add_box_before_correct_segment"
        assert facts == (0 if name == "add_comma" else 4 + (name in ("add_seg_start", "add_seg_end")) - altered)
        assert (
            places_of(other).items()
            >= {
                "queried object": [other.answer],
                "queried label": [read[QUERY_LABEL]],
                "question label": [read[QUERY_LABEL]],
            }.items()
        )
        assert len(places_of(other)["other object"]) == 3


@everywhere
def test_generated_prompts_survive_the_file(phrasing: str, tmp_path: Path) -> None:
    task, path = boxes(phrasing, count=21), tmp_path / "boxes.jsonl"
    path.write_text("\n".join(json.dumps({"sentence": prompt.text}) for prompt in task.prompts()))
    kept = BoxesFile(path=str(path))
    assert kept.prompts() == task.prompts()
    beside: list[Any] = [*kept.backgrounds(5), *(pair.counterfactual for pair in kept.pairs())]
    assert {prompt.phrasing.name for prompt in beside} == {phrasing}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["The book in Box Q. Box Q has the"],
            "line 1: question 'Box Q has the' is not 'Box LABEL contains the' or 'Question: What does Box LABEL cont",
        ),
        (
            ["The book is in Box Q. The key in Box X. Box Q contains the"],
            "line 1: segment 'The key in Box X' is not 'The OBJECT is in Box LABEL.', as those before it",
        ),
        (
            ["The book is in Box Q, the key is in Box X. Question: What does Box Q contain? Answer: The"],
            "is not 'Box LABEL contains the OBJECT.'",
        ),
        (
            ["The book in Box Q. Box Q contains the"],
            "segment 'The book in Box Q' is not 'the OBJECT is in Box LABEL' or 'Box LABEL contains the OBJECT'",
        ),
        (
            ["Box Q contains the book, the key is in Box X. Box Q contains the"],
            "line 1: segment 'the key is in Box X' is not 'Box LABEL contains the OBJECT', as those before it;",
        ),
        (
            ["The book is in Box Q, the key is in Box X, Box R contains the pen. Box Q contains the"],
            "line 1: segment 'Box R contains the pen' is not 'the OBJECT is in Box LABEL', as those before it;",
        ),
        (["box Q contains the book. Box Q contains the"], "line 1: segment 'box Q contains the book' is not "),
        (
            ["Box Q contains the book. Box Q contains the key"],
            "line 1: the answer is given as 'key', but box Q has 'book'",
        ),
        (
            ["Box Q contains the book, Box Q contains the key. Box Q contains the"],
            "line 1: two boxes have the same letter",
        ),
        (
            ["Box Q contains the book. Box Q contains the", "The key is in Box X. Box X contains the"],
            "line 2: is worded 'the OBJECT is in Box LABEL', and line 1 'Box LABEL contains the OBJECT'; keep each in",
        ),
    ],
)
def test_what_does_not_parse_is_named_in_one_line(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    path.write_text("\n".join(json.dumps({"sentence": line}) for line in lines))
    with pytest.raises(UserError) as error:
        BoxesFile(path=str(path)).prompts()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_phrasing_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"^task\.phrasing: unknown phrasing 'box_first'; available: object_first, lab"):
        boxes("box_first")


READABLE = ("object_first", "label_first", "sentences")
"""The embedded family has never seen the words of the other one."""


def test_the_embedded_family_reads_these(tiny_family: Family) -> None:
    """Every word of these phrasings, altered ones included, is one that the family knows."""
    known = tiny_family.tokenizer.get_vocab()
    for phrasing in READABLE:
        task = boxes(phrasing, count=7)
        texts = [prompt.text for prompt in task.prompts()]
        texts += [pair.counterfactual.text for rule in DESIDERATA.values() for pair in rule.pairs(task.prompts(), 0)]
        assert {word for text in texts for word in re.findall(r"[\w-]+|[,.]", text)} <= set(known)
        experiment = Experiment(tiny_family, task, Runner(Local()))
        result = run_method("evaluate", experiment, EvaluateSettings(models=["llama"]))
        assert result["correct"].size("prompt") == 7


@pytest.mark.parametrize("phrasing", READABLE)
@pytest.mark.parametrize("examples", [0, 2])
def test_prompts_and_what_is_drawn_beside_them_have_one_length(
    phrasing: str, examples: int, tiny_family: Family
) -> None:
    """Places too: each has as many tokens in every prompt, and the roles are the places that they are named after."""
    prompts: list[Any] = boxes_prompts(phrasing, count=21, examples=examples)
    batch = encode(prompts, tiny_family.tokenizer)
    assert bool(batch.mask.all())
    places = template_positions(prompts, tiny_family.tokenizer)
    assert sum(tokens.shape[1] for tokens in places.values()) == batch.tokens.shape[1]
    for role, place in {
        LAST: "question the",
        QUERY_LABEL: "question label",
        PREV_QUERY_LABEL: "queried label",
        CORRECT_OBJECT: "queried object",
    }.items():
        assert torch.equal(batch.positions[role][:, None], places[place])
        assert torch.equal(batch.positions[role], batch.positions[place])


@everywhere
def test_examples_are_other_contexts_with_their_answers(phrasing: str) -> None:
    """The same in front of all prompts, clean or not; what follows them is what there is without them."""
    plain, all_after = (boxes_prompts(phrasing, count=21, seed=2, examples=examples) for examples in (0, 3))
    front = all_after[0].examples
    solved = front.splitlines(keepends=True)
    assert len(set(solved)) == 3
    for example in solved:
        assert example.endswith(".\n")
        read = parse_sentence(example)  # its answer is the right one
        assert read.phrasing.name == phrasing
        assert len(read.context.boxes) == 7
        assert not held_out(read.context)
    for before, after in zip(plain, all_after, strict=True):
        assert after.text == front + before.text
        assert places_of(after) == places_of(before)
        assert words_of(after) == words_of(before)
    task = boxes(phrasing, count=28, boxes=4, examples=2)
    for rule in DESIDERATA.values():
        for pair in draw_pairs(rule, task.prompts(), 1):
            assert pair.counterfactual.text.startswith(task.prompts()[0].examples)
            assert words_of(pair.counterfactual)[CORRECT_OBJECT] == pair.counterfactual.answer


def test_examples_are_drawn_by_seed_and_are_never_asked() -> None:
    fronts = {boxes("sentences", examples=2, seed=seed).prompts()[0].examples for seed in range(4)}
    assert len(fronts) == 4
    assert boxes("sentences", examples=2, count=7).prompts()[0].examples in fronts
    assert boxes("sentences", examples=2).fingerprint == {**boxes("sentences").fingerprint, "examples": 2}
    small: dict[str, Any] = {"split": "train", "boxes": 1, "without": list(OBJECTS[3:])}
    count = count_contexts(1, "train", OBJECTS[:3])
    few = Boxes(examples=2, count=count - 2, **small).prompts()
    assert not {prompt.context for prompt in few} & {
        parse_sentence(line).context for line in few[0].examples.splitlines()
    }
    with pytest.raises(UserError, match=rf"^task\.count: {count - 1} prompts cannot be drawn"):
        Boxes(examples=2, count=count - 1, **small)
    with pytest.raises(UserError, match=r"^task\.examples: 17 is not"):
        Boxes(examples=17)


@pytest.mark.parametrize("phrasing", get_args(PhrasingName))
def test_each_has_stages_along_its_own_places(phrasing: PhrasingName) -> None:
    task = Boxes(phrasing=phrasing, count=7)
    assert task.stages == PHRASINGS[phrasing].stages
    check_stages(task.stages, role_names(task))


def test_where_the_letter_comes_first_the_verb_after_it_is_read(tmp_path: Path) -> None:
    stages = {stage.name: stage.role for stage in Boxes(phrasing="label_first", count=7).stages}
    assert stages["verb_reader"] == "question contains"
    assert stages["struct_key"] == "queried contains"
    assert not {"verb_reader", "struct_key"} & {stage.name for stage in Boxes(count=7).stages}
    file = tmp_path / "boxes.jsonl"
    file.write_text(
        json.dumps({"sentence": "Box Q contains the book, Box X contains the key. Box Q contains the"}) + "\n"
    )
    assert BoxesFile(path=str(file)).stages == Boxes(phrasing="label_first", count=7).stages
