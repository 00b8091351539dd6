"""Going through many units in pieces that fit a memory budget: measured on the first piece, halved when it runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

PROBE_TOKENS = 512
"""Size of the first piece, on which the bytes a token takes are measured."""


class Measured(TypedDict, total=False):
    """What the first of several alike pieces of work has shown; empty before."""

    bytes_per_token: float


def allocation_meter() -> Any:
    """A mode that keeps, as `peak`, the most bytes that tensors made while it is active took at once.

    For devices whose allocator keeps no such count. The class is made here, so that it is made where this runs.
    """

    class Meter(TorchDispatchMode):
        peak = 0
        storages: ClassVar[dict[int, tuple[Any, int]]] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(value, torch.Tensor):
                    self.count(value.untyped_storage())
            return result

        def count(self, storage: Any) -> None:
            """Count a storage that is not known yet; those that are gone no longer count."""
            known = self.storages.get(storage._cdata)
            if known is not None and not known[0].expired():
                return
            for key in [key for key, (reference, _) in self.storages.items() if reference.expired()]:
                del self.storages[key]
            self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
            self.peak = max(self.peak, sum(size for _, size in self.storages.values()))

    return Meter()


def measured(device: torch.device, work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` returns, and the most bytes that its tensors took at once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = work()
        return result, torch.cuda.max_memory_allocated(device) - before
    meter = allocation_meter()
    with meter:
        result = work()
    return result, meter.peak


def budget_bytes(gib: float | None, device: torch.device) -> float:
    """The memory budget; for None half of what an accelerator has free, or 1 GiB elsewhere."""
    if gib is not None:
        return gib * 2**30
    if device.type == "cuda":
        return 0.5 * torch.cuda.mem_get_info(device)[0]
    return 2.0**30


def in_pieces(
    units: int,
    tokens: int,
    gib: float | None,
    device: torch.device,
    work: Callable[[Tensor], Any],
    known: Measured | None = None,
) -> tuple[list[Any], int]:
    """Go through units, as many at once as the budget allows.

    Args:
        units: How many there are.
        tokens: Tokens a unit has.
        gib: Memory budget in GiB; None lets the device decide, see `budget_bytes`.
        device: Where the work is done.
        work: Takes the numbers of some units, and returns their results.
        known: Kept from one call to the next where the work is alike: only the first is measured.

    Returns:
        The results piece by piece, and the bytes that the largest piece takes, by the measurement.

    Raises:
        RuntimeError: A single unit does not fit.
    """
    known = Measured() if known is None else known
    results, done = [], 0
    if "bytes_per_token" not in known:
        first = torch.arange(min(units, max(1, PROBE_TOKENS // tokens)))
        result, peak = measured(device, lambda: work(first))
        results, done = [result], len(first)
        known["bytes_per_token"] = max(peak, 1) / (len(first) * tokens)
    bytes_per_unit = known["bytes_per_token"] * tokens
    size = max(1, int(budget_bytes(gib, device) / bytes_per_unit))
    largest = max(done, min(size, units - done)) * bytes_per_unit
    while done < units:
        piece = torch.arange(done, min(units, done + size))
        try:
            results.append(work(piece))
        except RuntimeError as error:
            if not out_of_memory(error) or size == 1:
                raise
            size = max(1, size // 2)
            continue
        done += len(piece)
    return results, int(largest)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there is no memory left, on any device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text
