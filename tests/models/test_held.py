"""Weights are in memory once, few at a time, and come back when they are needed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model

from entitrack.core.errors import UserError
from entitrack.methods import run_method, settings_of
from entitrack.methods.experiment import Experiment
from entitrack.models import family as families
from entitrack.models.checkpoint import Adapter, Checkpoint
from entitrack.models.family import Family, Model
from entitrack.models.held import Held, shared_copy, tensor_bytes
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import Boxes
from tests.models import altered

ON_LLAMA = ("zoo://tiny/llama", "zoo://tiny/goat")
FOUR = {
    "llama": Checkpoint("zoo://tiny/llama"),
    "vicuna": Checkpoint("zoo://tiny/vicuna"),
    "float": Checkpoint("zoo://tiny/float"),
    "goat": Checkpoint(ON_LLAMA[0], adapters=[Adapter(path=ON_LLAMA[1], merged=True)]),
}
"""Four members that share no weights."""


class Alive:
    """The bases that were loaded, and how many of them are there at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parameters: list[list[weakref.ref[Any]]] = []
        self.most = 0
        real = families.load_base

        def watched(*given: Any) -> Any:
            module = real(*given)
            self.parameters.append([weakref.ref(parameter) for parameter in module.parameters()])
            self.most = max(self.most, self.count)
            return module

        monkeypatch.setattr(families, "load_base", watched)

    @property
    def count(self) -> int:
        """How many have a parameter that is in memory."""
        gc.collect()
        return sum(any(one() is not None for one in of_base) for of_base in self.parameters)

    @property
    def loads(self) -> int:
        return len(self.parameters)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Alive:
    return Alive(monkeypatch)


def experiment(held: int | None, count: int = 6) -> Experiment:
    family = Family("tiny", "llama", FOUR, device="cpu", held=held)
    return Experiment(family, Boxes(count=count, boxes=2), Runner(Local()), "float", batch_size=count)


ASKED: dict[str, dict[str, Any]] = {
    "evaluate": {},
    "cmap": {"controls": 0},
    "cmap_matrix": {"controls": 0},
}
"""Methods of one member after another, of two at a time, and of all with all."""


@pytest.mark.parametrize("method", ASKED)
def test_four_members_are_never_held_at_once(method: str, alive: Alive) -> None:
    settings = settings_of(method)(**ASKED[method])
    free = run_method(method, experiment(held=4), settings)
    alive.most, before = 0, alive.count
    bound = experiment(held=2)
    found = run_method(method, bound, settings)
    assert alive.most - before <= 2
    assert torch.equal(found["correct"].values, free["correct"].values)
    bound.family.release()
    assert alive.count == 0


def test_one_after_another_is_loaded_once(alive: Alive) -> None:
    run_method("evaluate", experiment(held=2), settings_of("evaluate")())
    assert alive.loads == len(FOUR)


