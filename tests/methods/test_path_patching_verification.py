"""How far the fast way may be off the naive one, on effects made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.methods.path_patching.verification import Verified, verify
from entitrack.models.identity import Identity

SCORED = [(0, 0), (0, 1), (1, 0)]
FAST = torch.tensor([[[-0.5, 0.25], [0.0, 9.0]], [[-0.25, 0.75], [0.5, 9.0]]])
"""Of two prompts, two layers and two heads, of which the last was not scored."""


def verified(count: int, off: dict[tuple[int, int], list[float]], null: list[float], noise: list[float]) -> Any:
    """What comes of a naive way that is off by so much for a head and a prompt."""

    def naive(model: object, function: object, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        assert inputs["clean"] == "prompts"
        heads = [tuple(head) for head in inputs["heads"]]
        assert len(set(heads)) == len(heads) == min(count, 3)
        assert set(heads) <= set(SCORED)
        effect = [FAST[:, layer, head] + torch.tensor(off.get((layer, head), [0.0, 0.0])) for layer, head in heads]
        return {"effect": torch.stack(effect, 1), "null": torch.tensor(noise)}

    experiment: Any = SimpleNamespace(seed=0, runner=SimpleNamespace(run=naive))
    model: Any = SimpleNamespace(identity=Identity(""))
    output = {"effect": FAST, "null": torch.tensor(null)}
    return verify(experiment, count, model, "fetch", {"clean": "prompts"}, output, SCORED)


@pytest.mark.parametrize(("count", "heads"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_as_many_heads_are_compared_as_are_asked_for_and_there_are(count: int, heads: int) -> None:
    assert verified(count, {}, [0.0, 0.0], [0.0, 0.0]) == Verified(0.0, heads)


def test_none_are_compared_unless_asked() -> None:
    assert verified(0, {}, [0.0, 0.0], [0.0, 0.0]) is None


def test_the_largest_difference_of_means_counts_and_the_head_left_alone_is_among_them() -> None:
    noise = [0.25, -0.25]
    found = verified(3, {(0, 1): [0.5, -0.25], (1, 0): [-0.125, -0.125]}, [0.0, 0.0], noise)
    assert found == Verified(0.125, 3)
    assert verified(3, {}, [0.5, 0.25], noise) == Verified(0.375, 3)


def test_more_than_three_times_the_naive_ways_own_noise_is_too_much() -> None:
    noise = [0.25, -0.25]
    assert verified(3, {(0, 0): [-0.75, -0.75]}, [0.0, 0.0], noise).difference == 0.75
    with pytest.raises(UserError, match=r"^method\.verify: stage 'fetch' is 7\.8e-01 off .* allows, 7\.5e-01; "):
        verified(3, {(0, 0): [-0.78125, -0.78125]}, [0.0, 0.0], noise)
    with pytest.raises(UserError, match=r"is nan off"):
        verified(3, {(0, 0): [torch.nan, 0.0]}, [0.0, 0.0], noise)
