"""Accuracy: it counts right answers, however prompts are batched, and is shown as it was counted."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.asking import Asked
from entitrack.methods.evaluate.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Family
from entitrack.tasks.boxes import Boxes, BoxesPrompt
from entitrack.tasks.encoding import encode
from tests.methods import hand_made


def evaluate(experiment: Experiment, settings: Settings) -> Result:
    return run_method("evaluate", experiment, settings)


def test_accuracy_is_the_share_of_right_answers(golden_experiment: Experiment) -> None:
    result = evaluate(golden_experiment, Settings(models=["base"]))
    module = golden_experiment.base().envoy._module
    prompts = golden_experiment.task.prompts()
    batch = encode(prompts, golden_experiment.family.tokenizer)
    with torch.no_grad():
        logits = module(batch.tokens).logits[:, -1]
    predicted = logits.argmax(-1)
    expected = predicted == batch.answers
    probability = logits.softmax(-1)[torch.arange(len(prompts)), batch.answers]
    assert torch.equal(result["correct"].at(model="base").values, expected)
    assert torch.equal(result["prediction"].at(model="base").values, predicted)
    torch.testing.assert_close(result["probability"].at(model="base").values, probability)
    assert set(result.words) == set(predicted.tolist())
    assert result["correct"].estimate(model="base").value == pytest.approx(expected.float().mean().item())
    for query in range(7):
        found = result["correct"].where("query", query).estimate(model="base")
        assert found.value == pytest.approx(expected[query::7].float().mean().item())
        assert found.n == 6
    assert hand_made.rows(result.tables[0]) == [["7 boxes", round(expected.double().mean().item(), 6), 42]]


def test_logits_are_those_of_every_answer_that_the_context_offers(tiny_experiment: Experiment) -> None:
    asked = Settings(models=["float"], boxes=[2, 4])
    result = evaluate(tiny_experiment, asked.model_copy(update={"logits": True}))
    plain = evaluate(tiny_experiment, asked)
    assert result.tables == plain.tables
    assert {name: result[name] for name in plain.measurements} == dict(plain.measurements)
    module, tokenizer = tiny_experiment.family.load("float").envoy._module, tiny_experiment.family.tokenizer
    prompts = [prompt for boxes in (2, 4) for prompt in Boxes(count=42, boxes=boxes).prompts()]
    logit, offered = result["logit"], result["offered"]
    assert logit.axes == ("model", "offered", "prompt")
    assert logit.names("offered") == ("answer", "alternative 1", "alternative 2", "alternative 3")
    for number in (0, 1, 42, 83):
        prompt = prompts[number]
        with torch.no_grad():
            last = module(torch.tensor([tokenizer(prompt.text)["input_ids"]])).logits[0, -1]
        for place, word in enumerate((prompt.answer, *prompt.alternatives)):
            token = tokenizer.convert_tokens_to_ids(word)
            assert int(offered.values[place, number]) == token
            assert result.words[token] == word
            torch.testing.assert_close(logit.values[0, place, number], last[token], atol=1e-4, rtol=1e-4)
        absent = slice(1 + len(prompt.alternatives), None)
        assert logit.values[0, absent, number].isnan().all()
        assert (offered.values[absent, number] == -1).all()


def by_hand(family: Family, model: str, prompt: BoxesPrompt) -> tuple[bool, bool]:
    """Whether the right answer has the highest logit of all words, and of the objects in the prompt's boxes."""
    module, tokenizer = family.load(model).envoy._module, family.tokenizer
    with torch.no_grad():
        last = module(torch.tensor([tokenizer(prompt.text)["input_ids"]])).logits[0, -1]
    objects = [box.object for box in prompt.context.boxes]
    best = max(objects, key=lambda word: float(last[tokenizer.convert_tokens_to_ids(word)]))
    return bool(last.argmax() == tokenizer.convert_tokens_to_ids(prompt.answer)), best == prompt.answer


