"""What stands under a figure: how to read it, and of which models, prompts and seed it is."""

from __future__ import annotations

from entitrack.core.drawing import Drawing
from entitrack.core.result import Result


def caption(result: Result, drawing: Drawing) -> str:
    """Notes on reading it, then what it is of, in sentences."""
    return " ".join((*drawing.notes, f"{'; '.join(facts(result, drawing))}."))


def facts(result: Result, drawing: Drawing) -> list[str]:
    """Method, models, task, numbers of prompts and contexts, and seed, as far as they are known."""
    config = result.provenance.get("config", {})
    model, task = config.get("model") or {}, config.get("task") or {}
    told = [f"Method {result.method}"]
    if "name" in model:
        used = [name for name in model.get("members", {}) if name in result.provenance.get("models", {})]
        told.append(f"family {model['name']}" + (f" ({', '.join(used)})" if used else ""))
    if "name" in task:
        told.append(f"task {task['name']}")
    if drawing.sizes is not None:
        told.append(f"n {drawing.sizes[0]} prompts of {drawing.sizes[1]} contexts")
    seeds = [f"{kind} {where['seed']}" for kind, where in (("seed", config), ("task seed", task)) if "seed" in where]
    return [*told, *seeds]
