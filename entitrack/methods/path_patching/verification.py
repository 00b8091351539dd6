"""Is the fast way right on this model? A few senders of path patching, compared with its definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.engine.naive import naive_effects
from entitrack.methods.experiment import Experiment
from entitrack.models.anatomy import Head
from entitrack.models.family import Model, pick_dtype

_FLOAT32_FLOOR = 1e-5
_ROUNDINGS = 8


@dataclass(frozen=True)
class Verified:
    """How far the fast way is from the naive one.

    Attributes:
        difference: The largest difference of scores.
        heads: How many senders were compared that were rerun.
        rough: The largest difference of those that have their effects to first order; None if there were none.
    """

    difference: float
    heads: int
    rough: float | None = None


def verify(
    experiment: Experiment,
    count: int,
    model: Model,
    name: str,
    batch: dict[str, Any],
    output: Mapping[str, Tensor],
    scored: Sequence[Head],
    exact: Bool[Tensor, "layer head"] | None = None,
) -> Verified | None:
    """Compare some senders with the naive way on one batch; the sender that is left alone is always among them.

    The allowance is what arithmetic may do: the naive way's own noise, and a few roundings.

    Args:
        experiment: Where the naive way runs.
        count: How many senders; 0 compares none.
        model: The model.
        name: Name of the stage.
        batch: What the interventions were given: `clean`, `source`, `receivers`.
        output: What `path_effects` returned.
        scored: The heads it scored.
        exact: Those that were rerun; others have their effects to first order, and how far these are off is told, but
            not held against the model. None: all were.

    Returns:
        The largest difference; None if none was compared.

    Raises:
        UserError: They differ by more: the model is not built as its anatomy says.
    """
    if count <= 0:
        return None
    heads = Random(f"verify/{experiment.seed}/{name}").sample(list(scored), min(count, len(scored)))
    naive = experiment.runner.run(model, naive_effects, {**batch, "heads": [list(head) for head in heads]})
    fast = torch.stack([output["effect"][:, layer, head] for layer, head in heads] + [output["null"]], 1)
    slow = torch.cat([naive["effect"], naive["null"][:, None]], 1)
    off = (fast.mean(0) - slow.mean(0)).abs()
    rerun = torch.tensor([exact is None or bool(exact[head]) for head in heads] + [True])
    worst, rough = float(off[rerun].max()), off[~rerun]
    epsilon = torch.finfo(pick_dtype(model.identity.arithmetic)).eps
    allowed = 3 * float(naive["null"].abs().mean()) + max(_FLOAT32_FLOOR, _ROUNDINGS * epsilon)
    if not worst <= allowed:
        problem = f"stage {name!r} is {worst:.1e} off the naive way, more than arithmetic allows, {allowed:.1e}"
        fix = (
            "the model is not built as its architecture is described; score it with model.architecture.factorised=false"
        )
        raise UserError("method.verify", problem, fix=fix)
    return Verified(worst, int(rerun.sum()) - 1, float(rough.max()) if len(rough) else None)
