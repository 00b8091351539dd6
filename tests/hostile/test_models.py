"""Bad models on the command line: one line each, whatever is wrong with a checkpoint, an adapter or a pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.conftest import Launch
from tests.hostile.trial import Trial, attempt
from tests.models import altered
from tests.models.altered import Change
from tests.models.test_pairs import ROTARY, other_words, random_weights

DONOR = "model.members.float.path={here}/broken"
ADAPTER = ("model.members.float.path={here}/base", "++model.members.float.adapter={here}/adapter")
INPUT = ("method.form=input", "method.components=[qk]")
SHARD = "model-2.safetensors"
ADAPTED = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
EVIL = altered.written("evil.py", "raise SystemExit('it was run')")


@dataclass(frozen=True)
class ModelTrial:
    """A trial with a donor that is a changed copy of the base, or with an adapter on such a copy.

    Attributes:
        name: What is wrong.
        says: See `Trial`.
        changes: What is changed in the copy.
        arguments: The command line.
        adapter: Layers, width and further changes of an adapter; None makes none.
    """

    name: str
    says: str
    changes: tuple[Change, ...] = ()
    arguments: tuple[str, ...] = (DONOR,)
    adapter: tuple[int, int, tuple[Change, ...]] | None = None


def donor(name: str, says: str, *changes: Change) -> ModelTrial:
    return ModelTrial(name, r"model\.members\.float.*" + says, changes)


def place(name: str, says: str, *arguments: str) -> ModelTrial:
    return ModelTrial(name, says, (), arguments)


def lora(name: str, says: str, *changes: Change, layers: int = 4, width: int = 96) -> ModelTrial:
    says = r"model\.members\.float(\.adapter)?: .*" + says
    return ModelTrial(name, says, (), ADAPTER, (layers, width, changes))


def pair(name: str, says: str, *changes: Change, arguments: tuple[str, ...] = (DONOR,)) -> ModelTrial:
    return ModelTrial(name, says, changes, arguments)


BROKEN = [
    donor("a tensor is missing", r"missing tensors: .*up_proj", altered.without("2.mlp.up")),
    donor("the unembedding is missing", r"missing tensors: lm_head", altered.without("lm_head")),
    donor("tensors left over", "no place for: x$", altered.retensored(lambda found: {**found, "x": torch.zeros(2)})),
    donor("no tensor at all", "missing tensors", altered.retensored(lambda found: {})),
    donor("one number is NaN", "not finite", altered.filled("1.mlp", math.nan)),
    donor("one number is infinite", "not finite", altered.filled("embed", -math.inf)),
    donor("weights cut in half", "not fully covered", altered.cut("model.safetensors", 0.5)),
    donor("weights cut by one byte", "not fully covered", altered.cut("model.safetensors", 0.9999999)),
    donor("an empty file of weights", "header too small", altered.cut("model.safetensors", 0)),
    donor(
        "a pointer in place of weights",
        "model.safetensors: ",
        altered.written("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    ),
    donor("no weights", "there is none of", altered.removed("model.safetensors")),
    donor("a lost shard", "which is not there", altered.sharded, altered.removed(SHARD)),
    donor("a cut shard", f"{SHARD}: ", altered.sharded, altered.cut(SHARD, 0.9)),
    donor("a broken index", "its weights", altered.sharded, altered.cut(INDEX, 0.5)),
    donor(
        "a pickle that runs code",
        "holds more than tensors, which is never run",
        altered.removed("model.safetensors"),
        altered.written("pytorch_model.bin", b"cbuiltins\nexec\n(Vraise SystemExit(7)\ntR."),
    ),
    donor("more layers than there are", "missing tensors: .*layers.4", altered.configured(num_hidden_layers=5)),
    donor("fewer layers than there are", "no place for: .*layers.3", altered.configured(num_hidden_layers=3)),
    donor("an absurd number of layers", "num_hidden_layers is", altered.configured(num_hidden_layers=10**6)),
    donor("an absurd vocabulary", "vocab_size is", altered.configured(vocab_size=10**12)),
    donor("another width", "tensors of another shape", altered.configured(hidden_size=48)),
    donor("a width in words", "expected int", altered.configured(hidden_size="wide")),
    donor("no heads", "its configuration", altered.configured(num_attention_heads=0)),
    donor("no config.json", r"there is no config\.json", altered.removed("config.json")),
    donor("half a config.json", r"its config\.json", altered.cut("config.json", 0.5)),
    donor("a list as config.json", "no JSON object", altered.written("config.json", "[]")),
    donor("control characters in config.json", r"its config\.json", altered.written("config.json", "\x1b[31m{\x07")),
    donor("a name with control characters", "grand", altered.configured(model_type="grand\x1b[31mma\n\nentitrack: ok")),
    donor("an unknown kind", "does not recognize", altered.configured(model_type="grandma")),
    donor("an encoder-decoder", "encoder-decoder", altered.configured(model_type="t5")),
    donor("an encoder", "is an encoder", altered.configured(model_type="bert", architectures=["BertLMHeadModel"])),
    donor("a vision model", "no language model", altered.configured(model_type="vit")),
    donor("a classifier", "not a causal", altered.configured(architectures=["LlamaForSequenceClassification"])),
    donor("its own code", "never run", EVIL, altered.configured(auto_map={"AutoModelForCausalLM": "evil.Evil"})),
    donor(
        "its own kind in its own code",
        "never run",
        EVIL,
        altered.configured(model_type="evil", auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.E"}),
    ),
    donor(
        "a tokenizer in its own code",
        "never run",
        EVIL,
        altered.merged("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="T"),
    ),
    donor("half a tokenizer", r"its tokenizer\.json", altered.cut("tokenizer.json", 0.5)),
    donor("no tokenizer", "its tokenizer", altered.removed("tokenizer.json", "tokenizer_config.json")),
    donor("an unknown quantisation", "quantisation", altered.configured(quantization_config={"quant_method": "zzz"})),
    donor("an adapter in place of a model", "is an adapter", altered.written("adapter_config.json", "{}")),
]

PLACES = [
    place("no such folder", r"model\.members\.float\.path: there is no folder", "model.members.float.path={here}/none"),
    place("a file", r"model\.members\.float\.path: .* is a file", "model.members.float.path={here}/boxes.jsonl"),
    place("an empty path", r"model\.members\.float\.path: is empty", "model.members.float.path=''"),
    place("an empty adapter", r"model\.members\.float\.adapter: is empty", "++model.members.float.adapter=''"),
    place(
        "no such member of the zoo",
        r"model\.members\.float\.path: no embedded family has 'tiny/nope'; available: .*zoo://tiny/float",
        "model.members.float.path='zoo://tiny/nope'",
    ),
    place(
        "a way out of the zoo",
        r"model\.members\.float\.path: no embedded family has",
        "model.members.float.path='zoo://../../models'",
    ),
    place("no such adapter", r"model\.members\.float\.adapter: there is no", "++model.members.float.adapter=./none"),
    place(
        "not on the hub",
        r"model\.members\.float\.path: 'no/such' is not on this machine, and the hub",
        "model.members.float.path=no/such",
    ),
    place("a path that is too long", r"cannot use 'x+' \(File name too long", f"model.members.float.path={'x' * 300}"),
    place(
        "a wrong o_proj",
        r"model\.architecture\.o_proj: its input has 256 columns, the heads 96",
        "+model.architecture={layers: model.layers, o_proj: mlp.down_proj, "
        "projections: [self_attn.q_proj, self_attn.k_proj, self_attn.v_proj]}",
    ),
    place(
        "no such o_proj",
        r"model\.architecture\.o_proj: there is no 'attn\.out'; available: ",
        "+model.architecture={layers: model.layers, o_proj: attn.out, "
        "projections: [self_attn.q_proj, self_attn.k_proj, self_attn.v_proj]}",
    ),
]

ADAPTERS = [
    lora("an adapter of a wider base", r"size mismatch .*\[4, 128\].*\[4, 96\]", width=128),
    lora("an adapter of a deeper base", "has no place in", layers=6),
    lora("an adapter of a shallower base", "lacks tensors", layers=2),
    lora("an adapter cut in half", "not fully covered", altered.cut(ADAPTED, 0.5)),
    lora("an adapter that is not finite", "not finite", altered.filled("lora_B", math.nan, ADAPTED)),
    lora("an adapter without weights", "there is no adapter_model", altered.removed(ADAPTED)),
    lora("an adapter without configuration", "there is no adapter_config", altered.removed("adapter_config.json")),
    lora("a list as adapter_config", "no JSON object", altered.written("adapter_config.json", "[]")),
    lora("an adapter for another task", "SEQ_CLS", altered.merged("adapter_config.json", task_type="SEQ_CLS")),
    lora("an adapter of other modules", "not found", altered.merged("adapter_config.json", target_modules=["c_attn"])),
    lora("an unknown kind of adapter", "NOPE", altered.merged("adapter_config.json", peft_type="NOPE")),
]

PAIRS = [
    pair("another tokenizer", r"donor: z of 'float' cannot .*tokenizers disagree", other_words),
    pair(
        "another tokenizer, evaluated",
        r"method\.models: 'float' cannot read the prompts of 'llama'",
        other_words,
        arguments=(DONOR, "method=evaluate", "method.models=[float]"),
    ),
    pair("another rotary base", r"donor: q, k of .*rotary base", ROTARY, arguments=(DONOR, *INPUT)),
    pair("more layers in the donor", r"donor: z of .*layers are 4 in", random_weights(num_hidden_layers=5)),
    pair("wider heads in the donor", r"donor: z of .*d_head is 16 in", random_weights(head_dim=32)),
    pair("another kind of norms", r"donor: z of .*norms are", random_weights("qwen3")),
    pair(
        "fewer KV heads in the donor",
        r"donor: k of .*KV heads are 6 in 'llama', 2 in 'float'; available: resid_pre, q, z, attn_out",
        random_weights(num_key_value_heads=2),
        arguments=(DONOR, *INPUT),
    ),
    pair("too small a vocabulary", r"donor: z of .*the vocabulary is", random_weights(vocab_size=10)),
]

TRIALS = [*BROKEN, *PLACES, *ADAPTERS, *PAIRS]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_what_is_wrong_with_a_model_is_one_line(
    trial: ModelTrial,
    launch: Launch,
    golden_folder: Path,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    altered.copy(golden_folder / "base", tmp_path / "broken", *trial.changes)
    if trial.adapter:
        layers, width, changes = trial.adapter
        base = altered.copy(golden_folder / "base", tmp_path / "base")
        folder = altered.adapter(tmp_path / "adapter", base, width, layers)
        for change in changes:
            change(folder)
    attempt(Trial(trial.name, trial.arguments, trial.says), launch, golden_overrides, tmp_path, capsys, monkeypatch)
