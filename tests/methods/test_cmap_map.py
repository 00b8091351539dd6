"""CMAP to first order: slopes against autograd by hand and small steps, laws, and what is shown."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.methods import run_method
from entitrack.methods.cmap_map.settings import Settings
from entitrack.methods.cmap_map.trace import first_order_gains
from entitrack.methods.experiment import Experiment, prompt_inputs
from entitrack.models.family import Model
from tests.methods import hand_made
from tests.naive import layouts
from tests.naive.hooks import editing
from tests.naive.prompts import Prompts

ROUNDING = 1e-5
"""Of gains in nats, where there are none."""


def cmap_map(experiment: Experiment, **settings: Any) -> Result:
    return run_method("cmap_map", experiment, Settings(**settings))


def patches_of(experiment: Experiment, donor: Model, role: str, component: str) -> tuple[Any, list[dict[str, Any]]]:
    """Prompts, and one component of every layer at a role with the donor's values."""
    batch = experiment.encode(experiment.task.prompts()[:9])
    heads = {"heads": list(range(6))} if component == "z" else {}
    position = batch.positions[role]
    sites = [{"component": component, "layer": layer, "position": position, **heads} for layer in range(4)]
    prompts = prompt_inputs(batch)
    values = experiment.runner.run(donor, read_sites, {"prompts": prompts, "sites": sites})["values"]
    return prompts, [{**site, "values": value} for site, value in zip(sites, values, strict=True)]


