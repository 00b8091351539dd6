"""Prompts that begin alike: whatever is read of them is what a pass a prompt has, and nothing is run twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.components import COMPONENTS, WITH_HEADS
from entitrack.engine import shared_prefixes
from entitrack.engine.patching import answer, answer_patched, read_sites
from entitrack.engine.runs import look, run_prompts, show
from entitrack.engine.shared_prefixes import find_shared
from entitrack.models.anatomy import ARCHITECTURES
from entitrack.models.family import Family, Model
from entitrack.runtime.backends import Local, dry_run
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.encoding import encode
from tests.engine.test_architectures import wrapped
from tests.naive import tiny
from tests.naive.prompts import Prompts

STEM_OF = [0, 1, 0, 0, 1, 2, 1, 0]
STEMS, ENDS = [9, 11, 9], [3, 2, 3, 2, 3, 4, 3, 3]
"""Tokens of each beginning, and how many follow it in each prompt."""
TOLERANCE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def alike(padding: str, seed: int = 0) -> dict[str, Tensor]:
    """Random prompts of three beginnings, one of which has no other prompt; of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    stems = [torch.randint(1, 32, (length,), generator=generator) for length in STEMS]
    rows = [
        torch.cat([stems[stem], torch.randint(1, 32, (length,), generator=generator)])
        for stem, length in zip(STEM_OF, ENDS, strict=True)
    ]
    width = max(len(row) for row in rows)
    tokens, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(width - len(row), None) if padding == "left" else slice(len(row))
        tokens[number, place], mask[number, place] = row, 1
    last = torch.full((len(rows),), width - 1) if padding == "left" else mask.sum(1) - 1
    return {"tokens": tokens, "mask": mask, "last": last, "answers": torch.arange(len(rows)) + 3}


