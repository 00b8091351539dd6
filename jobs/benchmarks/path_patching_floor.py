"""The multiply-adds that path patching needs."""

from __future__ import annotations

from typing import Any

from entitrack.models.family import Model


def passes_needed(model: Model, asked: dict[str, Any]) -> float:
    """Multiply-adds of the clean and the counterfactual pass; in their last layer only what path patching reads."""
    config, anatomy = model.envoy._module.config, model.anatomy
    projections, rest, width = sizes(model)
    prompts, tokens = asked["clean"]["tokens"].shape
    whole = anatomy["n_layers"] * (tokens * projections + width * tokens**2)
    whole += (anatomy["n_layers"] - 1) * tokens * rest
    return prompts * (2 * whole + rest + config.hidden_size * config.vocab_size)


def stage_needed(model: Model, asked: dict[str, Any]) -> float:
    """Multiply-adds of a stage: the sweep and the suffixes."""
    config, anatomy = model.envoy._module.config, model.anatomy
    layers, heads, hidden = anatomy["n_layers"], anatomy["n_heads"], config.hidden_size
    projections, rest, width = sizes(model)
    mlp = rest - width * hidden
    prompts = len(asked["clean"]["tokens"])
    reading = sorted({layer for layer, _ in asked["receivers"].get("heads", [])})
    total = 0.0
    for layer in range(max(reading, default=layers)):
        total += prompts * ((width + heads * anatomy["d_head"]) * hidden + (1 + heads * (layer + 1)) * mlp)
    if not reading:
        return total + prompts * (1 + layers * heads) * hidden * config.vocab_size
    for layer in reading:
        total += prompts * (1 + layer * heads) * hidden * anatomy["d_head"]
    return total + suffixes(model, asked, reading, projections, rest)


def sizes(model: Model) -> tuple[int, int, int]:
    """Multiply-adds a token of a layer's q, k and v, and of the rest of it, and the width of z."""
    config, anatomy = model.envoy._module.config, model.anatomy
    width = anatomy["n_heads"] * anatomy["d_head"]
    projections = config.hidden_size * (width + 2 * anatomy["n_kv_heads"] * anatomy["d_head"])
    return projections, width * config.hidden_size + 3 * config.hidden_size * config.intermediate_size, width


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