@pytest.mark.parametrize("role", ["last", "query_label"])
def test_slopes_of_z_are_those_of_autograd(golden_experiment: Experiment, role: str) -> None:
    """Hooks that add a zero to z of every head, whole forward passes, and one backward pass."""
    base, donor = golden_experiment.base(), golden_experiment.member("donor")
    prompts, patches = patches_of(golden_experiment, donor, role, "z")
    found = golden_experiment.runner.run(base, first_order_gains, {"prompts": prompts, "patches": patches})
    module = base.envoy._module
    rows, place = torch.arange(9), patches[0]["position"]
    own: list[Tensor] = []
    zeros = [torch.zeros(9, 6, 16, requires_grad=True) for _ in range(4)]

    def add(layer: int, z: Tensor) -> Tensor:
        own.append(z[rows, place].detach())
        changed = z.clone()
        changed[rows, place] = changed[rows, place] + zeros[layer]
        return changed

    with editing(module, layouts.layout_of(module), "z", add), torch.enable_grad():
        logits = Prompts(prompts["tokens"], prompts["mask"]).logits_at(module, prompts["last"])
        log_p = logits.log_softmax(-1)[rows, prompts["answers"]]
        slopes = torch.autograd.grad(log_p.sum(), zeros)
    torch.testing.assert_close(found["probability"], log_p.exp().detach())
    for layer in range(4):
        expected = (slopes[layer] * (patches[layer]["values"] - own[layer])).sum(-1)
        torch.testing.assert_close(found["gain"][layer], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("component", ["z", *WITHOUT_HEADS])
def test_a_small_step_gains_what_its_slope_says(golden_experiment: Experiment, component: str) -> None:
    """A hundredth of the way to the donor's value gains a hundredth of the first-order gain."""
    base, donor = golden_experiment.base(), golden_experiment.member("donor")
    prompts, patches = patches_of(golden_experiment, donor, "last", component)
    sites = [{name: value for name, value in patch.items() if name != "values"} for patch in patches]
    run = golden_experiment.runner.run
    gain = run(base, first_order_gains, {"prompts": prompts, "patches": patches})["gain"]
    own = run(base, read_sites, {"prompts": prompts, "sites": sites})["values"]
    steps = [
        {**patch, "values": mine + 0.01 * (patch["values"] - mine)} for patch, mine in zip(patches, own, strict=True)
    ]
    variants = [[], *([number] for number in range(4))]
    log_p = run(base, answer_patched, {"prompts": prompts, "patches": steps, "variants": variants})["probability"].log()
    for number in range(4):
        stepped = (log_p[number + 1] - log_p[0]).sum()
        assert float(stepped) == pytest.approx(0.01 * float(gain[number].sum()), rel=0.12, abs=2e-3)
    assert max(float(each.abs().max()) for each in gain) > 0.01


def test_a_donor_equal_to_the_base_promises_nothing(golden_experiment: Experiment) -> None:
    result = cmap_map(dataclasses.replace(golden_experiment, donor="twin"), exact=3)
    for component in ("z", "mlp_out"):  # read in another pass, whose products of matrices may round otherwise
        assert float(result[component].values.abs().max()) < ROUNDING
    assert (~result["exact"].values.isnan()).any(-1).sum() == 3
    assert float(result["exact"].values.nan_to_num().abs().max()) < ROUNDING


def test_heads_that_promise_most_are_moved(golden_experiment: Experiment) -> None:
    result = cmap_map(golden_experiment, exact=7)
    first_order, exact = result["z"].means().flatten(), result["exact"].values.mean(-1).flatten()
    moved = (~exact.isnan()).nonzero().flatten().tolist()
    assert sorted(moved) == sorted(first_order.argsort(descending=True)[:7].tolist())
    none = cmap_map(golden_experiment, exact=0)
    assert "exact" not in none.measurements
    assert torch.equal(none["z"].values, result["z"].values)
    assert len(none.tables) == 1


def test_it_goes_both_ways_and_a_role_may_be_named(golden_experiment: Experiment) -> None:
    there = cmap_map(golden_experiment, roles=["last"], components=["mlp_out"])
    back = cmap_map(dataclasses.replace(golden_experiment, donor="base"), recipient="donor", roles=["last"])
    assert (back.facts["base"], back.facts["donor"]) == ("donor", "base")
    assert there["mlp_out"].names("role") == ("last",)
    assert there["mlp_out"].axes == ("role", "layer", PROMPT)
    with pytest.raises(UserError, match=r"method\.roles: the task has no role 'nowhere'"):
        cmap_map(golden_experiment, roles=["nowhere"])


def made_result() -> Result:
    """One role, one layer of two heads, four prompts of two contexts."""
    prompts = PromptSet(("a", "b", "c", "d"), ("w", "x", "y", "z"), torch.tensor([0, 0, 1, 1]))
    z = torch.tensor([[[[1.0, 3.0, 1.0, 3.0], [0.0, 1.0, 0.0, 1.0]]]])
    exact = torch.tensor([[[[0.5, 1.5, 0.5, 1.5], [math.nan] * 4]]])
    mlp = torch.tensor([[[1.0, 1.0, 1.0, 1.0]]])
    axes, labels = ("role", "layer", "head", PROMPT), {"role": ("last",)}
    measurements = {
        "z": Measurement(z, axes, labels, prompts),
        "exact": Measurement(exact, axes, labels, prompts),
        "mlp_out": Measurement(mlp, ("role", "layer", PROMPT), labels, prompts),
    }
    facts = {"base": "a", "donor": "b", "components": ["z", "mlp_out"], "top": 5}
    return Result("cmap_map", facts, measurements).laid_out()


def test_every_column_says_what_was_measured() -> None:
    best, agreement = made_result().tables
    assert best.title == "Gain of log p by first-order CMAP, b -> a: the best places"
    assert best.columns == ("component", "role", "layer", "head", "first order [95 %]", "exact [95 %]")
    assert hand_made.rows(best) == [
        ["z", "last", 0, 0, 2.0, 1.0],
        ["mlp_out", "last", 0, None, 1.0, None],
        ["z", "last", 0, 1, 0.5, None],
    ]
    assert agreement.columns == ("role", "heads moved", "rank correlation", "best", "overlap")
    assert hand_made.rows(agreement) == [["last", 1, None, 1, 1.0]]


def test_the_figure_is_a_map() -> None:
    z, mlp = hand_made.maps(made_result())
    assert (z.title, mlp.title) == ("z at last", "mlp_out at last")
    assert (z.values, mlp.values) == (((2.0, 0.5),), ((1.0,),))
    assert (z.columns.label, mlp.columns.label) == ("head", "")
    scale = hand_made.drawing(made_result()).scale
    assert scale is not None
    assert (scale.low, scale.high, scale.worse, scale.root) == (-2.0, 2.0, "low", True)
    assert scale.label == "gain of log p(answer), first order (nats)"
