"""Weights in half precision, arithmetic in float32: results are those of a float32 model with the same weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from nnsight import TransformersModel
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from entitrack.engine import execution
from entitrack.engine.attribution import attribution_effects
from entitrack.engine.dcm import train_masks
from entitrack.engine.memory import measured
from entitrack.engine.patching import answer_logits
from entitrack.engine.path_patching import path_effects
from entitrack.engine.precision import float32_arithmetic, holds_half_precision
from entitrack.methods import method_names
from entitrack.models.anatomy import describe
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.models.identity import Identity
from entitrack.runtime.backends import Local, dry_run
from tests.engine.test_architectures import N, ragged, tokenizer
from tests.naive import tiny
from tests.remote import matrix

HALVES = [torch.bfloat16, torch.float16]
ARCHITECTURES = ["llama", "gemma3_text", "gpt2", "gpt_neox"]
COMPONENTS = ["logits", "q", "k", "v"]
CPU = torch.device("cpu")


def model_of(module: Any) -> Model:
    envoy = TransformersModel(module, task="text-generation", tokenizer=tokenizer())
    return Model.of("tiny", envoy, describe(module.config), Identity("tiny"))


def float32_twin(half: Any) -> Any:
    """A float32 model of the same weights, which has Gemma's scale as it is."""
    twin: Any = copy.deepcopy(half).float()
    for module in twin.modules():
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale.fill_(module.scalar_embed_scale)
    return twin


def prompts() -> dict[str, Tensor]:
    tokens, mask, last = ragged(1, "right")
    rivals = (torch.arange(N)[:, None] + torch.tensor([4, 7])) % 32
    return {"tokens": tokens, "mask": mask, "last": last, "answers": torch.arange(N) + 3, "rivals": rivals}


def stage(component: str) -> dict[str, Any]:
    """What path patching and attribution are given, but for the senders."""
    others, other_mask, other_last = ragged(2, "right")
    clean = prompts()
    back = torch.zeros(N, dtype=torch.long) if component in ("logits", "q") else torch.tensor([1, 3, 2, 5, 2])
    heads = [[1, head] for head in ((0, 3) if component == "q" else (1,))]
    return {
        "clean": {**clean, "position": clean["last"] - back},
        "source": {"tokens": others, "mask": other_mask, "position": other_last - 1},
        "receivers": {"component": component, **({} if component == "logits" else {"heads": heads})},
    }


def score(module: Any, component: str, backend: Local | None = None) -> dict[str, Tensor]:
    model = model_of(module)
    inputs = {**stage(component), "senders": [list(range(4))] * 2, "gib": 1e-4}
    return (backend or Local()).run(model, path_effects, {"anatomy": model.anatomy, **inputs})


