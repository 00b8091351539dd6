"""Which weights are in memory: each base once, and few of them at a time.

1. A base is kept as it was loaded, with nothing attached to it: every member on it gets a copy of its structure that
   shares its tensors, so that adapters of several members stand beside one set of weights.
2. Before another base is loaded, those used longest ago are let go, with all members on them. Whoever runs a member
   asks for it anew each time, and so gets it loaded again where it was let go.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ALWAYS = 2
"""Bases that are held at once whatever their size: methods that move activations take turns between two models."""

LITTLE = 1 << 30
"""Bytes of weights below which more are held, so that small models need not be loaded twice."""


@dataclass
class Base:
    """Weights that are in memory.

    Attributes:
        module: As loaded; it is copied, never run.
        members: Name of a member -> its nnsight model, whose tensors are the module's and those of its adapters.
    """

    module: nn.Module
    members: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the module's tensors."""
        return tensor_bytes(self.module)


@dataclass
class Held:
    """The bases in memory.

    Attributes:
        most: How many at once; None: two, and more as long as all together are small.
    """

    most: int | None = None
    _bases: dict[Hashable, Base] = field(default_factory=dict, repr=False)  # in the order of their last use

    def member(self, name: str) -> Any:
        """The nnsight model of a member; None if it is not in memory."""
        for key, base in self._bases.items():
            if name in base.members:
                self._bases[key] = self._bases.pop(key)
                return base.members[name]
        return None

    def base(self, key: Hashable, coming: int | None, load: Callable[[], nn.Module]) -> Base:
        """The base of that key; loaded if it is not in memory, after room was made for it.

        Args:
            key: All that makes it another one.
            coming: Bytes that it is going to take; None if that is not known.
            load: Loads it.
        """
        if key in self._bases:
            self._bases[key] = self._bases.pop(key)
        else:
            self._make_room(coming)
            self._bases[key] = Base(load())
        return self._bases[key]

    def __len__(self) -> int:
        """How many bases are in memory."""
        return len(self._bases)

    def release(self) -> None:
        """Let go of everything."""
        while self._bases:
            self._release_oldest()

    def _make_room(self, coming: int | None) -> None:
        while self._bases and not self._has_room(coming):
            self._release_oldest()

    def _has_room(self, coming: int | None) -> bool:
        if self.most is not None:
            return len(self) < self.most
        together = sum(base.size for base in self._bases.values())
        return len(self) < ALWAYS or (coming is not None and together + coming <= LITTLE)

    def _release_oldest(self) -> None:
        del self._bases[next(iter(self._bases))]
        gc.collect()  # nnsight models refer to themselves
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def shared_copy(module: nn.Module) -> nn.Module:
    """A copy of a module's structure, down to every submodule, that has the very same tensors."""
    return copy.deepcopy(module, {id(tensor): tensor for tensor in _tensors(module)})


def tensor_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers; what is tied counts once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Every tensor of a module: parameters, buffers, and those that quantised layers keep elsewhere in themselves."""
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        for value in vars(part).values():
            held = vars(value).values() if hasattr(value, "__dict__") and not isinstance(value, nn.Module) else ()
            yield from (entry for entry in (value, *held) if isinstance(entry, Tensor))
