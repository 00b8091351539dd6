"""Indirect object identification (after Wang et al., 2023): who was something given to? In words of our own."""

from entitrack.tasks.ioi.task import IOI, Giving

__all__ = ["IOI", "Giving"]
