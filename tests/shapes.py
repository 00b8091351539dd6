"""Shapes are checked while tests run: every annotation of the code that computes is held to what it is called with.

Loaded as a plugin, before anything of the package is imported. Tests of servers go without: code that is shipped by
value would take the checker along, and a server has none.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import install_import_hook

CHECKED = ("entitrack.engine", "entitrack.models", "entitrack.core.statistics", "entitrack.methods.outcomes")


def pytest_load_initial_conftests(early_config: Any) -> None:
    """Check shapes, but in the slow lane."""
    if early_config.known_args_namespace.markexpr != "slow":
        install_import_hook(CHECKED, "beartype.beartype")
