"""Circuits x prompts a second: full forwards with hooks, and runs over the tokens with a role.

python jobs/bench.py circuits                       the embedded base and a 12-layer model, some minutes
python jobs/bench.py circuits --models 12-layer --prompts 42 --random 200
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.shapes import SHAPES, embedded_base, random_llama
from benchmarks.timing import Seconds, measure, multiply_add_rate
from entitrack.engine.circuits import circuit_answers, plan
from entitrack.methods.faithfulness.method import random_circuits
from entitrack.models.family import Model
from entitrack.runtime.backends import Local

TINY = "tiny"
CIRCUITS = {TINY: (4, 4, 10), "default": (5, 20, 47)}
"""Heads of the measured circuit at `prev_query_label`, `query_label` and `last`; the default is the paper's 72."""
TOKENS = 54
NAIVE_CIRCUITS = 3
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """A set of circuits to measure.

    Attributes:
        name: What it is.
        circuits: Their live heads.
        reference: What most of them differ little from.
    """

    name: str
    circuits: Bool[Tensor, "circuit role layer head"]
    reference: Bool[Tensor, "role layer head"]


@dataclass(frozen=True)
class Timed:
    """A case's timings.

    Attributes:
        name: What it is.
        number: How many circuits.
        naive: Seconds of the naive way for all of them, scaled from a sample.
        ours: Seconds of ours.
        floor: Seconds that its multiply-adds take at the rate of the machine's matrix products.
    """

    name: str
    number: int
    naive: Seconds
    ours: Seconds
    floor: float

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Of the naive way, of ours, and of the floor."""
        return self.naive.typical, self.ours.typical, self.floor


def run(arguments: list[str]) -> None:
    """Measure, and print a table a model."""
    parser = argparse.ArgumentParser(prog="bench.py circuits")
    parser.add_argument("--models", nargs="+", default=[TINY, "12-layer"], choices=[TINY, *SHAPES])
    parser.add_argument("--prompts", type=int, default=84)
    parser.add_argument("--random", type=int, default=200, help="random circuits")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=float, help="GiB for what goes through the model at once; auto if left out")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in given.models:
        model = embedded_base(given.device) if name == TINY else random_llama(name, given.device)
        Console(width=130).print(bench(model, name, given))


def bench(model: Model, name: str, given: argparse.Namespace) -> Table:
    """The table of one model."""
    inputs = draw_inputs(model, given.prompts)
    shape = CIRCUITS.get(name, CIRCUITS["default"])
    rate = machine_rate(model, given)
    title = f"{name}, {given.prompts} prompts, {given.device}, {rate / 1e9:.1f} G multiply-adds a second"
    table = Table(title=title, title_justify="left")
    for column in ("circuits", "number", "naive /s", "ours /s", "ratio", "spread", "floor /s", "of floor", "ours, s"):
        table.add_column(column, justify="left" if column == "circuits" else "right")
    timed = [measure_case(model, case, inputs, rate, given) for case in cases(model, shape, given.random)]
    for row in timed:
        table.add_row(*cells(row.name, [row], given.prompts))
    table.add_row(*cells("all", timed, given.prompts))
    return table


def cells(name: str, rows: Sequence[Timed], n_prompts: int) -> tuple[str, ...]:
    """What the table says of one case, or of several together: circuits x prompts a second."""
    number = sum(row.number for row in rows)
    naive, ours, floor = (sum(times) for times in zip(*(row.seconds for row in rows), strict=True))
    spread = f"±{sum(50 * (row.naive.spread + row.ours.spread) for row in rows) / len(rows):.0f} %"
    rates = [f"{number * n_prompts / seconds:.0f}" for seconds in (naive, ours, floor)]
    return (
        name,
        str(number),
        *rates[:2],
        f"{naive / ours:.1f}x",
        spread,
        rates[2],
        f"{floor / ours:.2f}",
        f"{ours:.2f}",
    )


def draw_inputs(model: Model, n_prompts: int) -> dict[str, Any]:
    """Random prompts of the paper's length with its roles in the paper's places, and random means."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 100, (n_prompts, TOKENS), generator=generator)
    last = torch.full((n_prompts,), TOKENS - 1)
    previous = 6 + 7 * (torch.arange(n_prompts) % 7)
    anatomy = model.anatomy
    width = anatomy["n_heads"] * anatomy["d_head"]
    means = 0.1 * torch.randn(anatomy["n_layers"], TOKENS, width, generator=generator)
    prompts = {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": tokens[:, 4]}
    prompts["rivals"] = tokens[:, [11, 18, 25, 32, 39, 46]]
    positions = torch.stack([previous, last - 2, last], 1)
    return {"prompts": prompts, "positions": positions, "fill": {"values": means}}


def cases(model: Model, shape: tuple[int, int, int], n_random: int) -> list[Case]:
    """Random circuits; and what minimality runs on one of them: without each pair of heads of a role."""
    size = (3, model.anatomy["n_layers"], model.anatomy["n_heads"])
    live = torch.zeros(3, size[1] * size[2], dtype=torch.bool)
    for role, count in enumerate(shape):
        live[role, :count] = True
    drawn = random_circuits(live.reshape(size), n_random + 1, seed=0)
    reference = drawn[-1]
    pairs = [pair for role in range(3) for pair in without_pairs(reference, role)]
    every = torch.stack(pairs)
    none = torch.zeros_like(reference)
    return [Case("random", drawn[:-1], none), Case("minimality: less each pair", every, reference)]


def without_pairs(circuit: Bool[Tensor, "role layer head"], role: int) -> list[Tensor]:
    """The circuit without each pair of its heads at one role, and without each one."""
    heads = circuit[role].nonzero().tolist()
    found = []
    for index, first in enumerate(heads):
        for second in heads[index:]:
            smaller = circuit.clone()
            for layer, head in (first, second):
                smaller[role, layer, head] = False
            found.append(smaller)
    return found


def measure_case(model: Model, case: Case, inputs: dict[str, Any], rate: float, given: argparse.Namespace) -> Timed:
    """Time a case both ways; refuse to go on where they disagree."""
    arguments = {"anatomy": model.anatomy, **inputs, "circuits": case.circuits, "reference": case.reference}
    arguments["gib"] = given.memory
    found = Local().run(model, circuit_answers, arguments)["margin"]
    ours = measure(lambda: Local().run(model, circuit_answers, arguments), given.device, given.repeats, warm_up=0)
    number = len(case.circuits)
    sample = torch.arange(0, number, max(1, number // NAIVE_CIRCUITS))[:NAIVE_CIRCUITS]
    expected = naive_margins(model, inputs, case.circuits[sample])
    wrong = float((found[sample] - expected).abs().max() / expected.abs().max())
    if model.envoy._module.dtype == torch.float32 and wrong > _TOLERANCE:
        raise SystemExit(f"{case.name}: ours differs from naive by {wrong:.1e} of the largest margin")
    timed = measure(lambda: naive_margins(model, inputs, case.circuits[sample]), given.device, given.repeats, warm_up=0)
    naive = Seconds(tuple(seconds * number / len(sample) for seconds in timed.runs))
    floor = needed(model, case, given.prompts) / rate
    return Timed(case.name, number, naive, ours, floor)


def layer_sizes(model: Model) -> tuple[int, int]:
    """Multiply-adds a token takes in a layer's q, k, v, and in its `o_proj` and MLP."""
    config, anatomy = model.envoy._module.config, model.anatomy
    width = anatomy["n_heads"] * anatomy["d_head"]
    attention = config.hidden_size * (width + 2 * anatomy["n_kv_heads"] * anatomy["d_head"])
    return attention, config.hidden_size * (width + 3 * config.intermediate_size)


def needed(model: Model, case: Case, n_prompts: int) -> float:
    """Multiply-adds that the algorithm needs for a case, the ablated prompts and the reference included."""
    attention, rest = layer_sizes(model)
    anatomy = model.anatomy
    layers, width = anatomy["n_layers"], anatomy["n_heads"] * anatomy["d_head"]
    vocabulary = model.envoy._module.config.vocab_size * model.envoy._module.config.hidden_size
    total = n_prompts * TOKENS * layers * (attention + rest) + n_prompts * 3 * layers * (attention + rest)
    parents = [torch.zeros_like(case.reference)]
    parents += [case.reference] if bool(case.reference.any()) else []
    # How many go together decides nothing but which starts are computed once.
    for job in plan(parents, case.circuits, n_prompts, 8192):
        runs, length = len(job["circuits"]) * len(job["rows"]), 3 - job["first"]
        after = layers - 1 - job["start"]
        whole = length * max(0, after - 1) * (attention + rest)
        top = length * attention + rest if after else 0
        scores = length * after * 2 * TOKENS * width
        begun = case.circuits[job["circuits"], job["first"] :, job["start"]]
        starts = sum(len(begun[:, place].unique(dim=0)) for place in range(length))
        total += runs * (whole + top + scores + vocabulary) + len(job["rows"]) * starts * rest
    return total


def machine_rate(model: Model, given: argparse.Namespace) -> float:
    """Multiply-adds a second of the MLP's own matrix product, 2048 tokens at once."""
    config = model.envoy._module.config
    dtype = model.envoy._module.dtype
    return multiply_add_rate(2048, config.hidden_size, config.intermediate_size, dtype, given.device)


@torch.no_grad()
def naive_margins(
    model: Model, inputs: dict[str, Any], circuits: Bool[Tensor, "circuit role layer head"]
) -> Float[Tensor, "circuit batch"]:
    """The same by the definition: a whole forward a circuit, with z replaced by hooks."""
    module, prompts, positions = model.envoy._module, inputs["prompts"], inputs["positions"]
    tokens, answers, rivals = (prompts[name].to(module.device) for name in ("tokens", "answers", "rivals"))
    means = inputs["fill"]["values"].to(module.device)
    rows = torch.arange(len(tokens))[:, None]
    found = []
    for circuit in circuits:
        live = torch.zeros(len(tokens), TOKENS, *circuit.shape[1:], dtype=torch.bool)
        live[rows, positions] = circuit
        keep = live.repeat_interleave(model.anatomy["d_head"], -1).to(module.device)
        hooks = [
            layer.self_attn.o_proj.register_forward_pre_hook(_replace(keep[:, :, index], means[index]))
            for index, layer in enumerate(module.model.layers)
        ]
        try:
            logits = module(tokens, use_cache=False).logits[:, -1].float()
        finally:
            for hook in hooks:
                hook.remove()
        found.append(logits.gather(1, answers[:, None])[:, 0] - logits.gather(1, rivals).amax(1))
    return torch.stack(found).cpu()


def _replace(keep: Bool[Tensor, "batch token width"], mean: Float[Tensor, "token width"]) -> Callable[..., Any]:
    """A hook that takes the mean where z is not kept."""
    return lambda _module, args: (torch.where(keep, args[0], mean.to(args[0])),)
