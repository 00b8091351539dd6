"""One folder a question: `settings.py` what may be set, `method.py` how it is answered, `view.py` how that is shown.

A method is added by adding its folder: what is here is what `method=NAME` takes. Settings are light to import; torch
and the models come in when a method is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
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
    """Run a method, and lay its result out.

    Raises:
        UserError: It takes gradients, and the backend runs it where there are none.

    Where a batch does not fit into a server's memory, smaller ones take its place; the result's facts say so.
    """
    from entitrack.runtime.forms import SANDBOX, no_gradients

    if settings.gradients and experiment.runner.backend.form == SANDBOX:
        raise no_gradients(settings.gradients)
    if settings.needs_donor and experiment.donor is not None:
        experiment.family.checkpoint(experiment.donor, "donor")  # before the base is loaded
    batch_size = experiment.batch_size
    result, experiment = _in_batches_that_fit(import_module(f"{__name__}.{method}.method").run, experiment, settings)
    origins = [asdict(origin) for origin in experiment.origins()] if settings.part else []
    said = {"chosen_on": origins, "forced": experiment.forced}
    if experiment.batch_size != batch_size:
        said["batch_size"] = experiment.batch_size
    return replace(result, facts={**result.facts, **{name: lines for name, lines in said.items() if lines}}).laid_out()


def _in_batches_that_fit(run: Callable[[Any, Any], Any], experiment: Any, settings: MethodSettings) -> tuple[Any, Any]:
    """What a method gives, with batches as small as they must be, and the experiment that it was given."""
    from entitrack.core.notices import warn
    from entitrack.runtime.backends import OutOfMemory

    while True:
        experiment = replace(experiment, forced=[])
        try:
            return run(experiment, settings), experiment
        except OutOfMemory as error:
            prompts = min(experiment.batch_size, error.prompts or experiment.batch_size)
            fitting = int(prompts * error.fits)
            if not fitting:
                raise
            warn(f"batch_size: {prompts} prompts do not fit into the server's memory; going on with {fitting}")
            experiment = replace(experiment, batch_size=fitting)


def question_of(method: str) -> str:
    """What a method asks, as the first line of its folder's `__init__.py` has it."""
    said = (import_module(f"{__name__}.{method}").__doc__ or "").strip()
    return said.partition("\n")[0]
