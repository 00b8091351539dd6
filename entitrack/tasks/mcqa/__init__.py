"""Questions with choices: which letter stands at the right one? In words of our own."""

from entitrack.tasks.mcqa.task import MCQA, Choices

__all__ = ["MCQA", "Choices"]