def test_phrasings_are_compared_by_both_accuracies(tiny_experiment: Experiment) -> None:
    """Against the highest logit by hand, phrasing by phrasing and box by box; one box has no alternatives."""
    phrasings, boxes = ["sentences", "object_first"], [1, 2, 4]
    on = dataclasses.replace(tiny_experiment, task=Boxes(count=12))
    result = evaluate(on, Settings(models=["llama", "float"], boxes=boxes, phrasings=phrasings))
    asked = [(name, many, Boxes(count=12, boxes=many, phrasing=name).prompts()) for name in phrasings for many in boxes]
    rows = []
    for model in ("llama", "float"):
        of_model = [[by_hand(on.family, model, prompt) for prompt in prompts] for _, _, prompts in asked]
        every = [verdict for verdicts in of_model for verdict in verdicts]
        found = (result[name].at(model=model).values.tolist() for name in ("correct", "correct_among"))
        assert list(zip(*found, strict=True)) == every
        for verdicts, (name, many, prompts) in zip(of_model, asked, strict=True):
            right, among = (round(sum(each) / 12, 6) for each in zip(*verdicts, strict=True))
            answers = [prompt.answer for prompt in prompts]
            commonest = round(max(map(answers.count, answers)) / 12, 6)
            rows.append([model, name, f"{many} boxes", right, commonest, among, round(1 / many, 6), 12])
    assert hand_made.rows(result.tables[0]) == rows
    assert {row[0] for row in rows if row[3] != row[5]}, "the two accuracies are not the same"
    assert [table.title for table in result.tables[1::4]] == [f"Accuracy, {name}" for name in phrasings]
    for name, table in zip(phrasings, result.tables[1::4], strict=True):
        assert [row[1] for row in hand_made.rows(table)] == [row[3] for row in rows if row[:2] == ["llama", name]]
    for panel, name in zip(hand_made.plots(result), phrasings, strict=True):
        assert panel.title == name
        assert [curve.label for curve in panel.curves] == ["llama", "float"]
        for curve in panel.curves:
            expected = [row[3] for row in rows if (row[0], row[1]) == (curve.label, name)]
            assert [entry.y for entry in curve.points] == pytest.approx(expected, abs=1e-6)


def test_one_phrasing_has_both_accuracies_too(tiny_experiment: Experiment) -> None:
    result = evaluate(tiny_experiment, Settings(models=["float"]))
    verdicts = [by_hand(tiny_experiment.family, "float", prompt) for prompt in Boxes(count=42).prompts()]
    right, among = (sum(each) / 42 for each in zip(*verdicts, strict=True))
    assert result.tables[-1].columns == (
        "model",
        "context",
        "accuracy [95 %]",
        "chance",
        "among [95 %]",
        "chance among",
        "n",
    )
    (row,) = hand_made.rows(result.tables[-1])
    assert [row[index] for index in (2, 4, 5)] == [round(each, 6) for each in (right, among, 1 / 7)]


