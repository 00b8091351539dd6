"""Tuning one adapter: every step is drawn from its number, and what a kill leaves behind is gone on with."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from donor_tuning.batches import Batch, collate
from donor_tuning.corpora import draw
from donor_tuning.recipes import Recipe
from entitrack.disk.files import appearing

KEPT_EVERY = 10
Report = Callable[[int, float], None]
"""Told after each step: steps done, and the loss on answers."""


@dataclass
class Progress:
    """How far tuning is, kept over kills.

    Attributes:
        done: Steps.
        seconds: Spent on them.
        loss: On the answers of the last one.
    """

    done: int = 0
    seconds: float = 0.0
    loss: float = 0.0


def tune(
    model: Any, tokenizer: Any, recipe: Recipe, state: Path, named: str, report: Report
) -> tuple[PeftModel, Progress]:
    """Tune an adapter on a model; only the adapter's weights change.

    Args:
        model: The base, float32.
        tokenizer: Its tokenizer.
        recipe: All numbers.
        state: File that unfinished work is kept in; gone on with if it is of the same recipe.
        named: What the adapter says that its base is.
        report: See `Report`.
    """
    torch.manual_seed(recipe.seed)
    adapted = _with_adapter(model, recipe.rank, named)
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    progress = _restore(adapted, optimiser, recipe, named, state)
    adapted.train()
    for step in range(progress.done, recipe.steps):
        begun = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * (1 - 0.9 * step / recipe.steps)
        batch = collate(draw(recipe, step), tokenizer)
        on_answers, on_all = _losses(adapted, batch, plain=recipe.plain > 0)
        optimiser.zero_grad()
        (on_answers + recipe.plain * on_all).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        progress.done, progress.loss = step + 1, on_answers.item()
        progress.seconds += time.perf_counter() - begun
        if progress.done % KEPT_EVERY == 0 or progress.done == recipe.steps:
            _keep(adapted, optimiser, recipe, named, progress, state)
        report(progress.done, progress.loss)
    return adapted.eval(), progress


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write an adapter's configuration and its weights, rounded to float16: half the size, and what is measured."""
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.half()
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template, which says nothing
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"] = sorted(config["target_modules"])  # peft keeps a set, whose order differs from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def _with_adapter(model: Any, rank: int, named: str) -> PeftModel:
    """The model with a fresh adapter on all linear layers of its decoder."""
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    adapted.peft_config["default"].base_model_name_or_path = named
    return adapted


def _losses(model: PeftModel, batch: Batch, plain: bool) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean loss on the answers, and on all words; logits are made only for those that count."""
    base: Any = model.get_base_model()
    hidden = base.get_decoder()(batch.tokens, attention_mask=batch.real.long(), use_cache=False)[0][:, :-1]
    asked = batch.real[:, 1:] if plain else batch.answers[:, 1:]
    logits = base.get_output_embeddings()(hidden[asked])
    cap = getattr(base.config, "final_logit_softcapping", None)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    losses = cross_entropy(logits.float(), batch.tokens[:, 1:][asked], reduction="none")
    return losses[batch.answers[:, 1:][asked]].mean(), losses.mean()


def _fingerprint(recipe: Recipe, named: str) -> str:
    return hashlib.sha256(f"{recipe} {named} {torch.get_num_threads()}".encode()).hexdigest()


def _keep(
    adapted: PeftModel,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    named: str,
    progress: Progress,
    state: Path,
) -> None:
    kept = {
        "fingerprint": _fingerprint(recipe, named),
        "progress": vars(progress),
        "adapter": get_peft_model_state_dict(adapted, save_embedding_layers=False),
        "optimiser": optimiser.state_dict(),
    }
    with appearing(state) as stream:
        torch.save(kept, stream)


def _restore(adapted: PeftModel, optimiser: torch.optim.Optimizer, recipe: Recipe, named: str, state: Path) -> Progress:
    """Go on where a killed run of the same recipe was."""
    kept = torch.load(state, weights_only=True) if state.is_file() else None
    if kept is None or kept["fingerprint"] != _fingerprint(recipe, named):
        return Progress()
    set_peft_model_state_dict(adapted, kept["adapter"])
    optimiser.load_state_dict(kept["optimiser"])
    return Progress(**kept["progress"])
