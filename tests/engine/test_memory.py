"""Pieces: every unit once, within the budget, whatever happens on the way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from entitrack.engine.memory import PROBE_TOKENS, in_pieces, measured

CPU = torch.device("cpu")
MIB = 1 << 18  # floats


def test_the_meter_counts_what_is_alive_at_once() -> None:
    def work() -> Tensor:
        first = torch.zeros(MIB)
        second = first + 1
        del first
        third = second.view(2, -1)  # no bytes of its own
        return third * 2

    result, peak = measured(CPU, work)
    assert result.shape == (2, MIB // 2)
    assert peak == pytest.approx(2 * MIB * 4, rel=0.01)


@pytest.mark.parametrize("mib", [0.5, 3.0, 1000.0])
def test_every_unit_is_done_once_within_the_budget(mib: float) -> None:
    sizes: list[int] = []

    def work(units: Tensor) -> Tensor:
        sizes.append(len(units))
        return torch.zeros(len(units), MIB // 4).sum(1) + units  # a quarter of a MiB each

    results, peak = in_pieces(40, 128, mib / 1024, CPU, work)
    assert torch.equal(torch.cat(results), torch.arange(40.0))
    first = PROBE_TOKENS // 128
    most = max(first, int(mib * 4))
    assert all(size <= most for size in sizes)
    assert peak <= max(mib, first / 4) * (1 << 20) * 1.01


def test_running_out_of_memory_halves_the_pieces() -> None:
    sizes: list[int] = []

    def work(units: Tensor) -> Tensor:
        if len(units) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(units))
        return units

    results, _ = in_pieces(50, 128, 1.0, CPU, work)
    assert torch.equal(torch.cat(results), torch.arange(50))
    assert max(sizes) > 2


def test_a_unit_that_does_not_fit_and_other_errors_are_raised() -> None:
    def too_large(units: Tensor) -> Tensor:
        if units[0] > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return units

    with pytest.raises(RuntimeError, match="can't allocate"):
        in_pieces(9, 128, 1.0, CPU, too_large)

    def wrong(units: Tensor) -> Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_pieces(9, 128, 1.0, CPU, wrong)
