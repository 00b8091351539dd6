"""What is bound to what, without boxes: variables and their values, names and what is said of them.

A context is that of `boxes` in other words, so that roles, stages, desiderata and counterfactuals are the same, and a
circuit that was found on the one task can be judged on the other (`method=transfer`).
"""

from entitrack.tasks.bindings.forms import FORMS
from entitrack.tasks.bindings.task import Bindings

__all__ = ["FORMS", "Bindings"]
