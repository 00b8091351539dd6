"""Path patching: the naive way, the engine, and the multiply-adds that the engine's algorithm needs.

The naive way takes two forward passes a head, for all heads, or one where the logits receive, and unembeds every token;
leaving out the heads that no path leads from, and those logits, is part of the engine. Any way needs one clean and one
counterfactual pass of a batch, which all stages share: they have a row of their own, and are in the sums. The engine is
timed as it goes from the second batch on: the first one also measures memory.

python jobs/bench.py path_patching                    all models; about 20 minutes on one CPU thread
python jobs/bench.py path_patching --models golden    where golden data is: beside the published procedure's seconds
python jobs/bench.py path_patching --grow             prompts, heads and layers of the 12-layer model, one by one
python jobs/bench.py path_patching --models smollm2 gemma3-270m      real models and prompts, from their packages
python jobs/bench.py path_patching ... --screened     also the last stage as `method.suffix=screened` goes, against the
                                                      same naive way and the floor of exact scores
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.path_patching_floor import passes_needed, stage_needed
from benchmarks.path_patching_inputs import COMPONENTS, draw_inputs, golden_inputs
from benchmarks.real_models import REAL, real_base, real_inputs
from benchmarks.shapes import SHAPES, embedded_base, golden_base, random_llama
from benchmarks.timing import Seconds, measure, multiply_add_rate
from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Prompts
from entitrack.engine.first_order import first_order_suffix
from entitrack.engine.naive import naive_effects
from entitrack.engine.passes import SourcePrompts, both_passes, passes_bytes
from entitrack.engine.path_patching import path_effects
from entitrack.methods.path_patching.suffixes import screened
from entitrack.models.family import Model
from entitrack.runtime.backends import Local

TINY, GOLDEN = "tiny", "golden"
PASSES = "both passes"
NAIVE_HEADS = {TINY: 13, GOLDEN: 13}
"""The naive way is timed on one head and on so many, 3 of other models; what a head takes is found from both."""
GIB = 1.0
CHOSEN = 12
"""Heads that a stage may have, which are all scored exactly."""
STAGES = 5
"""The passes, and all stages."""
_TOLERANCE = 1e-4

PROMPTS = {TINY: 42, "12-layer": 14, "llama-3.2-1b": 1, "llama-7b": 7, **dict.fromkeys(REAL, 7)}
CPU_LAYERS = {"llama-3.2-1b": 4}
"""Layers on a CPU, where bfloat16 is slow. With so few, what unembeds 128,256 words is half of the naive way."""

GROWN = {"prompts": (7, 14, 28), "heads": (6, 12, 24), "layers": (6, 12, 18)}


@dataclass(frozen=True)
class Timed:
    """One stage on one model, or the passes.

    Attributes:
        name: The stage.
        ours: Seconds of the engine.
        floor: Seconds that the engine's multiply-adds take at the rate of the machine's matrix products.
        peak_bytes: Memory of the engine's largest piece; of the passes, what is kept of them.
        naive: Seconds of the naive way for all heads, scaled from a sample; of the passes the same as ours; None where
            it is not asked for.
        published: Seconds of the published procedure, where they are recorded.
    """

    name: str
    ours: Seconds
    floor: float
    peak_bytes: int
    naive: Seconds | None = None
    published: float | None = None


def run(arguments: list[str]) -> None:
    """Measure, and print a table a model."""
    parser = argparse.ArgumentParser(prog="bench.py path_patching")
    default = [TINY, "12-layer", "llama-3.2-1b", *(["llama-7b"] if torch.cuda.is_available() else [])]
    parser.add_argument("--models", nargs="+", default=default, choices=[TINY, GOLDEN, *SHAPES, *REAL])
    parser.add_argument("--prompts", type=int, default=0, help="0: 42 of a small model, fewer of a large one")
    parser.add_argument("--layers", type=int, default=0, help="0: as the shape has; on a CPU 4 of Llama-3.2-1B")
    parser.add_argument("--grow", action="store_true", help="vary prompts, heads and layers of the 12-layer model")
    parser.add_argument("--stages", nargs="+", default=list(COMPONENTS), choices=list(COMPONENTS))
    parser.add_argument("--screened", action="store_true", help="also time the last stage screened")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console = Console(width=130)
    if given.grow:
        console.print(growth(given))
        return
    for name in given.models:
        console.print(table(*measure_model(name, given)))


def measure_model(name: str, given: argparse.Namespace) -> tuple[str, list[Timed]]:
    """The timings of one model, with a title that says what was measured."""
    if name == GOLDEN:
        return measure_golden(given)
    model, prompts = make_model(name, given), given.prompts or PROMPTS[name]
    make_inputs = real_inputs if name in REAL else draw_inputs
    inputs = {stage: make_inputs(model, stage, prompts) for stage in given.stages}
    rate = machine_rate(model, given.device)
    return title(name, model, inputs, rate, given.device), measure_stages(model, inputs, rate, given)


def make_model(name: str, given: argparse.Namespace) -> Model:
    """An embedded model, a real one, or one with random weights."""
    if name == TINY:
        return embedded_base(given.device)
    if name in REAL:
        return real_base(name, given.device)
    layers = given.layers or (CPU_LAYERS.get(name, 0) if given.device == "cpu" else 0)
    return random_llama(name, given.device, layers=layers)


def measure_golden(given: argparse.Namespace) -> tuple[str, list[Timed]]:
    """The timings of the golden model on golden prompts, beside the published procedure's as recorded there."""
    default = Path(__file__).parents[3] / "shared" / "golden"
    folder = Path(os.environ.get("ENTITRACK_GOLDEN", default))
    if not folder.is_dir():
        raise SystemExit(f"no golden data at {folder}: set ENTITRACK_GOLDEN, or leave 'golden' out of --models")
    model = golden_base(folder, given.device)
    record = json.loads((folder / "golden.json").read_text())
    inputs = {stage: golden_inputs(folder, record, stage) for stage in given.stages}
    rate = machine_rate(model, given.device)
    recorded = record["timing_seconds_this_machine"]
    published = {PASSES: recorded["caches"], **{stage: recorded[f"pp.{stage}"] for stage in given.stages}}
    timed = measure_stages(model, inputs, rate, given, published)
    return title(GOLDEN, model, inputs, rate, given.device), timed


