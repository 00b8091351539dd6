"""What may move between two models is known before anything runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from entitrack.core.circuits import Circuit
from entitrack.core.components import COMPONENTS, WITHOUT_HEADS
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method, settings_of
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.models.pairs import Difference, Verdict, compare
from entitrack.runtime.backends import Local, Runner
from tests.golden_prompts import GoldenTask
from tests.methods.test_path_patching import STAGES
from tests.models import altered
from tests.models.altered import Change

TEXTS = ("Box Q contains the book",)


QWEN = {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40}
"""Of a small Qwen 2, whose base turns positions by 1,000,000 and whose Math version by 10,000."""


def other_words(folder: Path) -> None:
    """Two words of the tokenizer change places."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["Box"], words["contains"] = words["contains"], words["Box"]
    path.write_text(json.dumps(content))


def unused_words(folder: Path) -> None:
    """Two words that no prompt has change places."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    prompts = GoldenTask(frozenset(words)).prompts()
    pairs = GoldenTask(frozenset(words)).pairs()
    used = {word.strip(",.") for prompt in prompts for word in f"{prompt.text} {prompt.answer}".split()}
    used |= {word.strip(",.") for pair in pairs for word in pair.counterfactual.text.split()}
    special = {entry["content"] for entry in content["added_tokens"]}
    first, second = [word for word in words if word not in used | special and word not in ",."][:2]
    words[first], words[second] = words[second], words[first]
    path.write_text(json.dumps(content))


def random_weights(kind: str = "llama", **values: Any) -> Change:
    """A model of another build, with random weights."""

    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text())
        known = {name: value for name, value in known.items() if name not in ("model_type", "architectures", "dtype")}
        config = AutoConfig.for_model(kind, **{**known, **values})
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)

    return change


ROTARY = altered.configured(rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
SCALED = altered.configured(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0})

STREAM = tuple(WITHOUT_HEADS)

VERDICTS: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "rotary base": (ROTARY, ("z", "v", *STREAM), "rotary base and scaling are"),
    "rotary scaling": (SCALED, ("z", "v", *STREAM), "rotary base and scaling are"),
    "KV heads": (random_weights(num_key_value_heads=2), ("z", "q", *STREAM), "KV heads are"),
    "layers": (random_weights(num_hidden_layers=5), (), "layers are"),
    "heads": (random_weights(num_attention_heads=12, num_key_value_heads=12, head_dim=8), STREAM, "heads are"),
    "d_head": (random_weights(head_dim=32), STREAM, "d_head is"),
    "width": (random_weights(hidden_size=48), (), "the residual stream's width is"),
    "norms of q and k": (random_weights("qwen3"), (), "norms are"),
    "norms after attention": (random_weights("olmo2", pad_token_id=0), (), "norms are"),
    "a larger vocabulary": (random_weights(vocab_size=300), COMPONENTS, "the vocabulary's size is"),
    "a smaller vocabulary": (random_weights(vocab_size=10), (), "the vocabulary is"),
    "another tokenizer": (other_words, (), "the tokenizers disagree"),
    "another tokenizer elsewhere": (unused_words, COMPONENTS, ""),
    "special tokens": (
        altered.merged("tokenizer_config.json", pad_token="<unk>"),
        COMPONENTS,
        "special tokens are",
    ),
    "weights alone": (altered.filled("mlp", 0.5), COMPONENTS, ""),
}


@pytest.fixture
def family_with(golden_folder: Path, tmp_path: Path) -> Callable[..., Family]:
    """The golden base, and a donor that is a changed copy of it."""

    def make(*changes: Change) -> Family:
        donor = altered.copy(golden_folder / "base", tmp_path / "donor", *changes)
        members = {"base": Checkpoint(str(golden_folder / "base")), "donor": Checkpoint(str(donor))}
        return Family("golden", "base", members, device="cpu")

    return make


@pytest.mark.parametrize("name", VERDICTS)
def test_what_a_donor_may_give(name: str, family_with: Callable[..., Family], golden_task: GoldenTask) -> None:
    change, may_move, what = VERDICTS[name]
    family = family_with(change)
    texts = [f"{prompt.text} {prompt.answer}" for prompt in golden_task.prompts()]
    verdict = compare(family.load("base"), family.load("donor"), texts)
    assert set(verdict.may_move) == set(may_move)
    named = [found.what for found in verdict.differences]
    assert any(found.startswith(what) for found in named) if what else not named


@pytest.mark.parametrize(
    ("values", "may_move"),
    [
        ({"attn_logit_softcapping": 50.0}, ("z", "v", *STREAM)),
        ({"query_pre_attn_scalar": 32}, ("z", "v", *STREAM)),
        ({"final_logit_softcapping": 30.0}, COMPONENTS),
    ],
)
def test_caps_and_scales(golden_model: Model, values: dict[str, Any], may_move: tuple[str, ...]) -> None:
    def model(**given: Any) -> Model:
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL))
        for key, value in given.items():
            setattr(module.config, key, value)
        anatomy = {**golden_model.anatomy, "softcap": float(given.get("final_logit_softcapping", 0))}
        outline = dataclasses.replace(golden_model.outline, config=module.config)
        return dataclasses.replace(golden_model, outline=outline, anatomy=anatomy)  # type: ignore[arg-type]

    assert set(compare(model(), model(**values), TEXTS).may_move) == set(may_move)
    assert compare(model(**values), model(**values), TEXTS).differences == ()


def test_qwens_math_version_gives_z_and_v_but_neither_q_nor_k(golden_folder: Path, tmp_path: Path) -> None:
    for name, base in (("base", 1000000.0), ("math", 10000.0)):
        folder = altered.copy(golden_folder / "base", tmp_path / name, random_weights("qwen2", **QWEN))
        written = json.loads((folder / "config.json").read_text())
        del written["rope_parameters"]  # as the hub has it, from before transformers 5
        (folder / "config.json").write_text(json.dumps({**written, "rope_theta": base}))
    members = {name: Checkpoint(str(tmp_path / name)) for name in ("base", "math")}
    family = Family("qwen", "base", members, device="cpu")
    verdict = compare(family.load("base"), family.load("math"), TEXTS)
    assert set(verdict.may_move) == {"z", "v", *STREAM}
    with pytest.raises(UserError, match=r"^donor: q of 'math' cannot move to 'base': rotary base .*1000000.*10000"):
        verdict.require("q", "donor")
    verdict.require("zv", "donor")


SMALL = {
    "hidden_size": 96,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "vocab_size": 256,
}


def test_a_refusal_names_what_stands_against_it_and_what_may_move() -> None:
    rotary = Difference("rotary is", "1", "2", frozenset("qk"))
    verdict = Verdict("llama", "float", (rotary, Difference("pads are", "3", "4")))
    verdict.require("zv", "donor")
    with pytest.raises(UserError) as error:
        verdict.require("qz", "donor")
    expected = "donor: q of 'float' cannot move to 'llama': rotary is 1 in 'llama', 2 in 'float'"
    assert str(error.value) == f"{expected}; available: resid_pre, v, z, attn_out, resid_mid, mlp_out"


def ask(experiment: Experiment, method: str, **settings: Any) -> Result:
    return run_method(method, experiment, settings_of(method)(**settings))


def experiment_on(family: Family, task: Any, donor: str = "donor") -> Experiment:
    return Experiment(family, task, Runner(Local()), donor, batch_size=21)


def written_circuit(experiment: Experiment, circuit: Circuit, folder: Path) -> Experiment:
    circuit.write(folder / "circuit.json")
    return dataclasses.replace(experiment, circuit_name=str(folder / "circuit.json"))


def test_another_rotary_base_gives_z_and_v_but_not_q_and_k(
    family_with: Callable[..., Family], golden_task: GoldenTask, golden_circuit: Circuit, tmp_path: Path
) -> None:
    experiment = written_circuit(experiment_on(family_with(ROTARY), golden_task), golden_circuit, tmp_path)
    ask(experiment, "cmap", controls=0)
    ask(experiment, "cmap", form="input", components=["v"], controls=0)
    for components in (["qkv"], ["v", "q"], ["kv"]):
        with pytest.raises(
            UserError,
            match=r"^donor: .* of 'donor' cannot move to 'base': rotary .*; available: resid_pre, v, z, attn_out",
        ):
            ask(experiment, "cmap", form="input", components=components)
    assert experiment.runner.cost.units == 2 * 2 + 2 * 2


METHODS: dict[str, Callable[[Experiment], object]] = {
    "evaluate": lambda experiment: ask(experiment, "evaluate"),
    "faithfulness": lambda experiment: ask(experiment, "faithfulness", random_circuits=2),
    "activation_patching": lambda experiment: ask(
        experiment, "activation_patching", desiderata=["object_value"], repeats=1
    ),
    "path_patching": lambda experiment: ask(experiment, "path_patching", model="donor", stages=STAGES),
    "cmap": lambda experiment: ask(experiment, "cmap", controls=2),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_member_with_another_tokenizer_is_refused_before_anything_runs(
    method: str,
    family_with: Callable[..., Family],
    golden_task: GoldenTask,
    golden_circuit: Circuit,
    tmp_path: Path,
) -> None:
    experiment = written_circuit(experiment_on(family_with(other_words), golden_task), golden_circuit, tmp_path)
    donor_first = dataclasses.replace(experiment.family, members=dict(reversed([*experiment.family.members.items()])))
    experiment = dataclasses.replace(experiment, family=donor_first)
    with pytest.raises(UserError, match=r"^(donor|method\.models?): .*'donor'.* the tokenizers disagree: token 5 of "):
        METHODS[method](experiment)
    assert experiment.runner.cost.units == 0


def test_a_tokenizer_that_differs_elsewhere_is_no_reason(
    family_with: Callable[..., Family], golden_task: GoldenTask
) -> None:
    correct = ask(experiment_on(family_with(unused_words), golden_task), "evaluate")["correct"]
    assert torch.equal(correct.at(model="base").values, correct.at(model="donor").values)