def run(model: Model, function: Any, backend: Local | None = None, **inputs: Any) -> Any:
    return (backend or Local()).run(model, function, {"anatomy": model.anatomy, **inputs})


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Another pass costs nothing, so that few and short prompts share their beginnings too."""
    monkeypatch.setattr(shared_prefixes, "pass_in_tokens", lambda anatomy: 1)
    return monkeypatch


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prefixes, "pass_in_tokens", lambda anatomy: 1e9)


def one_by_one(module: Any, prompts: dict[str, Tensor]) -> Tensor:
    """A pass a prompt of the plain module, without padding."""
    logits = []
    for tokens, mask in zip(prompts["tokens"], prompts["mask"].bool(), strict=True):
        logits.append(Prompts(tokens[mask][None]).logits(module)[0, -1])
    return torch.stack(logits)


def looked(model: Any, anatomy: Any, prompts: Any) -> dict[str, Any]:
    """Logits, and every component of every layer, of a run that looks and of one that shows."""
    seen: list[dict[str, Tensor]] = [{}, {}]

    def keep(where: dict[str, Tensor], name: str) -> Any:
        return lambda values: where.update({name: values.clone()})

    visits = [
        {la: {name: keep(where, f"{name} {la}") for name in COMPONENTS} for la in range(anatomy["n_layers"])}
        for where in seen
    ]
    logits = look(model, anatomy, prompts, visits[0])
    show(model, anatomy, {"tokens": prompts["tokens"], "mask": prompts["mask"]}, visits[1])
    return {"logits": logits, "looked": seen[0], "shown": seen[1]}


def kept(model: Any, anatomy: Any, prompts: Any, fills: Any = None, places: Any = None) -> dict[str, Any]:
    layers = range(anatomy["n_layers"])
    found = run_prompts(model, anatomy, prompts, layers, layers, places=places, fills=fills)
    return {name: found[name] for name in ("streams", "z", "keys", "values", "logits")}  # type: ignore[literal-required]


def real_tokens(value: Any, mask: Tensor, axis: int = 1) -> Any:
    """A component at the tokens that are no padding, which nobody reads."""
    return value.movedim(axis, 1)[mask.bool()]


def test_stems_are_found(always: pytest.MonkeyPatch) -> None:
    _, model = wrapped("llama")
    prompts = alike("right")
    shared = find_shared(model.anatomy, prompts)
    assert shared is not None
    assert len(shared["stems"]) == 3
    assert shared["length"] == 3
    for row, stem in enumerate(shared["stem_of"]):
        start = shared["starts"][row]
        assert torch.equal(prompts["tokens"][row, :start], prompts["tokens"][shared["stems"][stem], :start])
        assert STEM_OF[row] == STEM_OF[int(shared["stems"][stem])]


def test_nothing_is_shared_where_nothing_is_alike_or_it_does_not_pay() -> None:
    _, model = wrapped("llama")
    assert find_shared(model.anatomy, alike("right")) is None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_prefixes, "pass_in_tokens", lambda anatomy: 1)
        tokens = torch.arange(40).view(4, 10)
        assert find_shared(model.anatomy, {"tokens": tokens, "mask": torch.ones_like(tokens)}) is None
        one = {name: values[:1] for name, values in alike("right").items()}
        assert find_shared(model.anatomy, one) is None


@torch.no_grad()
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES)))
def test_what_is_read_is_what_a_pass_a_prompt_has(architecture: str, padding: str, always: pytest.MonkeyPatch) -> None:
    module, model = wrapped(architecture)
    prompts = alike(padding)
    assert find_shared(model.anatomy, prompts) is not None
    found = run(model, looked, prompts=prompts)
    scale = found["logits"].abs().max().clamp(min=1)
    torch.testing.assert_close(found["logits"] / scale, one_by_one(module, prompts) / scale, atol=1e-5, rtol=0)
    never(always)
    expected = run(model, looked, prompts=prompts)
    for how in ("looked", "shown"):
        assert found[how].keys() == expected[how].keys()
        for name, values in expected[how].items():
            there = real_tokens(found[how][name], prompts["mask"])
            torch.testing.assert_close(there, real_tokens(values, prompts["mask"]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "gpt_neox"])
def test_what_runs_start_from_is_the_same(
    architecture: str, filled: bool, padding: str, always: pytest.MonkeyPatch
) -> None:
    _, model = wrapped(architecture)
    prompts, fills = alike(padding), None
    if filled:
        width = prompts["tokens"].shape[1]
        fills = [torch.randn(1, width, 32 if architecture != "gpt_neox" else 24) for _ in range(2)]
    found = run(model, kept, prompts=prompts, fills=fills)
    places = torch.stack([prompts["last"] - 6, prompts["last"]], 1)
    at_places = run(model, kept, prompts=prompts, fills=fills, places=places)
    never(always)
    expected = run(model, kept, prompts=prompts, fills=fills)
    torch.testing.assert_close(found["logits"], expected["logits"], atol=1e-4, rtol=1e-4)
    for name in ("streams", "z", "keys", "values"):
        for layer, values in expected[name].items():
            axis = 2 if name in ("keys", "values") else 1
            there = real_tokens(found[name][layer], prompts["mask"], axis)
            torch.testing.assert_close(there, real_tokens(values, prompts["mask"], axis), atol=1e-4, rtol=1e-4)
    expected = run(model, kept, prompts=prompts, fills=fills, places=places)
    for name in ("streams", "z"):
        for layer, values in expected[name].items():
            torch.testing.assert_close(at_places[name][layer], values, atol=1e-4, rtol=1e-4)


def patches_of(model: Model, prompts: dict[str, Tensor], seed: int = 0) -> list[dict[str, Any]]:
    """Of every component in both layers, early and late, noise as large as what is there."""
    generator, patches = torch.Generator().manual_seed(seed), []
    for layer in (1, 0):
        for back in (0, 2, 5):
            for component in COMPONENTS:
                site: dict[str, Any] = {"component": component, "layer": layer, "position": prompts["last"] - back}
                if component in WITH_HEADS:
                    site["heads"] = [1, 0]
                (own,) = run(model, read_sites, prompts=prompts, sites=[site])["values"]
                noise = torch.randn(own.shape, generator=generator)
                patches.append({**site, "values": own + noise * own.std()})
    return patches


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "gpt_neox"])
def test_branches_answer_as_whole_passes(
    architecture: str, padding: str, held: bool, always: pytest.MonkeyPatch
) -> None:
    """Every component in every layer, in the last layer too; one for all prompts; several together; held and not."""
    _, model = wrapped(architecture)
    prompts = alike(padding)
    patches = patches_of(model, prompts)
    patches.append({**patches[0], "values": patches[0]["values"][:1]})
    variants = [[], *([number] for number in range(len(patches))), [3, 9, 20], [0, 30, 12]]
    live = None
    if held:
        site = {"component": "z", "layer": 1, "heads": [2], "position": prompts["last"] - 3}
        live = [[site] if number % 2 else [] for number in range(len(variants))]
    inputs: dict[str, Any] = {"prompts": prompts, "patches": patches, "variants": variants, "live": live}
    found = run(model, answer_patched, **inputs)["probability"]
    never(always)
    model.anatomy["factorised"] = False  # then every variant is a whole pass
    expected = run(model, answer_patched, **inputs)["probability"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (expected[1:] - expected[0]).abs().amax(1).gt(1e-4).float().mean() > 0.5


def boxes(family: Family, count: int) -> tuple[Model, dict[str, Tensor]]:
    model = family.load(family.base)
    batch = encode(Boxes(count=count).prompts(), family.tokenizer)
    last = batch.positions["last"]
    return model, {"tokens": batch.tokens, "mask": batch.mask, "last": last, "answers": batch.answers}


def test_questions_of_one_context_share_it(tiny_family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = boxes(tiny_family, 42)
    shared = find_shared(model.anatomy, prompts)
    assert shared is not None
    assert (len(shared["stems"]), shared["length"]) == (6, 3)
    found = run(model, answer, prompts=prompts)
    travelled = run(model, answer, dry_run(), prompts=prompts)
    never(monkeypatch)
    expected = run(model, answer, prompts=prompts)
    assert torch.equal(found["prediction"], expected["prediction"])
    torch.testing.assert_close(found["probability"], expected["probability"], **TOLERANCE)
    torch.testing.assert_close(travelled["probability"], found["probability"], **TOLERANCE)