def title(name: str, model: Model, inputs: dict[str, dict[str, Any]], rate: float, device: str) -> str:
    """What a table is about."""
    prompts, tokens = next(iter(inputs.values()))["clean"]["tokens"].shape
    anatomy, dtype = model.anatomy, str(model.envoy._module.dtype).removeprefix("torch.")
    size = f"{anatomy['n_layers']} layers x {anatomy['n_heads']} heads, {dtype}"
    return f"{name} ({size}), {prompts} prompts of {tokens} tokens, {device}, {rate / 1e9:.1f} G multiply-adds a second"


def measure_stages(
    model: Model,
    inputs: dict[str, dict[str, Any]],
    rate: float,
    given: argparse.Namespace,
    published: dict[str, float] | None = None,
) -> list[Timed]:
    """Time the passes, and each stage both ways; refuse to go on where the ways disagree."""
    known = published or {}
    passes, kept = measure_passes(model, next(iter(inputs.values())), rate, given)
    timed = [replace(passes, naive=passes.ours, published=known.get(PASSES))]
    for stage, asked in inputs.items():
        ours, found = measure_engine(model, stage, asked, kept, rate, given)
        naive = measure_naive(model, stage, asked, found, given)
        timed.append(replace(ours, naive=naive, published=known.get(stage)))
    if given.screened:
        timed.append(measure_screened(model, asked, kept, timed[-1], given))
    return timed