def run(module: Any, function: Any, **inputs: Any) -> dict[str, Tensor]:
    model = model_of(module)
    return Local().run(model, function, {"anatomy": model.anatomy, **inputs})


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_a_float32_model(architecture: str, component: str, dtype: torch.dtype) -> None:
    half = tiny.tiny(architecture).to(dtype)
    expected, found = score(float32_twin(half), component), score(half, component)
    for name in ("effect", "probability"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=0)
    ranks = [scores["effect"].mean(0).flatten().argsort() for scores in (found, expected)]
    assert torch.equal(*ranks)
    assert float(found["null"].abs().mean()) <= 1e-6
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("component", COMPONENTS)
def test_left_to_the_weights_precision_they_are_not(
    component: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tiny.tiny("llama").to(dtype)
    expected = score(float32_twin(half), component)
    monkeypatch.setattr(execution, "holds_half_precision", lambda _: False)
    found = score(half, component)
    assert float((found["effect"].float() - expected["effect"]).abs().max()) > 1e-4
    assert float(found["null"].abs().mean()) > 1e-5


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_shipped_by_value_it_is_the_same(architecture: str) -> None:
    half = tiny.tiny(architecture).bfloat16()
    here, shipped = score(half, "v"), score(half, "v", dry_run())
    torch.testing.assert_close(shipped["effect"], here["effect"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("function", [answer_logits, attribution_effects, train_masks])
def test_answers_and_gradients_are_those_of_a_float32_model(architecture: str, function: Any) -> None:
    half = tiny.tiny(architecture).bfloat16()
    inputs: dict[str, Any] = {"prompts": prompts()}
    if function is attribution_effects:
        inputs = stage("v")
    if function is train_masks:
        inputs = training()
    found, expected = run(half, function, **inputs), run(float32_twin(half), function, **inputs)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def training() -> dict[str, Any]:
    """A few steps of two masks over three heads."""
    clean = prompts()
    others, other_mask, other_last = ragged(2, "right")
    positions = torch.stack([clean["last"], clean["last"], clean["last"] - 2])
    batch = {
        "clean": clean,
        "sources": [{"tokens": others, "mask": other_mask}],
        "targets": clean["answers"][None],
        "positions": positions,
        "source_positions": torch.stack([other_last] * 3)[None],
    }
    return {
        **{"heads": [[0, 0], [1, 2], [0, 3]], "batches": [batch], "validation": [batch], "draws": [0, 0]},
        **{"sparsity": [0.0, 0.1], "steps": 3, "learning_rate": 0.1, "validate_after": [3], "patience": 0},
        **{"borrow_positions": False, "gib": None},
    }


@pytest.mark.parametrize("adapters", [torch.float32, torch.bfloat16])
def test_adapters_do_not_round_what_comes_in(adapters: torch.dtype) -> None:
    """Peft casts what an adapter is given to what the adapter's weights are."""
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted: Any = get_peft_model(tiny.tiny("llama").bfloat16(), config)
    half = adapted.base_model.model.eval()
    for name, parameter in half.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.to(adapters)
    expected, found = score(float32_twin(half), "v"), score(half, "v")
    torch.testing.assert_close(found["effect"], expected["effect"], atol=1e-5, rtol=0)


def wide() -> Any:
    """A model whose weights take far more than a few tokens do."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 2048}
    config = AutoConfig.for_model("llama", **sizes, num_attention_heads=4)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False).bfloat16()


@pytest.mark.parametrize("function", [path_effects, attribution_effects])
def test_one_weight_at_a_time_is_cast_up(function: Any) -> None:
    """With a gradient too: autograd keeps the weights, not their copies."""
    half = wide()
    whole = stage("v")
    inputs = {name: {key: value[:1] for key, value in whole[name].items()} for name in ("clean", "source")}
    senders = {"senders": [[0]] * 6} if function is path_effects else {}
    _, peak = measured(CPU, lambda: run(half, function, **inputs, **senders, receivers=whole["receivers"]))
    assert peak < sum(4 * parameter.numel() for parameter in half.parameters()) / 4


def test_what_computes_in_float32_anyway_is_left_alone() -> None:
    module = tiny.tiny("llama")
    assert not holds_half_precision(module)
    assert holds_half_precision(module.bfloat16())
    module.config.quantization_config = {"quant_method": "bitsandbytes"}
    assert not holds_half_precision(module)


def test_nothing_within_is_rounded() -> None:
    """Functions of half precision alone, casts, and what is made in a weight's type; weights can be written to."""
    half, full = torch.rand(4, 4).bfloat16(), torch.rand(4, 4)
    as_float32 = half.float()
    module = nn.Linear(4, 4, bias=False).bfloat16()
    with float32_arithmetic(module):
        results = {
            "both": (F.linear(full, half), F.linear(full, as_float32)),
            "alone": (1.1 + half, 1.1 + as_float32),
            "in a list": (torch.cat([full, half]), torch.cat([full, as_float32])),
            "by name": (torch.matmul(input=full, other=half.T), full @ as_float32.T),
            "to a type": (full.to(torch.bfloat16), full),
            "to a weight's type": (full.to(dtype=half.dtype), full),
            "to a weight": (full.to(half), full),
            "as a weight": (full.type_as(half), full),
            "by a method": (full.half(), full),
            "asked of a function": (full.softmax(-1, dtype=half.dtype), full.softmax(-1)),
            "a lookup": (F.embedding(torch.tensor([1]), half), as_float32[[1]]),
            "made": (torch.ones(2, dtype=half.dtype), torch.ones(2)),
        }
        assert half[0].dtype == half.to(CPU).dtype == torch.bfloat16
        half[0] = full[0]
        half.mul_(2)
    for found, expected in results.values():
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
    torch.testing.assert_close(half[0], full[0].bfloat16() * 2)
    assert (full.bfloat16() @ full.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("method", method_names())
def test_every_method_measures_what_it_does_on_a_float32_model(method: str) -> None:
    half, full = (embedded(dtype) for dtype in ("bfloat16", "float32"))
    for name in half.members:
        theirs = dict(half.load(name).envoy._module.named_parameters())
        for place, parameter in full.load(name).envoy._module.named_parameters():
            parameter.data.copy_(theirs[place])
    found, expected = (matrix.run(method, matrix.tiny_experiment(family, Local())) for family in (half, full))
    for output in [*found.results["llama.path_effects"], *expected.results["llama.path_effects"]]:
        del output["peak_bytes"], output["bytes_per_token"]
    assert max(matrix.differences(found, expected).values(), default=0) <= 1e-5


def embedded(dtype: str) -> Family:
    members = {name: Checkpoint(f"zoo://tiny/{name}") for name in ("llama", "float")}
    members["goat"] = Checkpoint("zoo://tiny/llama", "zoo://tiny/goat")
    return Family("tiny", "llama", members, device="cpu", dtype=dtype)
