"""Several adapters on one model, kept beside its weights or merged into them; and what a member may be held in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.models.checkpoint import Adapter, Checkpoint
from entitrack.models.family import Family
from tests.models import altered

LAYER = "model.layers.2.self_attn.v_proj"


def one(folder: Path, base: Path, scale: float = 1.0) -> Path:
    """An adapter on value projections, its B scaled."""
    altered.adapter(folder, base)
    altered.retensored(
        lambda found: {name: value * scale if "lora_B" in name else value for name, value in found.items()},
        "adapter_model.safetensors",
    )(folder)
    return folder


@pytest.fixture
def two(golden_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    return one(tmp_path / "one", golden_folder / "base"), one(tmp_path / "other", golden_folder / "base", -3.0)


def member(base: Path, *adapters: tuple[Path, bool], **more: Any) -> Checkpoint:
    listed = [Adapter(path=str(folder), merged=merged) for folder, merged in adapters]
    return Checkpoint(str(base), adapters=listed, **more)


def logits(family: Family, name: str) -> Tensor:
    tokens = torch.arange(7)[None]
    return family.load(name).envoy._module(tokens).logits


@torch.no_grad()
def test_kept_and_merged_adapters_compute_the_same(golden_folder: Path, two: tuple[Path, Path]) -> None:
    base, (first, second) = golden_folder / "base", two
    manners = {f"{a}{b}": ((first, a), (second, b)) for a in (False, True) for b in (False, True)}
    members = {name: member(base, *adapters) for name, adapters in manners.items()}
    members |= {"none": member(base), "first": member(base, (first, False))}
    family = Family("adapted", "none", members, device="cpu")
    found = {name: logits(family, name) for name in members}
    expected = found["TrueTrue"]
    for name in manners:
        torch.testing.assert_close(found[name], expected, atol=1e-4, rtol=1e-4)
    for name in ("none", "first"):
        assert (found[name] - expected).abs().max() > 1e-2
    assert len({family.load(name).identity.digest for name in members}) == len(members)
    names = [name for name, _ in family.load("TrueTrue").envoy._module.named_parameters()]
    assert names == [name for name, _ in family.load("none").envoy._module.named_parameters()]


@torch.no_grad()
def test_what_is_merged_is_added_to_the_weights(golden_folder: Path, two: tuple[Path, Path]) -> None:
    base, (first, _) = golden_folder / "base", two
    family = Family("adapted", "none", {"none": member(base), "it": member(base, (first, True))}, device="cpu")
    before = family.load("none").envoy._module.get_submodule(LAYER).weight.clone()
    kept = Family("kept", "it", {"it": Checkpoint(str(base), str(first))}, device="cpu").load("it")
    update = kept.envoy._module.get_submodule(LAYER).get_delta_weight("adapter_0")
    merged = family.load("it").envoy._module.get_submodule(LAYER).weight
    torch.testing.assert_close(merged, before + update)
    assert torch.equal(family.load("none").envoy._module.get_submodule(LAYER).weight, before)


def identities(base: Path, *several: tuple[tuple[Path, bool], ...]) -> list[str]:
    members = {f"m{number}": member(base, *adapters) for number, adapters in enumerate(several)}
    family = Family("adapted", "m0", members, device="cpu")
    return [family.load(name).identity.adapter for name in members]


def test_identity_covers_every_adapters_bytes_their_order_and_manner(
    golden_folder: Path, two: tuple[Path, Path]
) -> None:
    base, (first, second) = golden_folder / "base", two
    manners = (
        ((first, False), (second, False)),
        ((second, False), (first, False)),
        ((first, True), (second, False)),
        ((first, False),),
        ((first, True),),
        (),
    )
    before = identities(base, *manners)
    assert len(set(before)) == len(before)
    assert before[-1] == ""
    altered.filled("layers.3.self_attn.v_proj.lora_B", 0.125, "adapter_model.safetensors")(second)
    after = identities(base, *manners)
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True, True, False, False, False]


def test_one_adapter_is_the_same_named_either_way(golden_folder: Path, two: tuple[Path, Path]) -> None:
    base, (first, _) = golden_folder / "base", two
    members = {"a": Checkpoint(str(base), str(first)), "b": member(base, (first, False))}
    family = Family("adapted", "a", members, device="cpu")
    assert family.load("a").identity == family.load("b").identity


def refused(says: str, base: Path, *adapters: tuple[Path, bool], **more: Any) -> None:
    with pytest.raises(UserError, match=says) as error:
        Family("it", "it", {"it": member(base, *adapters)}, device="cpu", **more).load("it")
    assert "\n" not in str(error.value)


def test_each_is_refused_under_its_own_key(golden_folder: Path, two: tuple[Path, Path], tmp_path: Path) -> None:
    base, first = golden_folder / "base", (two[0], False)
    deeper = altered.adapter(tmp_path / "deeper", base, layers=6)
    for merged in (False, True):
        says = r"^model\.members\.it\.adapters\.1: the adapter .*deeper' has no place"
        refused(says, base, first, (deeper, merged))
    says = r"^model\.members\.it\.adapters\.1\.path: there is no folder"
    refused(says, base, first, (tmp_path / "no", True))
    whole = altered.adapter(tmp_path / "whole", base, modules_to_save=["lm_head"])
    refused(r"adapters\.1: .*replaces whole modules", base, first, (whole, False))


def test_tied_weights_take_no_merging(golden_folder: Path, tmp_path: Path) -> None:
    changes = altered.configured(tie_word_embeddings=True), altered.without("lm_head")
    tied = altered.copy(golden_folder / "base", tmp_path / "tied", *changes)
    adapter = altered.adapter(tmp_path / "it", tied, target_modules=["lm_head"])
    altered.retensored(
        lambda found: {
            "base_model.model.lm_head.lora_A.weight": torch.ones(4, 96),
            "base_model.model.lm_head.lora_B.weight": torch.ones(256, 4),
        },
        "adapter_model.safetensors",
    )(adapter)
    refused(r"adapters\.0: .*for weights that two layers share.*keep it \(merged: false\)", tied, (adapter, True))


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match=r"^adapters: .*is not used with adapter; name that one first"):
        Checkpoint("here", "there", adapters=[Adapter(path="elsewhere")])
    with pytest.raises(UserError, match=r"^quantisation: .*cannot be merged into quantised weights"):
        Checkpoint("here", adapters=[Adapter(path="there", merged=True)], quantisation="4bit")
    with pytest.raises(UserError, match=r"^quantisation: '2bit' is not one of .*8bit.*4bit|quantisation"):
        Checkpoint("here", quantisation="2bit")
    with pytest.raises(UserError, match=r"held: "):
        Family("it", "it", {"it": Checkpoint("here")}, held=0)


@pytest.mark.parametrize(
    ("adapters", "says"),
    [
        (
            [Adapter(path="zoo://tiny/goat", merged=True)],
            r"adapters\.0: a server merges no adapter into weights; run it",
        ),
        ([Adapter(path="zoo://tiny/goat")] * 2, r"adapters\.1: a server takes one adapter; run it here"),
        ([Adapter(path="zoo://tiny/goat", revision="x")], r"adapters\.0: a server takes an adapter's main revision"),
    ],
)
def test_what_a_server_cannot_do_is_refused(adapters: list[Adapter], says: str) -> None:
    members = {"it": Checkpoint("zoo://tiny/llama", adapters=adapters)}
    with pytest.raises(UserError, match=r"^model\.members\.it\." + says):
        Family("it", "it", members, dispatch=False).load("it")


PLACES: dict[str, tuple[Any, str]] = {
    "unknown": ("gpu", r"^model\.device: unknown device 'gpu'; available: auto, cpu, .*balanced"),
    "absent": ("cuda:7", r"^model\.device: 'cuda:7' is not there; use model\.device=cpu"),
    "balanced": ("balanced", r"^model\.device: 'balanced' spreads layers over several CUDA devices, and there are 0"),
    "a part": ({"model": "cpu", "lm_head": "cuda"}, r"^model\.device\.lm_head: 'cuda' is not there"),
    "no part": ({}, r"^model\.device: has no parts; name a device"),
    "parts left out": ({"lm_head": "cpu"}, r"^model\.device: says nothing of model\.embed_tokens\.weight; give every"),
    "no such part": (
        {"": "cpu", "model.layer": "cpu"},
        r"^model\.device\.model\.layer: the model has no such part; av",
    ),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without CUDA says")
@pytest.mark.parametrize("name", PLACES)
def test_places_that_are_not_here_are_refused(name: str, golden_folder: Path) -> None:
    device, says = PLACES[name]
    with pytest.raises(UserError, match=says):
        Family("it", "it", {"it": Checkpoint(str(golden_folder / "base"))}, device=device).load("it")


def test_offloading_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^model\.device: parts are on cpu and cuda, between which they "):
        Family("it", "it", {"it": Checkpoint("here")}, device={"model": "cuda:0", "lm_head": "cpu"}).load("it")


def test_a_members_own_place_comes_first(golden_folder: Path) -> None:
    parts = {"model": "cpu", "lm_head": "cpu"}
    base = str(golden_folder / "base")
    members = {"a": Checkpoint(base, device="cpu"), "b": Checkpoint(base, device=parts), "c": Checkpoint(base)}
    family = Family("it", "a", members, device="cuda:7")
    assert torch.equal(logits(family, "a"), logits(family, "b"))
    assert family.load("a").identity == family.load("b").identity
    with pytest.raises(UserError, match=r"^model\.device: 'cuda:7' is not there"):
        family.load("c")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without CUDA says")
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantisation_is_refused_by_name_before_anything_loads(
    kind: Any, golden_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(golden_folder / "base")
    family = Family("two", "a", {"a": Checkpoint(base), "b": Checkpoint(base, quantisation=kind)}, device="cpu")
    monkeypatch.setattr("entitrack.models.family.load_base", lambda *given: pytest.fail("something was loaded"))
    with pytest.raises(UserError) as error:
        family.checkpoint("b", "donor")
    line = str(error.value)
    assert line.startswith(f"model.members.b.quantisation: '{kind}' needs a CUDA device and ")
    assert line.endswith("; leave it out, and set model.dtype=bfloat16 to hold weights in half")


def test_quantisation_says_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    from entitrack.models.devices import check_quantisation

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(UserError, match=r"'8bit' needs the library bitsandbytes \(pip install bitsandbytes\)"):
        check_quantisation("8bit", "cuda", "here")
    monkeypatch.setattr("entitrack.models.devices.find_spec", lambda name: object())
    with pytest.raises(UserError, match=r"'8bit' needs its weights there: they are to be on cuda:0, cpu"):
        check_quantisation("8bit", {"model": "cuda:0", "lm_head": "cpu"}, "here")
    check_quantisation("4bit", {"model": "cuda:0"}, "here")
    check_quantisation("4bit", "balanced", "here")


@pytest.mark.parametrize(("kind", "told"), [("8bit", {"load_in_8bit": True}), ("4bit", {"load_in_4bit": True})])
def test_bitsandbytes_is_told(
    kind: Any, told: dict[str, bool], golden_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(Exception):
        pass

    def look(*_: Any, **loading: Any) -> None:
        found = loading["quantization_config"]
        assert all(getattr(found, name) == value for name, value in told.items())
        assert kind == "8bit" or (found.bnb_4bit_quant_type, found.bnb_4bit_compute_dtype) == ("nf4", torch.float32)
        raise Told("seen")

    monkeypatch.setattr("entitrack.models.family.check_quantisation", lambda *_: None)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", look)
    checkpoint = Checkpoint(str(golden_folder / "base"), quantisation=kind)
    with pytest.raises(UserError, match="seen"):
        Family("it", "it", {"it": checkpoint}, device="cpu").load("it")


def test_a_run_refuses_a_donor_that_cannot_be_held_before_its_base_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from entitrack.cli.config import check
    from entitrack.run import execute
    from tests.cli.test_config import compose

    monkeypatch.setattr("entitrack.models.family.load_base", lambda *given: pytest.fail("something was loaded"))
    words = ("method=cmap", "donor=float", "++model.members.float.device=cuda:7", "store=null")
    with pytest.raises(UserError, match=r"^model\.members\.float\.device: 'cuda:7' is not there"):
        execute(check(compose(*words)))
