"""Every method on small random models of four families, which differ from Llama in what interventions must know of.

Qwen 2 has biases in q, k and v; OLMo 2 norms after attention and MLP, and norms over all heads of q and of k; Gemma 2
norms before and after, caps on scores and logits, and windows; Gemma 3 norms within each head of q and k, and windows.
What a random model answers means nothing: a run checks itself against the definition where it can, and laws hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2Tokenizer

from entitrack import load
from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import method_names, settings_of
from entitrack.models.checkpoint import ZOO, Checkpoint
from entitrack.models.family import Family
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from tests.conftest import Launch
from tests.naive.tiny import ARCHITECTURES
from tests.record.small_runs import SETTINGS

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "olmo2": {},
    "gemma2": {"sliding_window": 8, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    "gemma3_text": {"sliding_window": 8},
}
CIRCUIT = Circuit(
    (
        Group("value_fetcher", "last", ((1, 0), (1, 3))),
        Group("pos_transmitter", "last", ((0, 1),)),
        Group("pos_detector", "query_label", ((0, 2),)),
        Group("struct_reader", "prev_query_label", ((0, 0),)),
    )
)
CHECKED = {
    "binding": ("method.heads_of=circuit.json", "method.layers=[0,1]"),
    "compare": ("method.circuits=[circuit.json,circuit.json]",),
    "path_patching": ("method.verify=3",),
    "transfer": ("method.circuits={mine: circuit.json}",),
}
"""What a method is told besides: how many senders to hold to the definition; circuits of its own."""


def random_model(kind: str, folder: Path, seed: int) -> None:
    """A checkpoint of two layers, with weights large enough for attention to be far from uniform."""
    tokenizer = words_of_boxes(kind)
    torch.manual_seed(seed)
    options = {**ARCHITECTURES[kind], "vocab_size": len(tokenizer), "initializer_range": 0.4, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **{**options, **FAMILIES[kind]})
    module = AutoModelForCausalLM.from_config(config)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):  # as they begin, they are zero
            torch.nn.init.normal_(parameter, std=0.4)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def words_of_boxes(kind: str) -> Any:
    """The embedded family's tokenizer; for Qwen 2, which splits text in a way of its own, one trained on the words."""
    if kind != "qwen2":
        return AutoTokenizer.from_pretrained(ZOO / "tiny" / "llama")
    texts = [f"The {word} is in Box {label}, Box {label} contains the {word}" for word in OBJECTS for label in LABELS]
    return Qwen2Tokenizer().train_new_from_iterator(texts, vocab_size=1200)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Words that name two random models of a family as the embedded family's base and donor."""
    folder = tmp_path_factory.mktemp(request.param)
    for seed, name in enumerate(("llama", "float")):
        random_model(request.param, folder / name, seed)
    members = [f"model.members.{name}.path={folder / name}" for name in ("llama", "float")]
    attention = "model.attention=eager" if request.param == "gemma2" else "model.attention=sdpa"
    return (*members, "~model.members.goat", "~model.members.vicuna", f"model.name={request.param}", attention)


@pytest.mark.parametrize("method", method_names())
def test_it_runs(method: str, family: tuple[str, ...], launch: Launch) -> None:
    CIRCUIT.write(Path("circuit.json"))
    settings = settings_of(method)
    words = dict.fromkeys((*SETTINGS[method], *CHECKED.get(method, ())))
    few = ("task.count=30", "task.boxes=3", "model.device=cpu", "tracking=disabled", "store=null", "output_dir=out")
    about = ("circuit=circuit.json",) if settings.needs_circuit else ()
    assert launch(f"method={method}", *few, *about, *family, *words) == 0
    (record,) = Path("out").rglob("result.json")
    LAWS.get(method, finite)(load(record.parent))


def test_attention_that_a_model_has_not_is_refused(tmp_path: Path) -> None:
    random_model("gemma2", tmp_path / "it", 0)
    family = Family("it", "it", {"it": Checkpoint(str(tmp_path / "it"))}, device="cpu")
    with pytest.raises(
        UserError, match=r"^model\.attention: transformers has no sdpa for Gemma2ForCausalLM; set model"
    ):
        family.load("it")


def finite(result: Result) -> None:
    """There are numbers, and none is without bound; where no head is chosen some are none."""
    floating = [one.values for one in result.measurements.values() if one.values.is_floating_point()]
    assert not any(bool(values.isinf().any()) for values in floating)
    assert not floating or any(bool(values.isfinite().any()) for values in floating)
    assert result.tables


def effects_are_there(result: Result) -> None:
    """Heads do something, beyond the arithmetic's noise; the run has held some of them to the definition."""
    finite(result)
    scores = [one.values for name, one in result.measurements.items() if name.startswith("effect")]
    assert scores
    assert any(bool((values.abs() > 1e-4).any()) for values in scores)
    assert "verified" in json.dumps(result.facts)


def own_heads_change_nothing(result: Result) -> None:
    """A member into itself answers as it does, and one into the other does not always."""
    correct: Any = result["correct"]
    for member in ("llama", "float"):
        own = correct.at(donor=member, recipient=member)
        assert torch.equal(own.at(what="circuit").values, own.at(what="recipient").values)


LAWS = {"path_patching": effects_are_there, "cmap_matrix": own_heads_change_nothing}
