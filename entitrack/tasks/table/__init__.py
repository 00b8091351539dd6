"""A task from a table: a prompt a row, with its answer, its counterfactual and where its roles are.

`Table` is the task, `reading` what makes a prompt of a row.
"""

from entitrack.tasks.table.task import CounterfactualAnswer, Table

__all__ = ["CounterfactualAnswer", "Table"]
