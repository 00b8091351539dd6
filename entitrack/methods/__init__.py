"""One folder a question: `settings.py` what may be set, `method.py` how it is answered, `view.py` how that is shown.

A method is added by adding its folder: what is here is what `method=NAME` takes. Settings are light to import; torch
and the models come in when a method is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entitrack.core.result import Result
    from entitrack.core.settings import MethodSettings


@cache
def method_names() -> Sequence[str]:
    """Names of all methods."""
    return tuple(sorted(file.parent.name for file in Path(__file__).parent.glob("*/method.py")))


def settings_of(method: str) -> type[MethodSettings]:
    """What a method may be told."""
    return import_module(f"{__name__}.{method}.settings").Settings


def run_method(method: str, experiment: Any, settings: MethodSettings) -> Result:
    """Run a method, and lay its result out."""
    return import_module(f"{__name__}.{method}.method").run(experiment, settings).laid_out()
