"""Going through many units in pieces that fit a memory budget.

Two ways: measured on the first of many alike pieces, and halved when memory runs out (`in_pieces`); or reckoned from
how the model is built, where pieces are unlike each other (`tokens_at_once`, `ends_at_once`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from entitrack.engine.anatomy import Anatomy, find

PROBE_TOKENS = 512
"""Size of the first piece, on which the bytes a token takes are measured."""


STREAMS = 24
"""What a token takes while it goes through a layer, in widths of z: its stream, projections, an MLP of about four."""

LOGITS = 3
"""What a token that is unembedded takes, in vocabularies: its logits, and what their softmax is made of."""

MOST_WORDS = 1 << 18
"""Words of a vocabulary whose size is not known."""


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


def tokens_at_once(
    anatomy: Anatomy, gib: float | None, device: torch.device, lane: int, prefix: int, kept_layers: int = 1
) -> int:
    """How many tokens go through the model at once within half of the budget, reckoned; whole lanes, one at least.

    The other half is for what is unembedded, see `ends_at_once`, and for what lanes begin with.

    Args:
        anatomy: The model's anatomy.
        gib: Memory budget in GiB; None lets the device decide, see `budget_bytes`.
        device: Where the tokens are.
        lane: Tokens of a lane.
        prefix: Tokens whose keys and values every lane has beside its own.
        kept_layers: Layers whose values are there at once: all that a gradient goes through, or one.
    """
    width, entries = anatomy["n_heads"] * anatomy["d_head"], 2 * anatomy["n_kv_heads"] * anatomy["d_head"]
    keys = prefix + lane
    passing = kept_layers * lane * (STREAMS * width + 2 * anatomy["n_heads"] * keys)
    floats = passing + 2 * keys * anatomy["n_layers"] * entries + lane * keys
    return lane * max(1, int(budget_bytes(gib, device) / 2 / (4 * floats)))


def ends_at_once(model: Any, anatomy: Anatomy, gib: float | None, device: torch.device) -> int:
    """How many tokens are unembedded at once within half of the budget; one at least."""
    words = getattr(find(model, anatomy["unembed"]), "out_features", MOST_WORDS)
    return max(1, int(budget_bytes(gib, device) / 2 / (4 * LOGITS * words)))


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
