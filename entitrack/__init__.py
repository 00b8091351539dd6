"""What did fine-tuning change inside a language model? The program from Python.

from entitrack import Study, load

study = Study(model="sparse")
result = study.run("cmap", donor="float")
result.save("cmap_float")
load("cmap_float").figure()

What is here is the whole Python API; it comes in when it is asked for, so importing the package is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entitrack.core.circuits import Circuit
    from entitrack.core.errors import UserError
    from entitrack.core.result import Result
    from entitrack.record.loading import load
    from entitrack.study import Study

__all__ = ["Circuit", "Result", "Study", "UserError", "load"]

_ROOMS = {
    "Circuit": "core.circuits",
    "Result": "core.result",
    "Study": "study",
    "UserError": "core.errors",
    "load": "record.loading",
}


def __getattr__(name: str) -> Any:
    """What the API offers, from its room.

    Raises:
        AttributeError: There is no such thing.
    """
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    """What the API offers."""
    return sorted(__all__)
