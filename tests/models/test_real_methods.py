"""On real weights the engine computes what whole forward passes with plain hooks compute: patching, transplants,
knockout, ablation; and path patching where gemma's windows end before the prompt does.

The models are those of `test_real`, and are skipped as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine.circuits import circuit_answers
from entitrack.engine.knockout import knockout_answers
from entitrack.engine.patching import answer, answer_patched, read_sites
from entitrack.engine.path_patching import path_effects
from entitrack.engine.transplants import transplanted_answers
from entitrack.methods.experiment import prompt_inputs
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.runtime.backends import Local
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.encoding import EncodedBatch, encode
from tests.conftest import USER_CACHE
from tests.models.real import REAL, Real, base, loaded
from tests.naive import ablation, knockout, layouts, patching, path_patching
from tests.naive.prompts import Group, Prompts

TOLERANCE = 6e-5
"""Of a probability: float32, thirty layers, two orders of adding up, a vocabulary of up to 262,144 words."""
EFFECT = 1e-3
"""What interventions do to some probability at the least, so that agreement says something."""
ROLES = ("prev_query_label", "query_label", "last")


@pytest.fixture(scope="module", autouse=True)
def _users_cache() -> Iterator[None]:
    """A gigabyte takes a minute to unpack: all processes and runs of these tests share it, in the user's cache."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", USER_CACHE)
        yield


@dataclass(frozen=True)
class Asked:
    """A model, and a few prompts with their counterfactuals."""

    model: Model
    clean: EncodedBatch
    other: EncodedBatch

    @property
    def module(self) -> Any:
        return self.model.envoy._module

    @property
    def layout(self) -> layouts.Layout:
        return layouts.layout_of(self.module)

    @property
    def plain(self) -> Prompts:
        return Prompts(self.clean.tokens, self.clean.mask)

    @property
    def last(self) -> Tensor:
        return self.clean.positions["last"]

    def run(self, function: Any, model: Model | None = None, **inputs: Any) -> Any:
        model = model or self.model
        return Local().run(model, function, {"anatomy": model.anatomy, **inputs})

    def probability(self, logits: Tensor) -> Tensor:
        return path_patching.answer_probability(logits, self.clean.answers)


@cache
def asked(real: Real) -> Asked:
    """Four prompts of two boxes."""
    model = base(real)
    pairs = Boxes(count=4, boxes=2, phrasing="label_first").pairs()
    clean, other = ([getattr(pair, side) for pair in pairs] for side in ("clean", "counterfactual"))
    return Asked(model, encode(clean, model.tokenizer), encode(other, model.tokenizer))


@contextmanager
def eager(module: Any) -> Iterator[None]:
    """Attention with a mask that hooks can write to."""
    before = module.config._attn_implementation
    module.set_attn_implementation("eager")
    try:
        yield
    finally:
        module.set_attn_implementation(before)


@pytest.fixture(params=REAL, ids=lambda real: real.family)
def real(request: pytest.FixtureRequest) -> Real:
    return request.param


def heads(real: Real) -> list[Head]:
    """The heads that are known to act, and one that they act through."""
    return sorted((*real.senders, real.receiver))


@torch.no_grad()
def test_activation_patching(real: Real) -> None:
    one, listed = asked(real), heads(real)
    sites = [{"component": "z", "layer": layer, "heads": [head]} for layer, head in listed]
    read = [{**site, "position": one.other.positions["last"]} for site in sites]
    values = one.run(read_sites, prompts=prompt_inputs(one.other), sites=read)["values"]
    patches = [{**site, "position": one.last, "values": value} for site, value in zip(sites, values, strict=True)]
    variants = [list(range(len(patches))), [0], []]
    found = one.run(answer_patched, prompts=prompt_inputs(one.clean), patches=patches, variants=variants)
    z = patching.z_by_layer(one.module, one.layout, Prompts(one.other.tokens, one.other.mask))
    for number, variant in enumerate(variants):
        group = Group([listed[index] for index in variant], one.last)
        moved = [(group, one.other.positions["last"])]
        logits = patching.z_patched_logits(one.module, one.layout, one.plain, z, moved, one.last)
        torch.testing.assert_close(found["probability"][number], one.probability(logits), atol=TOLERANCE, rtol=0)
        assert torch.equal(found["prediction"][number], logits.argmax(-1))
    assert (found["probability"][0] - found["probability"][2]).abs().max() > EFFECT


