"""One training step, and the running accuracy that decides when a stage is over."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from zoo_training.ablation import only_roles_live
from zoo_training.batches import Batch

LANGUAGE_MODEL_WEIGHT = 0.05


class Trainer:
    """AdamW on one model, with a short warm-up and running accuracies by name.

    Attributes:
        model: the model that is trained in place.
        steps: steps taken so far.
    """

    def __init__(self, model: nn.Module, learning_rate: float, warmup: int = 50) -> None:
        """Optimise all parameters of the model that require grad."""
        self.model = model
        self.steps = 0
        self._warmup = warmup
        self._rate = learning_rate
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._recent: dict[str, list[float]] = defaultdict(list)
        model.train()

    def step(self, batch: Batch, name: str, roles_only: bool = False, rate_factor: float = 1.0) -> float:
        """Take one step on a batch and return the share of right answers before it.

        Args:
            batch: the data.
            name: under which the accuracy is kept.
            roles_only: replace z outside the batch's roles by its batch mean (role regularisation).
            rate_factor: multiplies the learning rate.

        Raises:
            ValueError: role regularisation is asked for on a batch without roles.
        """
        if roles_only and batch.roles is None:
            raise ValueError(f"batch '{name}' has no roles: ask one question of the test prompts' form")
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * rate_factor * min(1.0, (self.steps + 1) / self._warmup)
        roles = batch.roles if roles_only else None
        with nullcontext() if roles is None else only_roles_live(self.model, roles):
            logits = self.model(batch.tokens[:, :-1], use_cache=False).logits
        self._optimizer.zero_grad()
        loss(logits, batch).backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self.steps += 1
        answers = batch.answers[:, 1:]
        right = (logits.argmax(-1) == batch.tokens[:, 1:])[answers].float().mean().item()
        self._recent[name].append(right)
        return right

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
