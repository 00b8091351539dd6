"""Donors are tuned on what they say, never on a context that is held out, and a killed run ends as one that was not."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from donor_tuning.batches import collate
from donor_tuning.card import render_card
from donor_tuning.corpora import CORPORA, QUESTIONS, Piece, draw, forbidden_words
from donor_tuning.donor import DonorTuning
from donor_tuning.measurement import HELD_OUT_STEP, MeasurementRecipe, best_of_offered, share
from donor_tuning.recipes import RECIPES, Recipe
from donor_tuning.tuning import save_adapter, tune
from peft import PeftModel
from safetensors.torch import load_file

from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.models.checkpoint import ZOO
from entitrack.models.family import Checkpoint, Family
from entitrack.tasks.boxes import Box, BoxesContext, held_out

CARDS = sorted(path for path in ZOO.glob("*/card.json") if "donors" in json.loads(path.read_text()))
SMALL = Recipe("boxes", "a test", steps=12, rows=2, rank=2, learning_rate=1e-2, boxes=(2, 3))
FACT = re.compile(r"(?:Box (?P<label>[A-Z]) contains the (?P<object>\w+))|(?:[Tt]he (?P<o>\w+) is in Box (?P<l>[A-Z]))")


class Killed(Exception):
    """As a signal would end a run."""


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def texts(recipe: Recipe, steps: int = 60) -> list[str]:
    return [text_of(text) for step in range(steps) for text in draw(recipe, step)]


@pytest.mark.parametrize("phrasing", ["object_first", "label_first"])
def test_no_held_out_context_is_ever_read(phrasing: str) -> None:
    for text in texts(replace(RECIPES["boxes"], phrasing=phrasing)):
        facts = [match.groupdict() for match in FACT.finditer(text.split(".")[0])]
        boxes = tuple(Box(fact["object"] or fact["o"], fact["label"] or fact["l"]) for fact in facts)
        assert 2 <= len(boxes) <= 7
        assert not held_out(BoxesContext(boxes))


@pytest.mark.parametrize("kind", CORPORA)
def test_a_kind_is_free_of_what_would_make_it_another(kind: str) -> None:
    words = {word.lower() for text in texts(RECIPES[kind]) for word in re.findall(r"\w+", text)}
    assert not words & forbidden_words(kind)
    assert any(word.isdigit() for word in words) == (kind in ("arithmetic", "placebo"))


def answered(text: str) -> list[tuple[int, int]]:
    """For every question of a text, what follows from the text and what it says."""
    facts, *questions = [sentence.strip() for sentence in text.split(".") if sentence.strip()]
    pairs = [sorted(fact.split(" = "), key=str.isdigit) for fact in facts.split(", ")]
    values = {letter: int(value) for letter, value in pairs}
    sides = [question.split(" = ") for question in questions]
    return [(eval(left, {}, values), int(right)) for left, right in sides]


def test_arithmetic_is_right() -> None:
    for text in texts(RECIPES["arithmetic"]):
        assert all(true == said >= 0 for true, said in answered(text))


def test_a_placebo_is_arithmetic_with_nothing_to_look_up() -> None:
    """Its answers are as often each number, and right no more often than two that are drawn apart."""
    both = [[answered(text) for text in texts(RECIPES[kind], 400)] for kind in ("arithmetic", "placebo")]
    right, said = ([pair for text in answers for pair in text] for answers in both)
    assert {len(text) for answers in both for text in answers} == {QUESTIONS}
    often = [Counter(answer for _, answer in pairs) for pairs in (right, said)]
    shares = [{number: count / len(right) for number, count in counts.items()} for counts in often]
    assert all(abs(shares[0].get(number, 0) - shares[1].get(number, 0)) < 0.02 for number in range(19))
    by_chance = sum(share**2 for share in shares[0].values())
    assert sum(true == answer for true, answer in said) / len(said) == pytest.approx(by_chance, abs=0.02)


def test_draws_depend_on_the_step_and_the_seed_alone() -> None:
    recipe = RECIPES["arithmetic"]
    assert draw(recipe, 3) == draw(recipe, 3) != draw(recipe, 4)
    assert draw(replace(recipe, seed=1), 3) != draw(recipe, 3)
    assert recipe.steps < HELD_OUT_STEP


def tiny() -> Family:
    return Family("tiny", "llama", {"llama": Checkpoint("zoo://tiny/llama")}, device="cpu")


def test_answers_are_marked_by_the_tokenizer() -> None:
    model = tiny().load("llama")
    tokenizer = model.envoy.tokenizer
    batch = collate([[Piece("Box Q contains the"), Piece(" book", answer=True), Piece(".")], [Piece("Box")]], tokenizer)
    assert tokenizer.convert_ids_to_tokens(batch.tokens[0][batch.answers[0]].tolist()) == ["book"]
    assert batch.real.sum(1).tolist() == [7, 2]
    assert not batch.answers[1].any()


def tuned(state: Path, until: int | None = None) -> PeftModel:
    model = tiny().load("llama").envoy

    def report(done: int, loss: float) -> None:
        if done == until:
            raise Killed

    return tune(model._module, model.tokenizer, SMALL, state, "zoo://tiny/llama", report)[0]


def weights(adapted: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in adapted.named_parameters() if "lora_" in name}


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    straight = weights(tuned(tmp_path / "straight"))
    with pytest.raises(Killed):
        tuned(tmp_path / "state", until=11)
    resumed = weights(tuned(tmp_path / "state"))
    assert straight.keys() == resumed.keys()
    assert all(straight[name].equal(resumed[name]) for name in straight)
    assert any(weight.abs().max() > 0 for name, weight in straight.items() if "lora_B" in name)


def test_an_adapter_is_a_donor_of_half_precision(tmp_path: Path) -> None:
    save_adapter(tuned(tmp_path / "state"), tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "zoo://tiny/llama"
    assert config["target_modules"] == sorted(config["target_modules"])
    family = Family("tiny", "llama", {"llama": Checkpoint("zoo://tiny/llama", str(tmp_path / "adapter"))}, device="cpu")
    assert family.load("llama").envoy._module.dtype == torch.float32


def test_the_best_of_what_is_offered_is_compared_with_the_answer() -> None:
    prompts = PromptSet(("a", "b"), ("x", "y"), torch.tensor([0, 1]))
    logit = torch.tensor([[[3.0, 1.0], [2.0, 2.0], [torch.nan, 5.0]]])
    labels = {"model": ("one",), "offered": ("answer", "alternative 1", "alternative 2")}
    measured = Measurement(logit, ("model", "offered", "prompt"), labels, prompts)
    result = Result(method="evaluate", facts={}, measurements={"logit": measured}, words={})
    assert best_of_offered(result).values.tolist() == [[True, False]]


def test_a_share_without_interval_says_so() -> None:
    assert share(Estimate(0.5, float("nan"), float("nan"), 14)) == {"value": 0.5, "low": None, "high": None, "n": 14}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_cards_are_of_what_is_there(path: Path) -> None:
    card = json.loads(path.read_text())
    assert (path.parent / "README.md").read_text() == render_card(card)
    for name, record in card["donors"].items():
        adapter = path.parent / name / "adapter_model.safetensors"
        assert adapter.stat().st_size == record["bytes"] < 6e6
        assert {row["boxes"] for row in record["accuracy"]} >= {2, 3, 7}
        assert all(row["base"]["n"] >= 84 for row in record["accuracy"])


def test_what_is_published_is_the_card_as_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    recipe = RECIPES["placebo"]
    measured = {"base": "here", "tuning_seconds": 1.0, "threads": 1, "bytes": 10, "own_answers": {}, "accuracy": []}
    record = {"about": recipe.about, "recipe": asdict(recipe), **measured}
    tuning = DonorTuning("few", recipe, tmp_path / "few", MeasurementRecipe(), lambda *told: None, "placebo")
    tuning._publish(tmp_path / "adapter", record)
    card = json.loads((tmp_path / "few" / "card.json").read_text())
    assert card["donors"]["placebo"]["recipe"]["boxes"] == [2, 7]
    assert (tmp_path / "few" / "README.md").read_text() == render_card(card)
    assert (tmp_path / "few" / "placebo").is_dir()