def test_an_answer_that_ties_with_another_is_not_right_among_them() -> None:
    tokens = torch.tensor([[5, 6, 7], [5, 6, 5], [5, 5, 5]])  # a context may offer fewer
    logits = torch.tensor([[2.0, 2.0, 1.0], [2.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    asked = Asked(tokens[:, 1], torch.ones(3), tokens[:, 0], tokens, logits)
    assert asked.correct_among is not None
    assert asked.correct_among.tolist() == [False, True, True]
    assert asked.chance_among is not None
    assert asked.chance_among.tolist() == pytest.approx([1 / 3, 1 / 2, 1])
    assert Asked(tokens[:, 1], torch.ones(3), tokens[:, 0], None, None).correct_among is None


@pytest.mark.parametrize(
    ("phrasings", "message"),
    [
        (["label_first", "nope"], r"method\.phrasings\.1: task\.phrasing: unknown phrasing 'nope'"),
        (["question"], r"method\.phrasings\.0: prompt 0 of the task: the tokenizer does not know 'Question'"),
        (["sentences", "sentences"], r"method\.phrasings: 'sentences' is there twice"),
    ],
)
def test_phrasings_that_cannot_be_are_named(tiny_experiment: Experiment, phrasings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        evaluate(tiny_experiment, Settings(phrasings=phrasings))


def test_a_task_without_phrasings_is_named(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"^method\.phrasings: task 'golden' has no setting 'phrasing'"):
        evaluate(golden_experiment, Settings(phrasings=["object_first"]))


@pytest.mark.parametrize("batch_size", [5, 42])
def test_the_size_of_batches_does_not_matter(golden_experiment: Experiment, batch_size: int) -> None:
    first = evaluate(golden_experiment, Settings())
    other = evaluate(dataclasses.replace(golden_experiment, batch_size=batch_size, padding="left"), Settings())
    for name in ("correct", "prediction"):
        assert first[name].labels == other[name].labels
        assert torch.equal(first[name].values, other[name].values)


def test_every_member_is_evaluated_by_default(golden_experiment: Experiment) -> None:
    result = evaluate(golden_experiment, Settings())
    assert result.tables[0].columns == ("context", "base", "donor", "twin", "n")
    correct = result["correct"]
    assert torch.equal(correct.at(model="base").values, correct.at(model="twin").values)


def test_prompts_of_every_number_of_boxes_are_of_contexts_of_their_own(tiny_experiment: Experiment) -> None:
    result = evaluate(tiny_experiment, Settings(models=["float"], boxes=[3, 2]))
    correct = result["correct"]
    assert correct.names("model") == ("float",)
    assert correct.prompts is not None
    assert [(row[0], row[-1]) for row in result.tables[0].rows] == [("2 boxes", 42), ("3 boxes", 42)]
    assert len(correct.clusters.unique()) == 42 // 3 + 42 // 2
    assert [prompts.count(",") for prompts in correct.prompts.texts] == [2] * 42 + [1] * 42
    alone = evaluate(tiny_experiment, Settings(models=["float"], boxes=[2]))
    assert alone.tables[0].rows == result.tables[0].rows[:1]
    assert alone.tables[1] == result.tables[1]


def test_what_does_not_exist_is_named(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"method\.models\.0: family 'golden' has no member 'nope'"):
        evaluate(golden_experiment, Settings(models=["nope"]))
    with pytest.raises(UserError, match=r"method\.models\.1: 'base' is there twice"):
        evaluate(golden_experiment, Settings(models=["base", "base"]))
    with pytest.raises(UserError, match=r"method\.boxes: task 'golden' has its own prompts"):
        evaluate(golden_experiment, Settings(boxes=[2]))


@pytest.mark.parametrize(
    ("boxes", "message"), [([2, 3, 2], r"boxes\.2: 2 is there twice"), ([2, 40], r"boxes\.1: 40 boxes")]
)
def test_numbers_of_boxes_that_cannot_be_are_named(tiny_experiment: Experiment, boxes: list[int], message: str) -> None:
    with pytest.raises(UserError, match=rf"^method\.{message}"):
        evaluate(tiny_experiment, Settings(boxes=boxes))


FACETS = {name: dataclasses.asdict(words) for name, words in Boxes().facets.items()}

CORRECT = [[True, True, False, False, False, False], [True, True, True, True, True, False]]
"""Of two models, on the prompts of `result`."""


def result(facets: dict[str, list[int]]) -> Result:
    on = hand_made.prompts(6, facets)
    return hand_made.laid_out(
        "evaluate", {"facets": FACETS}, {"correct": hand_made.measured(CORRECT, "model", on, model=("a", "b"))}
    )


def test_tables_break_accuracy_down() -> None:
    main, two, three = result({"boxes": [3, 3, 2, 2, 2, 3], "query": [0, 2, 0, 1, 1, 2]}).tables
    assert (main.title, main.columns) == ("Accuracy", ("context", "a", "b", "n"))
    assert hand_made.rows(main) == [["2 boxes", 0.0, 1.0, 3], ["3 boxes", 0.666667, 0.666667, 3]]
    assert two.title == "Accuracy by position of the queried box, 2 boxes"
    assert two.columns == ("position", "a", "b")
    assert hand_made.rows(two) == [["box 1", 0.0, 1.0], ["box 2", 0.0, 1.0]]
    assert three.title == "Accuracy by position of the queried box, 3 boxes"
    assert hand_made.rows(three) == [["box 1", 1.0, 1.0], ["box 3", 0.5, 0.5]]


def test_a_task_has_facets_of_its_own_or_none() -> None:
    (fruit,) = result({"fruit": [0, 0, 0, 1, 1, 1]}).tables
    assert fruit.columns == ("fruit", "a", "b", "n")
    assert hand_made.rows(fruit) == [["fruit 0", 0.666667, 1.0, 3], ["fruit 1", 0.0, 0.666667, 3]]
    plain = result({})
    assert plain.tables[0].columns == ("prompts", "a", "b", "n")
    assert hand_made.rows(plain.tables[0]) == [["all", 0.333333, 0.833333, 6]]
    assert plain.drawing() is plain.figure() is None


QUERIES = [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("boxes", "label", "places", "heights"),
    [
        ([3, 3, 2, 2, 2, 3], "boxes", [2, 3], ([0, 2 / 3], [1, 2 / 3])),
        ([2] * 6, "position of the queried box", [1, 2], ([2 / 3, 0], [1, 2 / 3])),
    ],
)
def test_the_figure_draws_a_curve_a_model(
    boxes: list[int], label: str, places: list[int], heights: tuple[list[float], list[float]]
) -> None:
    (panel,) = hand_made.plots(result({"boxes": boxes, "query": QUERIES}))
    assert panel.x == label
    assert panel.y_limits == (0, 1.02)
    for curve, expected, name in zip(panel.curves, heights, "ab", strict=True):
        assert curve.label == name
        assert [round(entry.x) for entry in curve.points] == places
        assert [entry.y for entry in curve.points] == pytest.approx(expected)
