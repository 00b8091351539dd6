"""What goes wrong on NDIF loses nothing and runs nothing twice, and what a user sees of it is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from entitrack.models.family import Family
from tests.remote.real.scenarios import TESTED, Bench, Fault
from tests.remote.real.served import Real


@pytest.mark.parametrize("fault", TESTED, ids=lambda fault: fault.name)
def test_nothing_is_lost(fault: Fault, real: Real, bare_tiny: Family, tiny_family: Family, tmp_path: Path) -> None:
    outcome = Bench(real, bare_tiny, tiny_family, tmp_path).play(fault)
    assert outcome.lost == 0
    assert outcome.twice == 0