@torch.no_grad()
@pytest.mark.parametrize("roles", [("last",), ("query_label", "last")])
def test_cmap(real: Real, roles: tuple[str, ...]) -> None:
    one, donor = asked(real), loaded(real.family).load("arithmetic")
    listed = [(role, head) for role in roles for head in heads(real)]
    places = torch.stack([one.clean.positions[role] for role, _ in listed])
    sites = [
        {"component": "z", "layer": layer, "heads": [head], "position": place}
        for (_, (layer, head)), place in zip(listed, places, strict=True)
    ]
    prompts = prompt_inputs(one.clean)
    values = torch.cat(one.run(read_sites, donor, prompts=prompts, sites=sites)["values"], 1)
    moved = torch.zeros(2, len(listed), dtype=torch.bool)
    moved[0], moved[1, : len(heads(real))] = True, True
    found = one.run(
        transplanted_answers, prompts=prompts, heads=[list(head) for _, head in listed], positions=places,
        values=values, moved=[moved], gib=None,
    )  # fmt: skip
    own = one.probability(one.plain.logits_at(one.module, one.last))
    for number, used in enumerate((roles, roles[:1])):
        groups = [Group(heads(real), one.clean.positions[role]) for role in used]
        logits = patching.cmap_output_logits(one.module, donor.envoy._module, one.layout, one.plain, groups, one.last)
        torch.testing.assert_close(found["probability"][number], one.probability(logits), atol=TOLERANCE, rtol=0)
        assert torch.equal(found["prediction"][number], logits.argmax(-1))
    assert (found["probability"][0] - own).abs().max() > EFFECT


@torch.no_grad()
def test_attention_knockout(real: Real) -> None:
    one, layers = asked(real), real.shape[0]
    source, target = one.last, one.clean.positions["query_label"]
    prompts = {**prompt_inputs(one.clean), "rivals": one.clean.answers[:, None] + 1}
    found = one.run(knockout_answers, prompts=prompts, source=source, targets=target[None], gib=None)
    with eager(one.module):
        for first in (0, layers // 2, layers - 3, layers):
            logits = knockout.knockout_logits(one.module, one.layout, one.plain, source, target, first, one.last)
            torch.testing.assert_close(found["probability"][0, first], one.probability(logits), atol=TOLERANCE, rtol=0)
    assert (found["probability"][0, 0] - found["probability"][0, layers]).abs().max() > EFFECT


@torch.no_grad()
def test_faithfulness(real: Real) -> None:
    """A circuit under mean ablation, one with all heads at the roles, and one without any."""
    one, (layers, n_heads, *_) = asked(real), real.shape
    means = ablation.mean_z(one.module, one.layout, one.plain)
    live = torch.zeros(3, len(ROLES), layers, n_heads, dtype=torch.bool)
    live[1] = True
    for layer, head in heads(real):
        live[0, 1:, layer, head] = True
    places = torch.stack([one.clean.positions[role] for role in ROLES], 1)
    prompts = {**prompt_inputs(one.clean), "rivals": one.clean.answers[:, None] + 1}
    found = one.run(
        circuit_answers, prompts=prompts, positions=places, fill={"values": means.flatten(2)}, circuits=live,
        reference=live[0], gib=None,
    )  # fmt: skip
    for number, circuit in enumerate(live):
        groups = {
            role: Group([(int(la), int(he)) for la, he in circuit[index].nonzero()], places[:, index])
            for index, role in enumerate(ROLES)
        }
        kept = ablation.circuit_live(one.layout, one.plain, groups)
        logits = ablation.ablated_logits(one.module, one.layout, one.plain, means, kept, one.last)
        torch.testing.assert_close(found["probability"][number], one.probability(logits), atol=TOLERANCE, rtol=0)
    own = one.probability(one.plain.logits_at(one.module, one.last))
    assert (found["probability"][1] - own).abs().max() > EFFECT


@torch.no_grad()
def test_windows_end_before_long_prompts_do() -> None:
    """Path patching of a prompt longer than gemma's windows, to a head beyond a layer that has one."""
    real = next(one for one in REAL if one.windows != {0})
    model = base(real)
    pair = Boxes(count=1, boxes=7, phrasing="label_first", examples=12).pairs()[0]
    one = Asked(model, encode([pair.clean], model.tokenizer), encode([pair.counterfactual], model.tokenizer))
    assert one.clean.tokens.shape[1] > max(real.windows) + 20
    seen = one.plain.logits_at(one.module, one.last)
    near = Prompts(one.clean.tokens[:, -max(real.windows) :])
    assert (near.logits(one.module)[:, -1] - seen).abs().max() > 1e-2, "what the windows hide is seen by other layers"
    own = one.run(answer, prompts=prompt_inputs(one.clean))
    torch.testing.assert_close(own["probability"], one.probability(seen), atol=TOLERANCE, rtol=0)
    path = path_patching.Path(
        one.last, one.other.positions["last"], one.last, path_patching.Receivers("q", [real.receiver])
    )
    expected = path_patching.path_effects(
        one.module, one.layout, one.plain, Prompts(one.other.tokens, one.other.mask), one.clean.answers, path,
        real.senders[:2],
    )  # fmt: skip
    senders = [[head for layer, head in real.senders[:2] if layer == number] for number in range(real.shape[0])]
    found = one.run(
        path_effects,
        clean={**prompt_inputs(one.clean), "position": one.last},
        source={"tokens": one.other.tokens, "mask": one.other.mask, "position": one.other.positions["last"]},
        senders=senders,
        receivers={"component": "q", "heads": [list(real.receiver)]},
        gib=None,
    )["effect"]
    chosen = (slice(None), *torch.tensor(real.senders[:2]).T)
    torch.testing.assert_close(found[chosen].float(), expected[chosen], atol=TOLERANCE, rtol=0)
    assert expected[chosen].abs().max() > EFFECT
