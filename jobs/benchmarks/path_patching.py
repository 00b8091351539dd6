"""Path patching: two forward passes a head, the engine, and the multiply-adds that the engine's algorithm needs.

The engine is timed as it goes from the second batch on: the first one also measures memory.

python jobs/bench.py path_patching                          the embedded base, a 12-layer model, the golden model
python jobs/bench.py path_patching --models llama-3.2-1b --prompts 1 --layers 4
python jobs/bench.py path_patching --grow                   prompts, heads and layers of the 12-layer model, one by one
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.path_patching_floor import needed
from benchmarks.path_patching_inputs import COMPONENTS, TOKENS, draw_inputs, golden_inputs
from benchmarks.shapes import SHAPES, embedded_base, golden_base, random_llama
from benchmarks.timing import Seconds, measure, multiply_add_rate
from entitrack.backends import Local
from entitrack.interventions.evaluation import forward_inputs
from entitrack.interventions.naive import naive_effects
from entitrack.interventions.path_patching import path_effects, read_clean, read_source
from entitrack.interventions.sites import Anatomy, at, find, unembed
from entitrack.models.family import Model

TINY, GOLDEN = "tiny", "golden"
NAIVE_HEADS = 2
GIB = 1.0
_TOLERANCE = 1e-4

GROWN = {"prompts": (7, 14, 28), "heads": (6, 12, 24), "layers": (6, 12, 18)}


@dataclass(frozen=True)
class Timed:
    """One stage on one model.

    Attributes:
        naive: Seconds of the naive way for all heads, scaled from a sample of them.
        ours: Seconds of the engine.
        passes: Seconds of the clean and the counterfactual pass in it, which the published timings list apart.
        floor: Seconds that the engine's multiply-adds take at the rate of the machine's matrix products.
        peak_bytes: Memory of the engine's largest piece.
        published: Seconds of the published procedure, where they are recorded.
    """

    stage: str
    naive: Seconds
    ours: Seconds
    passes: Seconds
    floor: float
    peak_bytes: int
    published: float | None = None


def run(arguments: list[str]) -> None:
    """Measure, and print a table a model."""
    parser = argparse.ArgumentParser(prog="bench.py path_patching")
    default = [TINY, "12-layer", GOLDEN, *(["llama-7b"] if torch.cuda.is_available() else [])]
    parser.add_argument("--models", nargs="+", default=default, choices=[TINY, GOLDEN, *SHAPES])
    parser.add_argument("--prompts", type=int, default=0, help="0: 42 of a small model, 7 of a large one")
    parser.add_argument("--layers", type=int, default=0, help="fewer layers than the shape has")
    parser.add_argument("--grow", action="store_true", help="vary prompts, heads and layers of the 12-layer model")
    parser.add_argument("--stages", nargs="+", default=list(COMPONENTS), choices=list(COMPONENTS))
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
    small = name == TINY
    model = embedded_base(given.device) if small else random_llama(name, given.device, layers=given.layers)
    prompts = given.prompts or (42 if small else 7)
    inputs = {stage: draw_inputs(model, stage, prompts) for stage in given.stages}
    rate = machine_rate(model, given.device)
    return title(name, model, prompts, rate, given.device), measure_stages(model, inputs, rate, given)


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
    published = {stage: record["timing_seconds_this_machine"][f"pp.{stage}"] for stage in given.stages}
    timed = measure_stages(model, inputs, rate, given, published)
    return title(GOLDEN, model, len(inputs[given.stages[0]]["clean"]["last"]), rate, given.device), timed


def title(name: str, model: Model, prompts: int, rate: float, device: str) -> str:
    """What a table is about."""
    anatomy, dtype = model.anatomy, str(model.envoy._module.dtype).removeprefix("torch.")
    size = f"{anatomy['n_layers']} layers x {anatomy['n_heads']} heads, {dtype}"
    return f"{name} ({size}), {prompts} prompts of {TOKENS} tokens, {device}, {rate / 1e9:.1f} G multiply-adds a second"


def measure_stages(
    model: Model,
    inputs: dict[str, dict[str, Any]],
    rate: float,
    given: argparse.Namespace,
    published: dict[str, float] | None = None,
) -> list[Timed]:
    """Time each stage both ways, and refuse to go on where they disagree."""
    timed = []
    layers, heads = model.anatomy["n_layers"], model.anatomy["n_heads"]
    generator = torch.Generator().manual_seed(1)
    for stage, asked in inputs.items():
        top = max((layer for layer, _ in asked["receivers"].get("heads", [])), default=layers)
        drawn = torch.randperm(top * heads, generator=generator)[:NAIVE_HEADS].tolist()
        sample = [[index // heads, index % heads] for index in drawn]
        everyone = {**asked, "senders": [list(range(heads))] * layers, "gib": GIB}
        some = {**asked, "heads": sample}
        sweep, suffix = call(model, path_effects, everyone)["bytes_per_token"].tolist()
        everyone["known"] = {"sweep": sweep, "suffix": suffix}
        slow = measure(partial(call, model, naive_effects, some), given.device, given.repeats)
        fast = measure(partial(call, model, path_effects, everyone), given.device, given.repeats)
        passes = measure(partial(call, model, two_passes, asked), given.device, given.repeats)
        found = call(model, path_effects, everyone)
        compare(model, stage, found, call(model, naive_effects, {**asked, "heads": sample}), sample)
        scale = layers * heads / (NAIVE_HEADS + 1)
        naive = Seconds(tuple(seconds * scale for seconds in slow.runs))
        floor = needed(model, asked) / rate
        timed.append(Timed(stage, naive, fast, passes, floor, int(found["peak_bytes"]), (published or {}).get(stage)))
    return timed


def two_passes(
    model: Any, anatomy: Anatomy, clean: dict[str, Tensor], source: dict[str, Tensor], receivers: dict[str, Any]
) -> dict[str, Tensor]:
    """The clean and the counterfactual pass of the engine, and nothing else."""
    reading = sorted({layer for layer, _ in receivers.get("heads", [])})
    top = max(reading, default=anatomy["n_layers"])
    read_source(model, anatomy, source, list(range(top)))
    with torch.no_grad():
        with model.trace(forward_inputs(clean), use_cache=bool(reading), logits_to_keep=1):
            state = read_clean(model, anatomy, clean["position"], top, reading)
            stream = at(find(model, anatomy["final_norm"]).input, clean["last"])
            logits = unembed(model, anatomy, stream)
    return {"logits": logits, "z": state["z"][0]}


def call(model: Model, function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run an intervention, without a store."""
    return Local().run(model, function, {"anatomy": model.anatomy, **inputs})


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
    """The timings of one model; `alone` is without the two passes, which any way of path patching needs."""
    laid = Table(title=heading, title_justify="left")
    names = (
        "stage",
        "naive, s",
        "ours, s",
        "passes, s",
        "ratio",
        "alone",
        "spread",
        "floor, s",
        "of floor",
        "peak MiB",
    )
    published = all(row.published for row in timed)
    for column in (*names, *(("published, s", "ratio", "alone") if published else ())):
        laid.add_column(column, justify="left" if column == "stage" else "right")
    for row in timed:
        spread = f"±{50 * (row.naive.spread + row.ours.spread):.0f} %"
        floor = (f"{row.floor:.3f}", f"{row.floor / row.ours.typical:.2f}", f"{row.peak_bytes / 2**20:.0f}")
        laid.add_row(row.stage, *ratios([row]), spread, *floor, *published_cells([row], published))
    if len(timed) > 2:
        first = timed[:3]
        laid.add_row("first three", *ratios(first), "", "", "", "", *published_cells(first, published))
    return laid


