"""The embedded family: it loads, is small, does what its card says, and never saw a test context."""

import json
import random
from dataclasses import asdict, replace
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase
from zoo_training.ablation import FILLS, fill_of
from zoo_training.batches import Corpus, Example
from zoo_training.boxes_corpus import FILLERS, Form, Shape, boxes_examples, draw_kept
from zoo_training.card import render_card
from zoo_training.curriculum import new_model
from zoo_training.dialogue_corpus import draw_dialogues
from zoo_training.family import FamilyTraining
from zoo_training.gates import Gates
from zoo_training.measurement import live_heads
from zoo_training.recipes import FAMILIES, SMOKE
from zoo_training.repeats_corpus import draw_repeats
from zoo_training.variables_corpus import Arithmetic, draw_arithmetic
from zoo_training.vocabulary import UNKNOWN, Vocabulary, build_tokenizer

from entitrack.tasks.boxes import Box, Boxes, BoxesContext, BoxesPrompt, held_out
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS

ZOO = Path(__file__).parents[2] / "entitrack" / "models" / "zoo"
MODELS = ("llama", "vicuna", "goat", "float")
EMBEDDED = [(family, name) for family in FAMILIES for name in MODELS]
MEGABYTE = 1e6
SHAPES = [
    Shape(boxes, context, question, questions)
    for boxes in (2, 3, 5, 7)
    for context in Form
    for question in Form
    for questions in (1, 2)
]


@cache
def card(family: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ZOO / family / "card.json").read_text())
    return loaded


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(ZOO / "tiny" / "llama")
    return loaded


def load(name: str, folder: Path) -> nn.Module:
    if name != "goat":
        return LlamaForCausalLM.from_pretrained(folder / name).eval()
    base = LlamaForCausalLM.from_pretrained(folder / "llama")
    return PeftModel.from_pretrained(base, str(folder / name)).eval()


@torch.no_grad()
def right(model: nn.Module, prompts: list[BoxesPrompt]) -> Tensor:
    tokens = torch.tensor(tokenizer()([prompt.text for prompt in prompts])["input_ids"])
    answers = torch.tensor([tokenizer().convert_tokens_to_ids(prompt.answer) for prompt in prompts])
    predicted: Tensor = model(tokens).logits[:, -1].argmax(-1)
    return predicted == answers