def test_small_models_are_kept_and_large_ones_are_not(alive: Alive, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family("tiny", "llama", FOUR, device="cpu")
    for name in (*FOUR, *FOUR):
        family.load(name).envoy  # noqa: B018 - it is what loads
    assert (alive.loads, alive.count) == (4, 4)
    monkeypatch.setattr("entitrack.models.held.LITTLE", 3 * tensor_bytes(family.load("llama").envoy._module))
    family.release()
    for name in FOUR:
        family.load(name).envoy  # noqa: B018
    assert alive.count == 3


def test_what_was_let_go_comes_back_as_it_was() -> None:
    family = Family("tiny", "llama", FOUR, device="cpu", held=1)
    model = family.load("llama")
    before = {name: value.clone() for name, value in model.envoy._module.state_dict().items()}
    kept = weakref.ref(model.envoy._module)
    family.load("float")
    gc.collect()
    assert kept() is None
    assert model.tokenizer is family.tokenizer
    assert family.load("llama") is model
    after = model.envoy._module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_comes_back_as_another_model_is_refused(golden_folder: Path, tmp_path: Path) -> None:
    folder = altered.copy(golden_folder / "base", tmp_path / "it")
    members = {"it": Checkpoint(str(folder)), "other": Checkpoint(str(golden_folder / "donor"))}
    family = Family("two", "it", members, device="cpu", held=1)
    model = family.load("it")
    family.load("other")
    altered.filled("1.mlp", 0.5)(folder)
    with pytest.raises(UserError, match=r"^model\.members\.it: 'it' is another model than when this run began"):
        model.envoy  # noqa: B018


def pointers(model: Model) -> set[int]:
    return {value.data_ptr() for value in (*model.envoy._module.parameters(), *model.envoy._module.buffers())}


def test_a_lora_donor_shares_the_bases_weights(tiny_family: Family, alive: Alive) -> None:
    family = Family("tiny", "llama", tiny_family.members, device="cpu")
    base, donor = family.load("llama"), family.load("goat")
    assert pointers(base) < pointers(donor)
    own = [name for name, value in donor.envoy._module.named_parameters() if value.data_ptr() not in pointers(base)]
    assert own
    assert all(".lora_" in name for name in own)
    assert alive.loads == 1
    assert base.envoy._module is not donor.envoy._module
    assert not any(".lora_" in name for name, _ in base.envoy._module.named_parameters())


def test_running_the_one_leaves_the_other_as_it_was(tiny_family: Family) -> None:
    family = Family("tiny", "llama", tiny_family.members, device="cpu")
    base = family.load("llama")
    tokens = base.tokenizer("Box Q contains the book", return_tensors="pt")["input_ids"]

    def logits(model: Model) -> torch.Tensor:
        with model.envoy.trace(tokens):
            found = model.envoy.lm_head.output.save()
        return found

    before, donor = logits(base), family.load("goat")
    assert not torch.equal(logits(donor), before)
    assert torch.equal(logits(base), before)


@pytest.fixture
def module(tiny_family: Family) -> Any:
    return shared_copy(tiny_family.load("llama").envoy._module)


def test_a_shared_copy_has_its_own_modules_and_the_same_tensors(module: Any) -> None:
    copied: Any = shared_copy(module)
    assert {id(part) for part in module.modules()}.isdisjoint(id(part) for part in copied.modules())
    for (name, one), (other_name, other) in zip(module.named_parameters(), copied.named_parameters(), strict=True):
        assert (name, id(one)) == (other_name, id(other))


def test_a_copy_of_a_dispatched_module_runs_its_own_layers(module: Any) -> None:
    """Accelerate puts a function of its own in the place of every part's forward."""
    parts = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    parts |= {f"model.layers.{number}": "cpu" for number in range(4)}
    tokens = torch.arange(5)[None]
    expected = module(tokens).logits
    dispatched = dispatch_model(module, parts, main_device="cpu", force_hooks=True)
    copied: Any = shared_copy(dispatched)
    assert torch.equal(copied(tokens).logits, expected)
    seen: list[Any] = []
    for part in copied.modules():
        part.register_forward_hook(lambda part, *_: seen.append(part))
    dispatched(tokens)
    assert not seen
    copied(tokens)
    assert copied.model.layers[2].mlp in seen


def test_tensors_that_layers_keep_elsewhere_are_shared_too(module: Any) -> None:
    """As those of 8-bit layers, in an object of their own."""

    class State:
        def __init__(self) -> None:
            self.codes = torch.zeros(3)

    module.lm_head.state, module.lm_head.scale = State(), torch.ones(2)
    copied: Any = shared_copy(module)
    assert copied.lm_head.state.codes is module.lm_head.state.codes
    assert copied.lm_head.scale is module.lm_head.scale


def test_the_one_used_longest_ago_goes_first() -> None:
    held = Held(2)
    load: Callable[[], Any] = lambda: torch.nn.Linear(1, 1)  # noqa: E731
    for key in ("a", "b"):
        held.base(key, None, load).members[key] = key
    assert held.member("a") == "a"
    held.base("c", None, load).members["c"] = "c"
    assert [held.member(key) for key in "abc"] == ["a", None, "c"]
    assert len(held) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_loading_says_so_in_one_line_on_a_terminal(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_family: Family
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    family = Family("tiny", "llama", tiny_family.members, device="cpu")
    for name in ("llama", "goat"):
        family.load(name)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == terminal
    if terminal:
        assert lines[0].startswith("loading llama: zoo://tiny/llama ... 0.00 GB in ")


def test_what_fails_to_load_ends_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, golden_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    folder = altered.copy(golden_folder / "base", tmp_path / "it", altered.without("2.mlp.up"))
    with pytest.raises(UserError):
        Family("it", "it", {"it": Checkpoint(str(folder))}, device="cpu").load("it")
    assert capsys.readouterr().err.endswith(" ... failed\n")
