"""One training step, and the running accuracy that decides when a stage is over."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zoo_training.ablation import Change, fill_of, only_roles_live
from zoo_training.batches import Batch
from zoo_training.gates import Gates

LANGUAGE_MODEL_WEIGHT = 0.05


class Trainer:
    """AdamW on one model, with a short warm-up and running accuracies by name.

    Attributes:
        model: the model that is trained in place.
        steps: steps taken so far.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        warmup: int = 50,
        fills: Sequence[str] = ("mean",),
        gates: Gates | None = None,
    ) -> None:
        """Optimise all parameters of the model that require grad.

        Args:
            model: trained in place.
            learning_rate: of AdamW.
            warmup: steps in which the rate rises to it.
            fills: what stands for z outside the roles in role regularisation; one of them is drawn every step.
            gates: trained beside the weights, at their own rate.
        """
        self.model = model
        self.steps = 0
        self._warmup = warmup
        self._fills, self._gates = tuple(fills), gates
        self._generator = random.Random(f"fills {self._fills}")
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": self._parameters, "full": learning_rate}]
        if gates is not None:
            groups.append({"params": [gates.values], "full": gates.rate, "weight_decay": 0.0})
        self._optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._recent: dict[str, list[float]] = defaultdict(list)
        model.train()

    def step(self, batch: Batch, name: str, roles_only: bool = False, rate_factor: float = 1.0) -> float:
        """Take one step on a batch and return the share of right answers before it.

        Args:
            batch: the data.
            name: under which the accuracy is kept.
            roles_only: replace z outside the batch's roles (role regularisation).
            rate_factor: multiplies the learning rate.

        Raises:
            ValueError: role regularisation is asked for on a batch without roles.
        """
        if roles_only and batch.roles is None:
            raise ValueError(f"batch '{name}' has no roles: ask one question of the test prompts' form")
        for group in self._optimizer.param_groups:
            group["lr"] = group["full"] * rate_factor * min(1.0, (self.steps + 1) / self._warmup)
        roles = batch.roles if roles_only else None
        gated = nullcontext() if self._gates is None else self._gates.applied(self.model)
        with gated, nullcontext() if roles is None else only_roles_live(self.model, roles, self._fill()):
            logits = self.model(batch.tokens[:, :-1], use_cache=False).logits
        self._optimizer.zero_grad()
        cost = loss(logits, batch)
        (cost if self._gates is None else cost + self._gates.penalty()).backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        if self._gates is not None:
            self._gates.settle()
        self.steps += 1
        answers = batch.answers[:, 1:]
        right = (logits.argmax(-1) == batch.tokens[:, 1:])[answers].float().mean().item()
        self._recent[name].append(right)
        return right

    def _fill(self) -> Change:
        return fill_of(self._fills[0] if len(self._fills) == 1 else self._generator.choice(self._fills))

    def accuracy(self, names: Iterable[str], window: int = 8) -> float:
        """Return the lowest mean accuracy, over the names' last batches; 0 until each has a full window."""
        recent = [self._recent[name][-window:] for name in names]
        return min(sum(values) / window if len(values) == window else 0.0 for values in recent)

    def forget_accuracies(self) -> None:
        """Start the running accuracies anew, as the data become harder."""
        self._recent.clear()


def loss(logits: Float[Tensor, "row position word"], batch: Batch) -> Float[Tensor, ""]:
    """Return cross-entropy on the answers plus a little of the plain language-model loss."""
    targets, answers, real = batch.tokens[:, 1:], batch.answers[:, 1:], batch.real[:, 1:]
    losses = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return losses[answers].mean() + LANGUAGE_MODEL_WEIGHT * losses[real].mean()
