"""A checkpoint is loaded as its files say, or refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.models.anatomy import Architecture
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.models.sources import reason
from tests.models import altered
from tests.models.altered import Change

V_PROJ = "model.layers.0.self_attn.v_proj.weight"
WEIGHTS = "model.safetensors"


def load(folder: Path, adapter: Path | None = None, dtype: str = "float32", **changes: object) -> Model:
    checkpoint = Checkpoint(str(folder), str(adapter) if adapter else None)
    family = Family("broken", "base", {"base": checkpoint}, dtype=dtype, device="cpu")
    for name, value in changes.items():
        setattr(family, name, value)
    return family.load("base")


def more(**tensors: Tensor) -> Change:
    return altered.retensored(lambda found: {**found, **tensors})


def renamed(change: Callable[[str], str]) -> Change:
    return altered.retensored(lambda found: {change(name): value for name, value in found.items()})


def integers(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (100 * value).to(torch.int8) for name, value in found.items()}


UP_2 = altered.without("2.mlp.up")
AS_FOLDER = (altered.removed(WEIGHTS), lambda folder: (folder / WEIGHTS).mkdir())

REFUSED: dict[str, tuple[str, tuple[Change, ...]]] = {
    "a tensor is missing": (
        r"missing tensors: model\.layers\.2\.mlp\.up_proj\.weight$",
        (altered.without("2.mlp.up"),),
    ),
    "no unembedding": (r"missing tensors: lm_head\.weight$", (altered.without("lm_head"),)),
    "a layer is missing": (r"missing tensors: model\.layers\.3\.input.* and 6 more", (altered.without("layers.3."),)),
    "no tensors": (r"missing tensors: lm_head\.weight, .* and 36 more", (altered.retensored(lambda found: {}),)),
    "names of a wrapper": (r"missing tensors", (renamed(lambda name: f"module.{name}"),)),
    "a tensor too many": (r"no place for: model\.layers\.9\.x$", (more(**{"model.layers.9.x": torch.zeros(2)}),)),
    "a classifier": (r"no place for: score\.weight$", (more(**{"score.weight": torch.zeros(2, 96)}),)),
    "another shape": (
        r"v_proj\.weight is \(96, 100\) in the file and \(96, 96\) by its config\.json$",
        (more(**{V_PROJ: torch.zeros(96, 100)}),),
    ),
    "fewer layers": (r"no place for: model\.layers\.3\.", (altered.configured(num_hidden_layers=3),)),
    "more layers": (r"missing tensors: model\.layers\.4\.", (altered.configured(num_hidden_layers=5),)),
    "negative layers": (r"no place for: model\.layers\.0\.", (altered.configured(num_hidden_layers=-1),)),
    "absurd layers": (r"num_hidden_layers is 100000, ", (altered.configured(num_hidden_layers=10**5),)),
    "a larger vocabulary": (r"lm_head\.weight is \(256, 96\) .* \(300, 96\)", (altered.configured(vocab_size=300),)),
    "an absurd vocabulary": (r"vocab_size is 1000000000000, ", (altered.configured(vocab_size=10**12),)),
    "other KV heads": (r"k_proj\.weight is \(96, 96\) .* \(64, 96\)", (altered.configured(num_key_value_heads=4),)),
    "heads that do not divide": (r"not a multiple of the number", (altered.configured(num_attention_heads=5),)),
    "no heads": (r"its configuration", (altered.configured(num_attention_heads=0),)),
    "biases": (r"missing tensors: .*\.bias", (altered.configured(attention_bias=True),)),
    "a word for a width": (r"'hidden_size' expected int", (altered.configured(hidden_size="many"),)),
    "an unknown activation": (r"'nope' is missing, or not known", (altered.configured(hidden_act="nope"),)),
    "not a number": (r"layers\.1\.mlp\.down_proj\.weight holds .* not finite$", (altered.filled("1.mlp", math.nan),)),
    "infinite": (r"embed_tokens\.weight holds .* not finite$", (altered.filled("embed", math.inf),)),
    "minus infinite": (r"norm\.weight holds .* not finite$", (altered.filled("model.norm", -math.inf),)),
    "cut": (r"model\.safetensors: .*file not fully covered", (altered.cut(WEIGHTS, 0.5),)),
    "cut in the header": (r"model\.safetensors: .*invalid header length", (altered.cut(WEIGHTS, 0.0001),)),
    "empty": (r"model\.safetensors: .*header too small", (altered.cut(WEIGHTS, 0),)),
    "a page": (r"model\.safetensors: .*header too large", (altered.written(WEIGHTS, "<html>404 Not Found</html>"),)),
    "a header's bit": (r"model\.safetensors: ", (altered.flipped(WEIGHTS, 9, 0xFF),)),
    "whole numbers": (r"lm_head\.weight is stored as I8, ", (altered.retensored(integers),)),
    "no weights": (r"there is none of model\.safetensors, ", (altered.removed(WEIGHTS),)),
    "a folder for weights": (
        r"there is none of",
        (altered.removed(WEIGHTS), lambda folder: (folder / WEIGHTS).mkdir()),
    ),
    "a damaged pickle": (
        r"a pickled file is damaged, or holds more than tensors, which is never run\)$",
        (altered.removed(WEIGHTS), altered.written("pytorch_model.bin", b"\x80\x02cos\nsystem\nq\x00.")),
    ),
    "a broken index": (r"its weights", (altered.sharded, altered.written(f"{WEIGHTS}.index.json", "{"))),
    "an index of nothing": (r"has no weight_map", (altered.sharded, altered.written(f"{WEIGHTS}.index.json", "[]"))),
    "a shard is missing": (
        r"names 'model-2\.safetensors', which is not there",
        (altered.sharded, altered.removed("model-2.safetensors")),
    ),
    "a shard elsewhere": (
        r"names '\.\./x\.safetensors', which is not in the folder",
        (altered.sharded, altered.merged(f"{WEIGHTS}.index.json", weight_map={"a": "../x.safetensors"})),
    ),
    "a shard is cut": (r"model-2\.safetensors: ", (altered.sharded, altered.cut("model-2.safetensors", 0.9))),
    "no config.json": (r"\.path: there is no config\.json in", (altered.removed("config.json"),)),
    "an empty config.json": (r"its config\.json \(Expecting value", (altered.written("config.json", ""),)),
    "a list for config.json": (r"its config\.json \(it is no JSON object", (altered.written("config.json", "[]"),)),
    "half a config.json": (r"its config\.json \(", (altered.cut("config.json", 0.5),)),
    "a binary config.json": (r"its config\.json \(", (altered.written("config.json", b"\xff\xfe\x00"),)),
    "a deep config.json": (r"its config\.json \(maximum recursion", (altered.written("config.json", "[" * 100000),)),
    "no model_type": (r"Should have a `model_type`", (altered.configured(model_type=None),)),
    "an unknown kind": (r"model type `grandma`", (altered.configured(model_type="grandma"),)),
    "an encoder-decoder": (
        r"is an encoder-decoder \(t5\)",
        (altered.configured(model_type="t5", architectures=["T5ForConditionalGeneration"]),),
    ),
    "an encoder": (
        r"is a BertForMaskedLM, not a causal language model",
        (altered.configured(model_type="bert", architectures=["BertForMaskedLM"]),),
    ),
    "an encoder that says it generates": (
        r"is an encoder \(bert\)",
        (altered.configured(model_type="bert", architectures=["BertLMHeadModel"]),),
    ),
    "a vision model": (
        r"is no language model \(vit\)",
        (altered.configured(model_type="vit", architectures=["ViTForImageClassification"]),),
    ),
    "a classifier by name": (
        r"is a LlamaForSequenceClassification, not",
        (altered.configured(architectures=["LlamaForSequenceClassification"]),),
    ),
    "an unknown quantisation": (
        r"names a quantisation that is not known",
        (altered.configured(quantization_config={"quant_method": "zzz"}),),
    ),
    "weights by another name": (
        r"names a file of weights of its own",
        (altered.configured(transformers_weights="other.safetensors"),),
    ),
    "an adapter": (r"is an adapter; name its base", (altered.written("adapter_config.json", "{}"),)),
    "no tokenizer": (r"its tokenizer \(", (altered.removed("tokenizer.json", "tokenizer_config.json"),)),
    "half a tokenizer": (r"its tokenizer\.json \(", (altered.cut("tokenizer.json", 0.5),)),
    "a list for a tokenizer": (r"its tokenizer\.json \(it is no", (altered.written("tokenizer.json", "[]"),)),
    "an empty tokenizer": (r"its tokenizer \(", (altered.written("tokenizer.json", "{}"),)),
    "half a tokenizer_config": (r"its tokenizer_config\.json \(", (altered.cut("tokenizer_config.json", 0.5),)),
    "a list for tokenizer_config": (
        r"its tokenizer_config\.json \(it is no JSON object",
        (altered.written("tokenizer_config.json", "[]"),),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_checkpoint_is_refused(
    name: str, golden_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    says, changes = REFUSED[name]
    folder = altered.copy(golden_folder / "base", tmp_path / "it", *changes)
    with pytest.raises(UserError, match=r"^model\.members\.base.*" + says) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


LOADED: dict[str, tuple[Change, ...]] = {
    "shards": (altered.sharded,),
    "a pickle": (altered.pickled,),
    "buffers of older releases": (more(**{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)}),),
    "tensors without the prefix": (renamed(lambda name: name.removeprefix("model.")),),
}


@pytest.mark.parametrize("name", LOADED)
def test_the_same_weights_in_other_files_are_the_same_model(
    name: str, golden_folder: Path, golden_model: Model, tmp_path: Path
) -> None:
    model = load(altered.copy(golden_folder / "base", tmp_path / "it", *LOADED[name]))
    expected = golden_model.envoy._module.state_dict()
    found = model.envoy._module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_tied_weights_are_not_missing(golden_folder: Path, tmp_path: Path) -> None:
    tied = altered.configured(tie_word_embeddings=True)
    module = load(altered.copy(golden_folder / "base", tmp_path / "it", tied, altered.without("lm_head"))).envoy._module
    assert torch.equal(module.lm_head.weight, module.model.embed_tokens.weight)


def test_what_overflows_a_dtype_is_not_finite(golden_folder: Path, tmp_path: Path) -> None:
    folder = altered.copy(golden_folder / "base", tmp_path / "it", altered.filled("1.mlp", 1e30))
    with pytest.raises(UserError, match=r"not finite; if it is finite in its file, set model\.dtype=float32"):
        load(folder, dtype="float16")
    load(folder)


def evil(folder: Path) -> None:
    """Code that leaves a trace when it is run."""
    (folder / "evil.py").write_text(f"open({str(folder / 'trace')!r}, 'w')")


OWN_CODE = {
    "a model": (evil, altered.configured(auto_map={"AutoModelForCausalLM": "evil.Evil"})),
    "a configuration": (
        evil,
        altered.configured(model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.Evil"}),
    ),
    "a tokenizer": (
        evil,
        altered.merged("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="T"),
    ),
    "no map at all": (evil, altered.configured(auto_map="evil")),
}


@pytest.mark.parametrize("name", OWN_CODE)
def test_a_checkpoints_own_code_is_never_run_nor_asked_for(
    name: str, golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer_no(words: str = "") -> str:
        asked.append(words)
        return "n"

    monkeypatch.setattr("builtins.input", answer_no)
    folder = altered.copy(golden_folder / "base", tmp_path / "it", *OWN_CODE[name])
    with pytest.raises(UserError, match=r"code of its own.*, which is never run"):
        load(folder)
    assert not asked
    assert not (folder / "trace").exists()


def test_code_that_transformers_took_over_is_not_run_either(golden_folder: Path, tmp_path: Path) -> None:
    """Checkpoints that came before their class was in transformers still name their own: its namesake is used."""
    named = altered.configured(auto_map={"AutoModelForCausalLM": "evil.LlamaForCausalLM"})
    folder = altered.copy(golden_folder / "base", tmp_path / "it", evil, named)
    load(folder)
    assert not (folder / "trace").exists()


ADAPTERS: dict[str, tuple[str, dict[str, object], tuple[Change, ...]]] = {
    "wider": (r"size mismatch for .*v_proj\.lora_A.*\[4, 128\].*\[4, 96\]", {"width": 128}, ()),
    "deeper": (r"has no place in .*: \['model\.layers\.4\.", {"layers": 6}, ()),
    "shallower": (r"lacks tensors .*: \['model\.layers\.3\.", {"layers": 3}, ()),
    "another rank": (r"size mismatch for .*\[4, 96\].*\[8, 96\]", {"r": 8}, ()),
    "other modules": (r"Target modules \{'c_attn'\} not found", {"target_modules": ["c_attn"]}, ()),
    "fewer modules": (r"has no place in .*v_proj", {"target_modules": ["q_proj"]}, ()),
    "more modules": (r"lacks tensors .*q_proj", {"target_modules": ["q_proj", "v_proj"]}, ()),
    "another task": (r"is for SEQ_CLS, not for CAUSAL_LM", {"task_type": "SEQ_CLS"}, ()),
    "an unknown kind": (r"'NOPE' is missing, or not known", {"peft_type": "NOPE"}, ()),
    "another kind": (r"has no place in", {"peft_type": "IA3"}, ()),
    "virtual tokens": (r"PROMPT_TUNING adapter", {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}, ()),
    "a word for a rank": (r"cannot load", {"r": "x"}, ()),
    "cut": (r"adapter_model\.safetensors: .*not fully covered", {}, (altered.cut("adapter_model.safetensors", 0.5),)),
    "empty": (r"header too small", {}, (altered.written("adapter_model.safetensors", ""),)),
    "no tensors": (
        r"lacks tensors",
        {},
        (altered.retensored(lambda found: {}, "adapter_model.safetensors"),),
    ),
    "other names": (
        r"has no place in",
        {},
        (
            altered.retensored(
                lambda found: {name.replace("base_model.model", "m"): value for name, value in found.items()},
                "adapter_model.safetensors",
            ),
        ),
    ),
    "no weights": (r"there is no adapter_model\.safetensors or", {}, (altered.removed("adapter_model.safetensors"),)),
    "no configuration": (r"there is no adapter_config\.json", {}, (altered.removed("adapter_config.json"),)),
    "half a configuration": (r"cannot load", {}, (altered.cut("adapter_config.json", 0.5),)),
    "a list for a configuration": (r"it is no JSON object", {}, (altered.written("adapter_config.json", "[]"),)),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_does_not_fit_is_refused(
    name: str, golden_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    says, made, changes = ADAPTERS[name]
    folder = altered.adapter(tmp_path / "it", golden_folder / "base", **made)  # type: ignore[arg-type]
    for change in changes:
        change(folder)
    with pytest.raises(UserError, match=r"^model\.members\.base\.adapter: .*" + says) as error:
        load(golden_folder / "base", folder)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_an_adapter_of_other_weights_of_the_same_shape_is_refused(golden_folder: Path, tmp_path: Path) -> None:
    folder = altered.adapter(tmp_path / "it", golden_folder / "donor")
    with pytest.raises(UserError, match=r"\.adapter: .* was made on '.*donor', not on '.*base'; set .*\.path=.*donor"):
        load(golden_folder / "base", folder)
    twin = altered.copy(golden_folder / "base", tmp_path / "twin")
    load(twin, altered.adapter(tmp_path / "other", golden_folder / "base"))


def test_an_adapter_that_is_not_finite_is_refused(golden_folder: Path, tmp_path: Path) -> None:
    folder = altered.adapter(tmp_path / "it", golden_folder / "base")
    altered.filled("lora_A", math.nan, "adapter_model.safetensors")(folder)
    with pytest.raises(UserError, match=r"v_proj\.lora_A\.adapter_0\.weight holds numbers that are not finite"):
        load(golden_folder / "base", folder)


def test_an_adapter_that_fits_is_there(golden_folder: Path, golden_model: Model, tmp_path: Path) -> None:
    folder = altered.adapter(tmp_path / "it", golden_folder / "base")
    tensors = load_file(folder / "adapter_model.safetensors")
    module = load(golden_folder / "base", folder).envoy._module
    name = "base_model.model.model.layers.2.self_attn.v_proj"
    update = 2 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    z = torch.randn(5, 96)
    before = golden_model.envoy._module.model.layers[2].self_attn.v_proj(z)
    assert torch.allclose(module.model.layers[2].self_attn.v_proj(z), before + z @ update.T, atol=1e-5)


def test_a_folder_that_is_written_to_while_it_is_loaded_is_refused(
    golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = altered.copy(golden_folder / "base", tmp_path / "it")
    from entitrack.models import family

    real = family.load_base

    def meanwhile(*arguments: object) -> object:
        found = real(*arguments)  # type: ignore[arg-type]
        altered.flipped(WEIGHTS, 900_000)(folder)
        return found

    monkeypatch.setattr(family, "load_base", meanwhile)
    with pytest.raises(UserError, match=r"changed while it was loaded; give the command again"):
        load(folder)


GIVEN = Architecture()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"o_proj": "self_attn.out"}, r"o_proj: there is no 'self_attn\.out'; available: .*self_attn\.o_proj"),
        ({"o_proj": "mlp.down_proj"}, r"o_proj: its input has 256 columns, the heads 96"),
        ({"layers": "model.blocks"}, r"layers: there is no 'model\.blocks'; available: .*model\.layers"),
        ({"layers": "model"}, r"layers: 'model' is no list of 4 layers"),
        (
            {"projections": ("mlp.up_proj", "self_attn.k_proj", "self_attn.v_proj")},
            r"projections: its output has 256 columns, the heads 96",
        ),
        ({"final_norm": "model.ln"}, r"final_norm: there is no 'model\.ln'"),
        ({"mlp": "ffn"}, r"mlp: there is no 'ffn'; available: .*mlp"),
    ],
)
def test_an_architecture_that_is_not_this_models_is_refused(
    golden_folder: Path, changes: dict[str, object], says: str
) -> None:
    given = Architecture(**{**GIVEN.__dict__, **changes})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^model\.architecture\." + says):
        load(golden_folder / "base", architecture=given)


@pytest.mark.parametrize(
    "path", ["/nowhere", "./nowhere", "~/nowhere", "a/b/c", "", " ", "zoo://tiny/nope", "zoo://../llama"]
)
@pytest.mark.parametrize("key", ["path", "adapter"])
def test_a_place_that_is_not_there_is_named(golden_folder: Path, key: str, path: str) -> None:
    checkpoint = Checkpoint(**{"path": str(golden_folder / "base"), key: path})
    with pytest.raises(UserError, match=rf"^model\.members\.base\.{key}: (there is no folder|is empty|no embedded)"):
        Family("broken", "base", {"base": checkpoint}, device="cpu").load("base")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "MemoryError"),
        (ValueError("\n\n one \n two"), "one"),
        (RuntimeError("Error(s) in loading:\n\tsize mismatch"), "Error(s) in loading: size mismatch"),
        (OSError(24, "Too many open files", "x"), "Too many open files: 'x'"),
        (ValueError("a\x1b[31mb"), "a [31mb"),
        (ValueError("x" * 5000), "x" * 400 + "..."),
    ],
)
def test_any_error_has_a_reason_of_one_line(error: Exception, says: str) -> None:
    assert reason(error) == says
