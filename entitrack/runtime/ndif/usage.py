"""What a job took, as the server says it in its last state: data from elsewhere, held to what it can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from entitrack.runtime.ndif.saying import one_line

_MOST = float(1 << 60)
_MOST_GPUS = 1024


@dataclass(frozen=True)
class Usage:
    """What a job took.

    Attributes:
        runtime_s: Seconds that it ran; None if the server does not say.
        memory: GPU -> bytes that it took there besides the weights.
        shares: GPU -> percent of the memory that was left to it there.
        shortfall: GPU -> bytes that were missing when it ran out of memory.
        out_of_memory: Whether that is what it ended of.
    """

    runtime_s: float | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    shortfall: Mapping[str, float] = field(default_factory=dict)
    out_of_memory: bool = False

    @classmethod
    def of(cls, meta: Any) -> Usage:
        """The usage that a state's `meta` tells of; what of it makes no sense is left out."""
        if not isinstance(meta, Mapping):
            return cls()
        names = ("max_mem_by_gpu", "max_mem_pct_by_gpu", "alloc_shortfall_by_gpu")
        memory, shares, shortfall = (_by_gpu(meta.get(name)) for name in names)
        runtime = meta.get("runtime")
        seconds = float(runtime) if _is_amount(runtime) else None
        return cls(seconds, memory, shares, shortfall, names[-1] in meta)

    @property
    def fits(self) -> float | None:
        """The part of a job out of memory that would have fitted, by what was missing; None if that is not said."""
        parts = [
            self.memory[gpu] / (self.memory[gpu] + missing)
            for gpu, missing in self.shortfall.items()
            if self.memory.get(gpu) and missing
        ]
        return min(parts, default=None)


def _by_gpu(value: Any) -> dict[str, float]:
    """GPU -> amount, of those that can be."""
    if not isinstance(value, Mapping) or len(value) > _MOST_GPUS:
        return {}
    return {one_line(gpu, 20): float(amount) for gpu, amount in value.items() if _is_amount(amount)}


def _is_amount(value: Any) -> TypeGuard[float]:
    """Whether it is a number that counts something."""
    return type(value) in (int, float) and 0 <= value <= _MOST
