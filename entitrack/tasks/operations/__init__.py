"""Boxes whose content changes: put, remove, move, swap (after Kim and Schuster, 2023).

`world` draws contexts and simulates them, `wording` puts them into words, `desiderata` says what heads may carry,
`task` is the task.
"""

from entitrack.tasks.operations.task import Operations
from entitrack.tasks.operations.world import KINDS, Operation, OperationsContext, draw_context

__all__ = ["KINDS", "Operation", "Operations", "OperationsContext", "draw_context"]