def measure_passes(
    model: Model, asked: dict[str, Any], rate: float, given: argparse.Namespace
) -> tuple[Timed, dict[str, Any]]:
    """The timing of the passes, and the passes."""
    prompts = {"clean": asked["clean"], "source": asked["source"]}
    kept: dict[str, Any] = {}
    call(model, run_passes, prompts, kept)
    seconds = measure(lambda: call(model, run_passes, prompts, {}), given.device, given.repeats, warm_up=0)
    return Timed(PASSES, seconds, passes_needed(model, asked) / rate, passes_bytes(kept)), kept


def measure_engine(
    model: Model, stage: str, asked: dict[str, Any], kept: dict[str, Any], rate: float, given: argparse.Namespace
) -> tuple[Timed, dict[str, Any]]:
    """The engine's timing of one stage after the passes, and what it found."""
    everyone = {**asked, "senders": [list(range(model.anatomy["n_heads"]))] * model.anatomy["n_layers"], "gib": GIB}
    found = call(model, path_effects, everyone, kept)
    sweep, suffix = found["bytes_per_token"].tolist()
    everyone["known"] = {"sweep": sweep, "suffix": suffix}
    seconds = measure(partial(call, model, path_effects, everyone, kept), given.device, given.repeats, warm_up=0)
    return Timed(stage, seconds, stage_needed(model, asked) / rate, int(found["peak_bytes"])), found


def measure_screened(
    model: Model, asked: dict[str, Any], kept: dict[str, Any], exact: Timed, given: argparse.Namespace
) -> Timed:
    """The timing of the same stage with most senders to first order; chosen are as many heads as a stage may have."""
    everyone = {**asked, "senders": [list(range(model.anatomy["n_heads"]))] * model.anatomy["n_layers"], "gib": GIB}
    known: dict[str, Any] = {}

    def rerun(senders: list[list[int]]) -> list[dict[str, Tensor]]:
        found = call(model, path_effects, {**everyone, "senders": senders, **known}, kept)
        known["known"] = dict(zip(("sweep", "suffix"), found["bytes_per_token"].tolist(), strict=True))
        return [found]

    def chosen(effects: Tensor, noise: float) -> list[tuple[int, int]]:
        scores = effects.mean(0)
        best = scores.flatten().argsort()[:CHOSEN].tolist()
        heads = [divmod(index, scores.shape[1]) for index in best]
        return [(layer, head) for layer, head in heads if scores[layer, head] < -noise]

    def score() -> None:
        screened([call(model, first_order_suffix, everyone, kept)], rerun, chosen)

    score()
    seconds = measure(score, given.device, given.repeats, warm_up=0)
    return replace(exact, name=f"{exact.name}, screened", ours=seconds)