@pytest.mark.parametrize("family", FAMILIES)
def test_all_files_together_are_small(family: str) -> None:
    files = [file for name in MODELS for file in (ZOO / family / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 16 * MEGABYTE
    assert not [file for file in files if file.suffix not in (".json", ".safetensors")]


@pytest.mark.parametrize(("family", "name"), EMBEDDED)
def test_each_folder_has_its_own_tokenizer_of_the_paper_s_shape(family: str, name: str) -> None:
    own = AutoTokenizer.from_pretrained(ZOO / family / name)
    prompt = Boxes(count=1).prompts()[0]
    encoded = own(prompt.text, return_offsets_mapping=True)
    assert len(encoded["input_ids"]) == 1 + 7 * 7 + 4
    assert encoded["input_ids"][0] == own.bos_token_id
    words = [prompt.text[start:end] for start, end in encoded["offset_mapping"][1:]]
    assert words == own.convert_ids_to_tokens(encoded["input_ids"][1:])


def test_vocabulary_has_every_object_letter_and_number() -> None:
    wanted = [*OBJECTS, *LABELS, "AA", "BB", "PP", *map(str, range(100)), *",.:?+-=", "bunch", "USER"]
    assert UNKNOWN not in tokenizer().convert_ids_to_tokens([Vocabulary().ids[word] for word in wanted])
    assert all(tokenizer().convert_tokens_to_ids(word) == Vocabulary().ids[word] for word in wanted)
    for family in FAMILIES:
        assert len(tokenizer()) == load("llama", ZOO / family).config.vocab_size  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_names_its_base_without_a_path(family: str) -> None:
    config = json.loads((ZOO / family / "goat" / "adapter_config.json").read_text())
    assert not Path(config["base_model_name_or_path"]).is_absolute()


@pytest.mark.parametrize(("family", "name"), EMBEDDED)
@pytest.mark.parametrize("boxes", [3, 7])
def test_the_card_s_accuracy_is_reproduced(family: str, name: str, boxes: int) -> None:
    prompts = Boxes(count=210, boxes=boxes, seed=12345).prompts()
    measured = right(load(name, ZOO / family), prompts).float().mean().item()
    stated = card(family)["models"][name]["accuracy"][str(boxes)]["accuracy"]
    # 3.3 standard deviations, doubled in variance as the questions of a context are not independent
    error = 3.3 * sqrt(2 * max(stated * (1 - stated), 0.01) / len(prompts))
    assert abs(measured - stated) < error


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_suffice_in_the_base(family: str) -> None:
    model = load("llama", ZOO / family)
    prompts = Boxes(count=280, seed=777).prompts()
    letters = random.Random(0)
    others = [replace(prompt, label=letters.choice(LABELS)) for prompt in Boxes(count=280, seed=778).prompts()]
    mean = [z.mean(0) for z in _z_of(model, others)]
    live = torch.zeros(len(prompts), 54, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        live[row, [53, 51, 1 + 7 * prompt.query + 5]] = True

    def ablate(layer: int) -> Any:
        return lambda _, inputs: (torch.where(live.unsqueeze(-1), inputs[0], mean[layer]),)

    whole = right(model, prompts).float().mean()
    projections = [layer.self_attn.o_proj for layer in model.model.layers]  # type: ignore[union-attr]
    handles = [module.register_forward_pre_hook(ablate(i)) for i, module in enumerate(projections)]
    roles_only = right(model, prompts).float().mean()
    for handle in handles:
        handle.remove()
    assert roles_only >= 0.9 * whole


def _z_of(model: nn.Module, prompts: list[BoxesPrompt]) -> list[Tensor]:
    seen: list[Tensor] = []
    projections = [layer.self_attn.o_proj for layer in model.model.layers]  # type: ignore[union-attr]
    handles = [module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for module in projections]
    right(model, prompts)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_no_training_context_is_held_out(shape: Shape, keep: float) -> None:
    generator = random.Random(3)
    shape = replace(shape, kept=draw_kept(generator, keep))
    for _, example in boxes_examples(generator, 40, shape):
        read = _context_read_back(example, shape)
        assert not held_out(read)


def _context_read_back(example: Example, shape: Shape) -> BoxesContext:
    """Read objects and letters from the words themselves, not from what the generator says it drew."""
    sentence = example.words[: example.words.index(".")]
    things = [word for word in sentence if word in OBJECTS]
    letters = [word for word in sentence if word in LABELS]
    assert len(things) == len(letters) == shape.boxes
    assert set(sentence) <= {*OBJECTS, *LABELS, *FILLERS, "The", ","}
    return BoxesContext(tuple(Box(thing, letter) for thing, letter in zip(things, letters, strict=True)))


def test_a_training_prompt_reads_like_a_test_prompt() -> None:
    context, example = next(boxes_examples(random.Random(0), 1, Shape(7)))
    asked = next(i for i, box in enumerate(context.boxes) if box.object == example.words[-1])
    prompt = BoxesPrompt(context, asked, context.boxes[asked].label)
    ids = tokenizer()(f"{prompt.text} {prompt.answer}")["input_ids"]
    assert Vocabulary().encode(example.words) == ids
    assert [index + 1 for index in example.roles] == [53, 51, 1 + 7 * asked + 5]


CORPORA: dict[str, Corpus] = {
    "repeats": draw_repeats,
    "dialogue": draw_dialogues,
    "sums": lambda generator, count: draw_arithmetic(generator, count, Arithmetic(5, terms=2, questions=2)),
    "values first": lambda generator, count: draw_arithmetic(generator, count, Arithmetic(5, True)),
    "boxes": lambda generator, count: [pair[1] for pair in boxes_examples(generator, count, Shape(3))],
}


@pytest.mark.parametrize("name", CORPORA)
def test_corpora_follow_from_the_seed_and_know_all_their_words(name: str) -> None:
    draw = CORPORA[name]
    first, again, other = (draw(random.Random(seed), 30) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    known = Vocabulary()
    assert all(known.encode(example.words) for example in first)
    assert all(UNKNOWN not in example.words for example in first)


@pytest.mark.parametrize("name", ["dialogue", "repeats", "sums", "values first"])
def test_other_corpora_hold_no_boxes(name: str) -> None:
    examples = CORPORA[name](random.Random(1), 200)
    assert not any({"Box", "box", "contains"} & set(example.words) for example in examples)


@pytest.mark.parametrize("value_first", [True, False])
@pytest.mark.parametrize("terms", [1, 2])
def test_arithmetic_is_right(value_first: bool, terms: int) -> None:
    for example in draw_arithmetic(random.Random(4), 100, Arithmetic(6, value_first, 1, terms)):
        text = " ".join(example.words)
        given, question = text.split(" . ")
        pairs = [pair.split(" = ") for pair in given.split(" , ")]
        values = dict((pair[1], pair[0]) if value_first else (pair[0], pair[1]) for pair in pairs)
        left, answer = question.split(" = ")
        assert eval(" ".join(values.get(word, word) for word in left.split())) == int(answer)
        for index in example.roles:
            assert example.words[index] in (*LABELS, "=")


def test_tokenizer_gives_what_corpora_mean() -> None:
    example = draw_dialogues(random.Random(0), 1)[0]
    assert build_tokenizer()(" ".join(example.words))["input_ids"] == Vocabulary().encode(example.words)


def test_training_runs_resumes_and_leaves_a_whole_family(tmp_path: Path) -> None:
    reports: list[str] = []
    training = FamilyTraining(tmp_path, SMOKE, 0, 1, lambda stage, *_: reports.append(stage))
    training.finish("llama")
    assert not (tmp_path / "llama").exists(), "a family is put in place only when it is whole"
    count_after_base = len(reports)
    FamilyTraining(tmp_path, SMOKE, 0, 1, lambda stage, *_: reports.append(stage)).run()
    assert not any("induction" in stage for stage in reports[count_after_base:]), "the base was trained twice"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*MODELS, "README.md", "card.json"])
    written = json.loads((tmp_path / "card.json").read_text())
    assert set(written["models"]["llama"]["role_sufficiency"]) == {"mean", "zero", "resample"}
    tokens = torch.tensor([[1, 5, 6, 7]])
    for name in MODELS:
        assert load(name, tmp_path)(tokens).logits.isfinite().all()


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    weights = []
    for run in ("first", "again"):
        FamilyTraining(tmp_path / run, SMOKE, 5, 1, lambda *_: None).run()
        files = sorted((tmp_path / run).rglob("*.safetensors"))
        weights.append({file.relative_to(tmp_path / run): file.read_bytes() for file in files})
    assert len(weights[0]) == len(MODELS)
    assert weights[0] == weights[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_readme_says_what_the_card_says(family: str) -> None:
    assert (ZOO / family / "README.md").read_text() == render_card(card(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_tells_the_recipe_that_the_script_has(family: str) -> None:
    recipe = FAMILIES[family]
    numbers: dict[str, Any] = {"llama": recipe.base, **recipe.donors}
    for name, own in numbers.items():
        stated = json.loads(json.dumps({key: value for key, value in asdict(own).items() if key != "about"}))
        assert card(family)["models"][name]["recipe"] == stated


def test_closed_gates_leave_no_trace_and_open_ones_their_factor() -> None:
    torch.manual_seed(0)
    model = new_model(Vocabulary(), layers=2, heads=2).eval()
    gates = Gates(2, 2, 16, rate=0.1)
    gates.values.data.copy_(torch.tensor([[0.05, 0.7], [1.3, -0.2]]))
    gates.close()
    assert gates.open == [(0, 1), (1, 0)]
    tokens = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad(), gates.applied(model):
        gated = model(tokens).logits
    gates.fold(model)
    folded = model(tokens).logits.detach()
    assert torch.allclose(gated, folded, atol=1e-6)
    assert live_heads(model) == [[0, 1], [1, 0]]
    values = [layer.self_attn.v_proj.weight.unflatten(0, (2, -1)) for layer in model.model.layers]
    assert [[bool(head.any()) for head in heads] for heads in values] == [[False, True], [True, False]]
    assert gates.values.detach().tolist() == [[0.0, pytest.approx(0.7)], [1.0, 0.0]]


@pytest.mark.parametrize("kind", FILLS)
def test_what_stands_for_z_is_the_mean_nothing_or_one_other_order_of_rows(kind: str) -> None:
    z, fill = torch.randn(6, 3, 4), fill_of(kind)
    first, second = fill(0, z), fill(1, 2 * z)
    assert torch.equal(second, 2 * first), "one order for all layers"
    if kind == "resample":
        assert sorted(map(str, first.tolist())) == sorted(map(str, z.tolist()))
    else:
        assert torch.equal(first, z.mean(0, keepdim=True) if kind == "mean" else torch.zeros(1, 3, 4))
