"""The form that interventions take: direct, or that of a sandbox, where modules are in another process.

Both give the same but for rounding. The direct one goes over suffixes of prompts, over keys and values that a run has
left, and calls modules by themselves. In NDIF's sandbox, which a key without the tag `trusted` gets, neither works:
there an intervention goes over whole prompts, in traces alone (`engine.elsewhere`, `engine.slots`), without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from entitrack.core.errors import UserError
from entitrack.engine import circuits, knockout, masks, path_patching, positions, transplants, whole, whole_masks
from entitrack.engine import whole_paths as paths
from entitrack.engine.anatomy import Anatomy

Intervention = Callable[..., Mapping[str, Any]]

DIRECT = "direct"
SANDBOX = "sandbox"

WHOLE: Mapping[Intervention, Intervention] = {
    circuits.circuit_answers: whole.circuit_answers,
    knockout.knockout_answers: whole.knockout_answers,
    masks.masked_answers: whole_masks.masked_answers,
    path_patching.path_effects: paths.path_effects,
    positions.live_position_answers: whole.live_position_answers,
    transplants.transplanted_answers: whole_masks.transplanted_answers,
}
"""What takes another form in a sandbox; all others run there as they are."""


def in_form(form: str, function: Intervention) -> Intervention:
    """An intervention as it runs in a form.

    Raises:
        UserError: It takes gradients, which a sandbox does not give.
    """
    if form == DIRECT:
        return function
    if getattr(function, "takes_gradients", False):
        raise no_gradients(function.__name__)
    return WHOLE.get(function, function)


def no_gradients(what: str) -> UserError:
    """The complaint about what cannot run in a sandbox."""
    problem = f"{what} takes gradients, and what is read in a sandbox has none"
    return UserError("backend.form", problem, fix="it takes a key that is tagged as trusted, or backend=local")


def anatomy_in(form: str, anatomy: Anatomy) -> Anatomy:
    """An anatomy as interventions are given it in a form."""
    return anatomy if form == DIRECT else {**anatomy, "elsewhere": True}


def chosen(setting: str, trusted: bool = True) -> str:
    """The form that `backend.form` asks for; `auto` takes the direct one wherever code is trusted."""
    return DIRECT if setting == "auto" and trusted else SANDBOX