def measure_naive(
    model: Model, stage: str, asked: dict[str, Any], found: dict[str, Any], given: argparse.Namespace
) -> Seconds:
    """Seconds of the naive way for all heads, without the passes; it must agree with what the engine found."""
    layers, heads = model.anatomy["n_layers"], model.anatomy["n_heads"]
    top = max((layer for layer, _ in asked["receivers"].get("heads", [])), default=layers)
    generator = torch.Generator().manual_seed(1)
    most = min(top * heads, NAIVE_HEADS.get(model.name, 3))
    drawn = torch.randperm(top * heads, generator=generator)[:most].tolist()
    sample = [[index // heads, index % heads] for index in sorted(drawn, reverse=True)]
    compare(model, stage, found, call(model, naive_effects, {**asked, "heads": sample}), sample)
    few, more = (
        measure(partial(call, model, naive_effects, {**asked, "heads": sample[:size]}), given.device, given.repeats, 0)
        for size in (1, most)
    )
    scale = layers * heads / (most - 1)
    return Seconds(tuple((seconds - few.typical) * scale for seconds in more.runs))


def run_passes(
    model: Any, anatomy: Anatomy, clean: Prompts, source: SourcePrompts, kept: dict[str, Any]
) -> dict[str, Tensor]:
    """The clean and the counterfactual pass, as the first stage of a run makes them for all."""
    return {"probability": both_passes(model, anatomy, clean, source, kept=kept)["probability"]}


def call(model: Model, function: Any, inputs: dict[str, Any], kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run an intervention, without a store."""
    return Local().run(model, function, {"anatomy": model.anatomy, **inputs}, kept)


def compare(model: Model, stage: str, fast: dict[str, Any], naive: dict[str, Any], sample: list[list[int]]) -> None:
    """Stop where a float32 model gives different scores both ways."""
    found = torch.stack([fast["effect"][:, layer, head] for layer, head in sample], 1).mean(0)
    expected = naive["effect"].mean(0)
    wrong = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
    if model.envoy._module.dtype == torch.float32 and wrong > _TOLERANCE:
        raise SystemExit(f"{stage}: ours differs from naive by {wrong:.1e}")


def machine_rate(model: Model, device: str) -> float:
    """Multiply-adds a second of the MLP's own matrix product on many tokens."""
    config = model.envoy._module.config
    return multiply_add_rate(2048, config.hidden_size, config.intermediate_size, model.envoy._module.dtype, device)


def table(heading: str, timed: list[Timed]) -> Table:
    """The timings of one model; the sums have the passes in them, on both sides."""
    laid = Table(title=heading, title_justify="left")
    published = all(row.published for row in timed)
    names = ["stage", "naive, s", "ours, s", "ratio", "spread", "floor, s", "of floor", "peak MiB"]
    for column in (*names, *(("published, s", "ratio") if published else ())):
        laid.add_column(column, justify="left" if column == "stage" else "right")
    for row in timed:
        laid.add_row(row.name, *cells([row], published))
    for count, name in ((4, "passes and first three"), (5, "all")):
        if len(timed) >= count:
            laid.add_row(name, *cells(timed[:count], published))
    if len(timed) > STAGES:
        laid.add_row("all, the last screened", *cells([*timed[: STAGES - 1], timed[-1]], published))
    return laid


def cells(rows: Sequence[Timed], published: bool) -> list[str]:
    """What a table says of one row, or of several together; a ratio is how many times faster ours is."""
    naive, ours = sum(row.naive.typical for row in rows if row.naive), sum(row.ours.typical for row in rows)
    floor = sum(row.floor for row in rows)
    swing = sum(50 * (row.naive.spread + row.ours.spread) for row in rows if row.naive) / len(rows)
    found = [f"{naive:.2f}", f"{ours:.3f}", f"{naive / ours:.0f}x", f"±{swing:.0f} %", f"{floor:.3f}"]
    found += [f"{floor / ours:.2f}", f"{max(row.peak_bytes for row in rows) / 2**20:.0f}"]
    if published:
        total = sum(row.published or 0 for row in rows)
        found += [f"{total:.2f}", f"{total / ours:.0f}x"]
    return found


def growth(given: argparse.Namespace) -> Table:
    """Seconds of the engine on the 12-layer model as one size grows at a time."""
    laid = Table(title="12-layer model: the engine's seconds, and of floor, as one size grows", title_justify="left")
    laid.add_column("size")
    for stage in (PASSES, *given.stages):
        laid.add_column(stage, justify="right")
    for what, sizes in GROWN.items():
        for size in sizes:
            model = random_llama("12-layer", given.device, **({what: size} if what != "prompts" else {}))
            rate = machine_rate(model, given.device)
            inputs = {stage: draw_inputs(model, stage, size if what == "prompts" else 7) for stage in given.stages}
            passes, kept = measure_passes(model, next(iter(inputs.values())), rate, given)
            rows = [passes]
            rows += [measure_engine(model, stage, asked, kept, rate, given)[0] for stage, asked in inputs.items()]
            cells = [f"{row.ours.typical:.2f} ({row.floor / row.ours.typical:.2f})" for row in rows]
            laid.add_row(f"{size} {what}", *cells)
    return laid
