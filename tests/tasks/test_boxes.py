"""Laws of box prompts, for many seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from random import Random

import pytest
from datasets import Dataset, DatasetDict

from entitrack.core.errors import UserError
from entitrack.core.parts import PARTS, part_of
from entitrack.tasks.boxes import (
    Box,
    Boxes,
    BoxesContext,
    BoxesFile,
    count_contexts,
    draw_context,
    held_out,
    parse_sentence,
)
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS

SPLITS = ("test", "train")
GOOD = "The book is in Box Q. Box Q contains the book"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("boxes", [2, 5, 7, 12])
def test_every_box_is_asked_for_once_and_answers(seed: int, boxes: int) -> None:
    prompts = Boxes(count=3 * boxes, boxes=boxes, seed=seed).prompts()
    assert len(prompts) == 3 * boxes
    for cluster in range(3):
        own = [prompt for prompt in prompts if prompt.cluster == cluster]
        assert [prompt.query for prompt in own] == list(range(boxes))
        context = own[0].context
        assert len({box.object for box in context.boxes}) == len(set(context.labels)) == boxes
        assert held_out(context)
        for prompt in own:
            assert prompt.text.endswith(f"Box {prompt.label} contains the")
            assert f"he {prompt.answer} is in Box {prompt.label}" in prompt.text


@pytest.mark.parametrize("seed", range(20))
def test_spans_cover_what_they_name(seed: int) -> None:
    for pair in Boxes(count=14, seed=seed).pairs():
        for prompt in (pair.clean, pair.counterfactual):
            read = {role: prompt.text[start:end] for role, (start, end) in prompt.spans.items()}
            assert read["correct_object"] == prompt.answer
            assert f"{prompt.answer} is in Box {read['prev_query_label']}" in prompt.text
            assert prompt.text[prompt.spans["query_label"][1] :] == " contains the"
        read = {role: pair.clean.text[start:end] for role, (start, end) in pair.clean.spans.items()}
        assert read["prev_query_label"] == read["query_label"]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_in_a_counterfactual_answers_it(seed: int) -> None:
    for pair in Boxes(count=14, seed=seed).pairs():
        clean, other = pair.clean, pair.counterfactual
        assert isinstance(clean.context, BoxesContext)  # type: ignore[attr-defined]
        objects = {box.object for box in other.context.boxes}  # type: ignore[attr-defined]
        assert not objects & {box.object for box in clean.context.boxes}  # type: ignore[attr-defined]
        assert not set(other.context.labels) & set(clean.context.labels)  # type: ignore[attr-defined]
        assert other.label not in other.context.labels  # type: ignore[attr-defined]


def test_the_published_counterfactual_may_name_one_of_its_boxes() -> None:
    pairs = Boxes(count=350).published_pairs()
    named = sum(pair.counterfactual.label in pair.counterfactual.context.labels for pair in pairs)  # type: ignore[attr-defined]
    assert 0.15 < named / len(pairs) < 0.40  # 7 of 26 letters


def test_prompts_are_a_function_of_the_seed() -> None:
    assert Boxes(seed=3).prompts() == Boxes(seed=3).prompts()
    assert Boxes(seed=3).pairs() == Boxes(seed=3).pairs()
    assert Boxes(seed=3).prompts() != Boxes(seed=4).prompts()
    assert Boxes(count=14).prompts() == Boxes(count=70).prompts()[:14]


def test_train_and_test_contexts_are_disjoint() -> None:
    train = {prompt.context for prompt in Boxes(count=700, boxes=2, split="train").prompts()}
    assert not any(held_out(context) for context in train)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"boxes": 13}, "boxes"),
        ({"split": "x"}, "split"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, int], place: str) -> None:
    with pytest.raises(UserError, match=f"task.{place}"):
        Boxes(**settings)  # type: ignore[arg-type]


def test_a_sentence_is_read_with_and_without_its_answer() -> None:
    sentence = "The document is in Box Q, the bread is in Box X. Box X contains the"
    for text in (sentence, f"{sentence} bread", f"{sentence} bread.", f"<s> {sentence} bread."):
        prompt = parse_sentence(text)
        assert prompt.text == sentence
        assert prompt.answer == "bread"


def test_generated_prompts_survive_the_file(tmp_path: Path) -> None:
    prompts = Boxes(count=21).prompts()
    path = tmp_path / "boxes.jsonl"
    path.write_text("\n".join(json.dumps({"sentence": prompt.text}) for prompt in prompts))
    assert BoxesFile(path=str(path)).prompts() == prompts
    assert BoxesFile(path=str(path), count=5).prompts() == prompts[:5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "Expecting value"),
        ('{"text": "x"}', "has no 'sentence'"),
        ('{"sentence": "The book is in Box Q"}', "no question"),
        ('{"sentence": "The book in Box Q. Box Q contains the"}', "segment 'The book in Box Q'"),
        ('{"sentence": "The book is in Box Q. Is Box Q full"}', "question 'Is Box Q full'"),
        ('{"sentence": "The book is in Box Q. Box X contains the"}', "no box 'X'"),
        ('{"sentence": "The book is in Box Q. Box Q contains the key"}', "given as 'key'"),
        ('{"sentence": "The book is in Box Q, the key is in Box Q. Box Q contains the"}', "same letter"),
        ("[1]", "is not a JSON object"),
    ],
)
def test_a_line_that_does_not_parse_is_named(tmp_path: Path, line: str, reason: str) -> None:
    good = '{"sentence": "The book is in Box Q. Box Q contains the book"}'
    path = tmp_path / "boxes.jsonl"
    path.write_text(f"{good}\n\n{line}\n")
    with pytest.raises(UserError, match=r"boxes\.jsonl, line 3") as error:
        BoxesFile(path=str(path)).prompts()
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


TABLES = {"csv": Dataset.to_csv, "parquet": Dataset.to_parquet}


def table(path: Path, sentences: Sequence[str | None], column: str = "sentence") -> BoxesFile:
    """A task on a file that `datasets` writes."""
    TABLES[path.suffix[1:]](Dataset.from_dict({column: list(sentences)}), str(path))
    return BoxesFile(path=str(path))


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_has_the_prompts_of_the_lines(kind: str, tmp_path: Path) -> None:
    prompts = Boxes(count=21).prompts()
    task = table(tmp_path / f"boxes.{kind}", [prompt.text for prompt in prompts])
    assert task.prompts() == prompts
    assert task.with_settings(count=5).prompts() == prompts[:5]
    other = table(tmp_path / f"other.{kind}", [prompt.text for prompt in prompts[1:]])
    assert task.fingerprint != other.fingerprint
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("sentences", "column", "message"),
    [
        ([GOOD, "The book in Box Q. Box Q contains the"], "sentence", r"t\.\w+, row 2: segment 'The book in Box Q'"),
        ([GOOD, GOOD], "sentence", r"t\.\w+, row 2: asks what row 1 asks"),
        ([GOOD, None], "sentence", r"t\.\w+, row 2: sentence is None, not text"),
        ([GOOD], "text", r"t\.\w+: has no column 'sentence'; available: text"),
    ],
)
def test_a_row_that_does_not_parse_is_named(
    kind: str, sentences: list[str | None], column: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        table(tmp_path / f"t.{kind}", sentences, column).prompts()


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read as parquet \(") as error:
        BoxesFile(path=str(tmp_path / "t.parquet")).prompts()
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"^task\.path: cannot read '.*\(No such file"):
        BoxesFile(path=str(tmp_path / "none.csv")).prompts()


def test_a_data_set_is_named_by_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = Boxes(count=14).prompts()
    rows = Dataset.from_dict({"sentence": [prompt.text for prompt in prompts]})
    known = {"me/one": DatasetDict(test=rows), "me/two": DatasetDict(test=rows, train=rows.select([0]))}
    monkeypatch.setattr("datasets.load_dataset", known.__getitem__)
    assert BoxesFile(path="me/one").prompts() == prompts
    assert len(BoxesFile(path="me/two", split="train").prompts()) == 1
    first, second = (BoxesFile(path="me/two", split=split).fingerprint for split in ("test", "train"))
    assert first != second
    with pytest.raises(UserError, match=r"^task\.split: me/two has several splits.*available: test, train"):
        BoxesFile(path="me/two").prompts()
    with pytest.raises(UserError, match=r"^task\.split: me/one has no split 'dev'; available: test"):
        BoxesFile(path="me/one", split="dev").prompts()
    with pytest.raises(UserError, match=r"^task\.path: there is no file 'me/none', and no such data set can be read"):
        BoxesFile(path="me/none").prompts()


def test_files_that_are_missing_or_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.path"):
        BoxesFile(path=str(tmp_path / "none.jsonl")).prompts()
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="has 0 prompts"):
        BoxesFile(path=str(tmp_path / "empty.jsonl")).prompts()


def test_the_template_is_the_text() -> None:
    """Every word is at the place that is named after it."""
    prompt = Boxes(count=7, boxes=3).prompts()[1]
    words = {name: [prompt.text[start:end] for start, end in spans] for name, spans in prompt.template.items()}
    first, second, third = prompt.context.boxes
    assert words["queried object"] == [second.object]
    assert words["queried label"] == words["question label"] == [second.label]
    assert words["other object"] == [first.object, third.object]
    assert words["other label"] == [first.label, third.label]
    assert (words["queried end"], words["other end"]) == ([","], [",", "."])
    assert words["other the"] == ["The", "the"]
    assert (words["question contains"], words["question the"]) == (["contains"], ["the"])
    assert prompt.alternatives == (first.object, third.object)


def test_backgrounds_are_random_and_seeded() -> None:
    task = Boxes(count=14, boxes=5, seed=3)
    drawn = task.backgrounds(200)
    assert drawn == Boxes(count=7, boxes=5, seed=3).backgrounds(200)
    assert drawn[:50] == task.backgrounds(50)
    assert len({prompt.context for prompt in drawn}) == 200
    assert {len(prompt.context.boxes) for prompt in drawn} == {5}
    asked = [prompt.label in prompt.context.labels for prompt in drawn]
    assert any(asked)
    assert not all(asked)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("without", [[], list(OBJECTS[3:])])
def test_as_many_contexts_are_drawn_as_there_are_and_none_twice(split: str, without: list[str]) -> None:
    """All of a small half can be drawn, in one way each; one more is refused, with the number that there is."""
    there = sum(
        held_out(BoxesContext((Box(word, letter),))) == (split == "test")
        for word in OBJECTS
        if word not in without
        for letter in LABELS
    )
    prompts = Boxes(count=there, boxes=1, split=split, without=without).prompts()
    assert len({prompt.context for prompt in prompts}) == len({prompt.cluster for prompt in prompts}) == there
    with pytest.raises(UserError, match=rf"^task\.count: {there + 1} .* {there} contexts .*1 to {there}$"):
        Boxes(count=there + 1, boxes=1, split=split, without=without)


def test_small_contexts_are_not_drawn_twice() -> None:
    """Two boxes filled from five objects: chance would draw many a context again."""
    task = Boxes(count=4000, boxes=2, without=list(OBJECTS[5:]))
    prompts = task.prompts()
    assert len({prompt.context for prompt in prompts}) == 1 + max(prompt.cluster for prompt in prompts) == 2000


def test_objects_that_are_left_out_are_nowhere() -> None:
    task = Boxes(count=70, boxes=7, without=list(OBJECTS[::2]))
    contexts = [prompt.context for prompt in task.prompts()]
    contexts += [pair.counterfactual.context for pair in task.pairs()]  # type: ignore[attr-defined]
    contexts += [prompt.context for prompt in task.backgrounds(50)]
    assert not {box.object for context in contexts for box in context.boxes} & set(OBJECTS[::2])
    assert task.fingerprint != Boxes(count=70, boxes=7).fingerprint
    with pytest.raises(UserError, match=r"^task\.without: leaves 14 objects; 7 boxes.* need 15"):
        Boxes(boxes=7, without=list(OBJECTS[14:]))


def test_a_context_that_no_half_has_is_not_drawn_for_ever() -> None:
    only = BoxesContext(())
    with pytest.raises(UserError, match="no context of 0 boxes is in the"):
        draw_context(Random(0), 0, "train" if held_out(only) else "test")


@pytest.mark.parametrize("split", SPLITS)
def test_of_very_many_contexts_no_more_are_promised_than_there_are(split: str) -> None:
    objects = OBJECTS[:10]
    contexts = (
        BoxesContext((Box(first, one), Box(second, other)))
        for first, second in permutations(objects, 2)
        for one, other in permutations(LABELS, 2)
    )
    there = sum(held_out(context) == (split == "test") for context in contexts)
    assert 0.95 * there < count_contexts(2, split, objects) <= there


def test_search_and_judge_share_no_context_and_are_all_that_is_drawn() -> None:
    whole = [prompt.context for prompt in Boxes(count=700, seed=3).prompts()]
    parts = {part: {prompt.context for prompt in Boxes(count=700, seed=3, part=part).prompts()} for part in PARTS}
    assert not parts["search"] & parts["judge"]
    assert set(whole) <= parts["search"] | parts["judge"]
    assert all(part_of(context.text) == part for part in PARTS for context in parts[part])
    assert 30 < sum(part_of(context.text) == "search" for context in dict.fromkeys(whole)) < 70


def test_a_part_that_is_named_stays_and_none_takes_the_method_s() -> None:
    assert Boxes().of_part("judge") == Boxes(part="judge")
    assert Boxes(part="all").of_part("judge") == Boxes(part="all")
    assert Boxes(part="all").fingerprint == Boxes().fingerprint
    assert Boxes(part="judge").fingerprint == {**Boxes().fingerprint, "part": "judge"}


def test_counts_of_a_part_are_those_that_are_drawn() -> None:
    objects = OBJECTS[:3]
    counts = [count_contexts(1, "test", objects, part) for part in ("all", *PARTS)]
    assert counts[0] == sum(counts[1:])
    assert min(counts) > 0


def test_a_file_is_read_in_parts_too(tmp_path: Path) -> None:
    file = tmp_path / "boxes.jsonl"
    drawn = Boxes(count=210).prompts()
    file.write_text("".join(json.dumps({"sentence": f"{one.text} {one.answer}"}) + "\n" for one in drawn))
    contexts = [{p.context for p in BoxesFile(path=str(file), part=part).prompts()} for part in ("all", *PARTS)]
    assert contexts[0] == contexts[1] | contexts[2]
    assert not contexts[1] & contexts[2]
    assert min(map(len, contexts)) > 5