def ratios(rows: Sequence[Timed]) -> tuple[str, ...]:
    """Naive seconds, ours, those of the passes, and how many times faster ours are with and without the passes."""
    naive, ours, passes = (sum(getattr(row, name).typical for row in rows) for name in ("naive", "ours", "passes"))
    alone = f"{naive / (ours - passes):.0f}x" if ours > passes else ""
    return f"{naive:.2f}", f"{ours:.3f}", f"{passes:.3f}", f"{naive / ours:.0f}x", alone


def published_cells(rows: Sequence[Timed], published: bool) -> tuple[str, ...]:
    """The published procedure's seconds, and how many times faster ours are with and without the passes."""
    if not published:
        return ()
    total = sum(row.published or 0 for row in rows)
    ours, passes = sum(row.ours.typical for row in rows), sum(row.passes.typical for row in rows)
    alone = f"{total / (ours - passes):.0f}x" if ours > passes else ""
    return f"{total:.2f}", f"{total / ours:.0f}x", alone


def growth(given: argparse.Namespace) -> Table:
    """Seconds of the engine on the 12-layer model as one size grows at a time."""
    laid = Table(title="12-layer model: the engine's seconds, and of floor, as one size grows", title_justify="left")
    laid.add_column("size")
    for stage in given.stages:
        laid.add_column(stage, justify="right")
    for what, sizes in GROWN.items():
        for size in sizes:
            changed = {what: size} if what != "prompts" else {}
            model = random_llama("12-layer", given.device, **changed)
            rate = machine_rate(model, given.device)
            cells = [f"{size} {what}"]
            for stage in given.stages:
                asked = draw_inputs(model, stage, size if what == "prompts" else 7)
                senders = [list(range(model.anatomy["n_heads"]))] * model.anatomy["n_layers"]
                everyone = {**asked, "senders": senders, "gib": GIB}
                seconds = measure(partial(call, model, path_effects, everyone), given.device, 1)
                cells.append(f"{seconds.typical:.2f} ({needed(model, asked) / rate / seconds.typical:.2f})")
            laid.add_row(*cells)
    return laid
