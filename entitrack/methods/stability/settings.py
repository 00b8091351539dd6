"""What `method=stability` may be told: all that `method=path_patching` may, and over what to search again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from entitrack.methods.path_patching.settings import Settings as SearchSettings


class Settings(SearchSettings):
    """Is the circuit found again: on other seeds, in other words, on half of the contexts?"""

    needs_circuit: ClassVar[bool] = True

    seeds: list[int] = Field([0, 1, 2, 3, 4], description="seeds of the task to search on; []: none but the task's own")
    phrasings: list[str] | None = Field(
        None, description="phrasings of the task to search in, on the first seed; null: its own alone"
    )
    halves: int = Field(
        4,
        ge=0,
        le=1000,
        description="searches on random halves of the contexts of the first seed, in pairs of both halves",
    )
    least: float = Field(
        0.5, gt=0, le=1, description="least share of the searches over seeds that choose a head of circuit.json"
    )

    @field_validator("seeds", "phrasings")
    @classmethod
    def _are_different(cls, entries: list[int] | list[str] | None) -> list[int] | list[str] | None:
        for number, entry in enumerate(entries or ()):
            if entry in (entries or ())[:number]:
                raise ValueError(f"{entry!r} is there twice: a search that is repeated finds the same")
        return entries
