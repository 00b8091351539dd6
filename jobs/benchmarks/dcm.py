"""Seconds a step of mask training takes: whole prompts through all layers, and what the mask can change.

A step is what one more step adds. Reading the counterfactuals and the clean run, once a batch, is in the last ratio,
which is that of the first step and those after it, summed. Masks that go together are over the same counterfactuals.

python jobs/bench.py dcm                        the embedded base and a 12-layer model
python jobs/bench.py dcm --models 12-layer --steps 8 --masks 1 4
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.dcm_inputs import SETTINGS, TOKENS, Setting, cut, draw_inputs
from benchmarks.dcm_naive import RATE, SPARSITY, train_naively
from benchmarks.shapes import SHAPES, embedded_base, random_llama
from benchmarks.timing import Seconds, measure, multiply_add_rate
from entitrack.engine.dcm import train_masks
from entitrack.engine.masks import suffix_jobs
from entitrack.models.family import Model
from entitrack.runtime.backends import Local

TINY = "tiny"
MOST_STEPS = 64
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Side:
    """Seconds a mask takes one way.

    Attributes:
        first: Reading what stays the same, and the first step.
        step: One more step.
    """

    first: Seconds
    step: Seconds

    def training(self, steps: int) -> float:
        """A whole training."""
        return self.first.typical + (steps - 1) * self.step.typical


@dataclass(frozen=True)
class Timed:
    """The timings of a group.

    Attributes:
        group: Its name.
        masks: How many masks go together; seconds are those of one.
        naive: The naive way.
        ours: Ours.
        floor: Seconds that a step's multiply-adds take at the rate of the machine's matrix products.
        wrong: The most that a mask differs from the naive one.
    """

    group: str
    masks: int
    naive: Side
    ours: Side
    floor: float
    wrong: float

    @property
    def sides(self) -> tuple[Side, Side]:
        """The naive way and ours."""
        return self.naive, self.ours


def run(arguments: list[str]) -> None:
    """Measure, and print a table a model."""
    parser = argparse.ArgumentParser(prog="bench.py dcm")
    parser.add_argument("--models", nargs="+", default=[TINY, "12-layer"], choices=[TINY, *SHAPES])
    parser.add_argument("--prompts", type=int, default=32, help="prompts a step")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--masks", type=int, nargs="+", default=[1, 4], help="masks trained together")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=float, help="GiB for what goes through the model at once; auto if left out")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    if given.steps < 2:
        parser.error("--steps: 2 or more, a step is what one more adds")
    torch.set_num_threads(1)
    for name in given.models:
        model = embedded_base(given.device) if name == TINY else random_llama(name, given.device)
        Console(width=130).print(bench(model, name, given))


def bench(model: Model, name: str, given: argparse.Namespace) -> Table:
    """The table of one model: seconds a step and mask."""
    rate = machine_rate(model, given)
    title = f"{name}, {given.device}, {given.prompts} prompts, {rate / 1e9:.1f} G multiply-adds a second"
    table = Table(title=title, title_justify="left")
    times = ("naive, s", "ours, s", "ratio", "spread", "floor, s", "naive / floor")
    for column in ("group", "masks", *times, f"with reading, {given.steps} steps", "differ"):
        table.add_column(column, justify="left" if column == "group" else "right")
    timed = []
    for setting in SETTINGS:
        inputs = draw_inputs(model, setting, given)
        naive, expected = naive_seconds(model, inputs, given)
        timed += [timed_ours(model, setting, inputs, masks, naive, expected, rate, given) for masks in given.masks]
    for row in timed:
        table.add_row(*cells(row.group, [row], given.steps))
    for masks in given.masks:
        table.add_row(*cells("all groups", [row for row in timed if row.masks == masks], given.steps))
    return table


def cells(name: str, rows: Sequence[Timed], steps: int) -> tuple[str, ...]:
    """What the table says of one group, or of a step of several together."""
    naive, ours = (sum(side.step.typical for side in sides) for sides in zip(*(row.sides for row in rows), strict=True))
    reading = [sum(side.training(steps) for side in sides) for sides in zip(*(row.sides for row in rows), strict=True)]
    floor = sum(row.floor for row in rows)
    steps_of = [[side.step.runs for side in sides] for sides in zip(*(row.sides for row in rows), strict=True)]
    spread = sum(50 * Seconds(tuple(map(sum, zip(*runs, strict=True)))).spread for runs in steps_of)
    numbers = (f"{naive:.4f}", f"{ours:.4f}", f"{naive / ours:.1f}x", f"±{spread:.0f} %", f"{floor:.4f}")
    last = (f"{naive / floor:.1f}x", f"{reading[0] / reading[1]:.1f}x", f"{max(row.wrong for row in rows):.0e}")
    return (name, str(rows[0].masks), *numbers, *last)


def timed_ours(
    model: Model,
    setting: Setting,
    inputs: dict[str, Any],
    masks: int,
    naive: Side,
    expected: Float[Tensor, "step head"],
    rate: float,
    given: argparse.Namespace,
) -> Timed:
    """Ours with several masks; every one of them must go the naive way."""
    arguments = {
        "anatomy": model.anatomy,
        "heads": inputs["heads"],
        "batches": [inputs["batch"]],
        "validation": [cut(inputs["batch"], 1)],
        "draws": [0] * masks,
        "sparsity": [SPARSITY] * masks,
        "learning_rate": RATE,
        "patience": 0,
        "borrow_positions": False,
        "gib": given.memory,
    }

    def training(steps: int) -> Tensor:
        return Local().run(model, train_masks, {**arguments, "steps": steps, "validate_after": [steps]})["masks"]

    whole, found = time_steps(training, given)
    wrong = float((found - expected[:, None]).abs().max())
    if model.envoy._module.dtype == torch.float32 and wrong > _TOLERANCE:
        raise SystemExit(f"a mask differs from the naive one by {wrong:.1e}")
    ours = Side(*(Seconds(tuple(run / masks for run in seconds.runs)) for seconds in (whole.first, whole.step)))
    return Timed(setting.name, masks, naive, ours, needed(model, inputs, masks, given) / rate / masks, wrong)


def time_steps(training: Callable[[int], Tensor], given: argparse.Namespace) -> tuple[Side, Tensor]:
    """What the first step of a training takes and what one more does, and the masks after `given.steps`.

    Where steps are short, more of them are timed, at most `MOST_STEPS`: as many as take as long as the first and what
    is read before it.
    """
    first = measure(lambda: training(1), given.device, given.repeats, warm_up=1)
    found: list[Tensor] = []
    trial = measure(lambda: found.append(training(given.steps)), given.device, repeats=1, warm_up=0).typical
    more = given.steps - 1
    step = (trial - first.typical) / more
    wanted = round(first.typical / step) if step > 0 else MOST_STEPS
    more = max(more, min(MOST_STEPS - 1, wanted))
    long = measure(lambda: training(1 + more), given.device, given.repeats, warm_up=0)
    step_runs = tuple((after - before) / more for before, after in zip(first.runs, long.runs, strict=True))
    return Side(first, Seconds(step_runs)), found[0]


def needed(model: Model, inputs: dict[str, Any], masks: int, given: argparse.Namespace) -> float:
    """Multiply-adds that a step needs: forward and backward over the suffix, the first layer's end for one token.

    Backward costs a linear map as much as forward, as its weights have no gradient, and attention twice as much.
    """
    config, anatomy, batch = model.envoy._module.config, model.anatomy, inputs["batch"]
    layers, width = anatomy["n_layers"], anatomy["n_heads"] * anatomy["d_head"]
    attention = config.hidden_size * (width + 2 * anatomy["n_kv_heads"] * anatomy["d_head"])
    rest = config.hidden_size * (width + 3 * config.intermediate_size)
    start, top = min(layer for layer, _ in inputs["heads"]), layers - 1
    scores = 2 * TOKENS * width
    total = 0.0
    for job in suffix_jobs(
        anatomy, batch["clean"], batch["positions"], masks, given.memory, anatomy["n_layers"] - start
    ):
        ends = len(job["rows"]) * masks
        tokens = ends * job["length"]
        before = 2 * ends * rest if start < top else 0
        between = max(0, top - start - 1) * tokens * (2 * (attention + rest) + 3 * scores)
        last = 2 * tokens * attention + ends * 3 * scores if start < top else 0
        total += before + between + last + 2 * ends * (rest + config.vocab_size * config.hidden_size)
    return total


def machine_rate(model: Model, given: argparse.Namespace) -> float:
    """Multiply-adds a second of the MLP's own matrix product, all prompts at once."""
    config = model.envoy._module.config
    dtype = model.envoy._module.dtype
    return multiply_add_rate(given.prompts * TOKENS, config.hidden_size, config.intermediate_size, dtype, given.device)


def naive_seconds(
    model: Model, inputs: dict[str, Any], given: argparse.Namespace
) -> tuple[Side, Float[Tensor, "step head"]]:
    """One mask by the definition: hooks, whole prompts, all layers; counterfactual z is read once, as was published."""
    batch, device = inputs["batch"], given.device
    moved = {name: batch[name].to(device) for name in ("targets", "positions", "source_positions")}
    tokens, source = batch["clean"]["tokens"].to(device), batch["sources"][0]["tokens"].to(device)

    def training(steps: int) -> Tensor:
        return train_naively(model, inputs["heads"], tokens, source, moved, steps)

    return time_steps(training, given)
