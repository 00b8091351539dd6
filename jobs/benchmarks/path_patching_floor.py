"""The multiply-adds that path patching needs."""

from __future__ import annotations

from typing import Any

from entitrack.models.family import Model


def needed(model: Model, asked: dict[str, Any]) -> float:
    """Multiply-adds that the algorithm needs for a stage: two forward passes, the sweep, the suffixes."""
    config, anatomy = model.envoy._module.config, model.anatomy
    layers, heads, width = anatomy["n_layers"], anatomy["n_heads"], anatomy["n_heads"] * anatomy["d_head"]
    hidden = config.hidden_size
    projections = hidden * (width + 2 * anatomy["n_kv_heads"] * anatomy["d_head"])
    mlp = 3 * hidden * config.intermediate_size
    rest = width * hidden + mlp
    prompts, tokens = asked["clean"]["tokens"].shape
    reading = sorted({layer for layer, _ in asked["receivers"].get("heads", [])})
    top = max(reading, default=layers)
    seen = int(asked["source"]["position"].max()) + 1
    scores = width * tokens**2
    total = prompts * (layers * (tokens * (projections + rest) + scores) + hidden * config.vocab_size)
    total += prompts * top * (seen * (projections + rest) + width * seen**2)
    for layer in range(top):
        total += prompts * (heads * width * hidden + (1 + heads * (layer + 1)) * mlp)
    if not reading:
        return total + prompts * (1 + layers * heads) * hidden * config.vocab_size
    for layer in reading:
        total += prompts * (1 + layer * heads) * hidden * anatomy["d_head"]
    return total + suffixes(model, asked, reading, projections, rest)


def suffixes(model: Model, asked: dict[str, Any], reading: list[int], projections: int, rest: int) -> float:
    """Multiply-adds of the reruns: each sender from the first receiver above it, its last layer for one token only."""
    config, anatomy = model.envoy._module.config, model.anatomy
    layers, heads, width = anatomy["n_layers"], anatomy["n_heads"], anatomy["n_heads"] * anatomy["d_head"]
    lengths = (asked["clean"]["last"] - asked["clean"]["position"] + 1).tolist()
    total, below = 0.0, 0
    for start in reading:
        variants, after = (start - below) * heads, layers - 1 - start
        below = start
        for length in lengths:
            score = length * 2 * width * (asked["clean"]["tokens"].shape[1] - length / 2)
            whole = length * rest + (after - 1) * length * (projections + rest) + length * projections + rest
            alone = rest
            total += variants * ((whole if after else alone) + (after + 1) * score)
            total += variants * config.hidden_size * config.vocab_size + length * projections
    return total
