"""Every method, small, on the embedded family: words for the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from entitrack.core.result import Result

Runs = Callable[[str], tuple[Result, Path]]
"""Runs a method as the command line does; gives its result before it was written, and its folder."""

FORCED = ("method.force=true",)
"""The runs are of 10 contexts, in some of which the model is not right."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "ablation": ("method.mean_count=14", "method.roles=[last,query_label]"),
    "activation_patching": ("method.models=[llama,float]", "method.desiderata=[object_value]"),
    "attention_knockout": (),
    "attribution": (*FORCED, "method.prompts=all", "method.top=4"),
    "circuit_curve": (
        "method.models=[llama]",
        "method.sizes=[3]",
        "method.random_orders=2",
        "method.mean_count=14",
        "method.order_prompts=14",
    ),
    "binding": (*FORCED, "method.models=[llama]", "method.layers=[0,2]", "method.heads_of=llama"),
    "cmap": ("donor=float", "method.controls=3", "method.control_prompts=14"),
    "cmap_map": ("donor=float", "method.exact=2"),
    "compare": ("donor=float",),
    "cmap_matrix": ("method.members=[llama,float]", "method.controls=3", "method.control_prompts=14"),
    "cmap_order": ("donor=float", "method.controls=3", "method.control_prompts=14", "method.steps=3"),
    "completeness": ("method.random_sets=2", "method.mean_count=14"),
    "dcm": (
        *FORCED,
        "method.steps=4",
        "method.desiderata=[object_value]",
        "method.sparsity=[0.01]",
        "task.split=train",
    ),
    "desiderata": (),
    "evaluate": ("method.models=[llama]", "method.boxes=[2,3]"),
    "faithfulness": ("method.models=[llama]", "method.random_circuits=2", "method.mean_count=14"),
    "minimality": (
        *FORCED,
        "method.mean_count=14",
    ),
    "path_patching": (
        *FORCED,
        "method.prompts=all",
    ),
    "stability": (*FORCED, "method.prompts=all", "method.seeds=[0,1]", "method.halves=2"),
    "positions": (*FORCED, "method.mean_count=14", "method.most=1"),
    "transfer": (*FORCED, "method.models=[llama,float]", "method.controls=2", "method.mean_count=14"),
}


def words_of(method: str) -> tuple[str, ...]:
    """The words of a small run."""
    few = ("task.count=30", "task.boxes=3", "model.device=cpu", "tracking=disabled")
    return (f"method={method}", *few, *SETTINGS[method])
