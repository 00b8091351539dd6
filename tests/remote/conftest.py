"""The loopback server, started once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from entitrack.models.family import Family
from tests.remote.harness import ZOO_HOSTED, Loopback, half_precision_copy, hosted_family, zoo
from tests.remote.scenarios import Bench


@pytest.fixture(scope="session")
def server(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A server that hosts the golden models, the base in bfloat16 and the embedded family, and has one more."""
    folder = tmp_path_factory.mktemp("server")
    half = half_precision_copy(golden_folder / "base", folder / "half")
    shutil.copytree(golden_folder / "base", folder / "cold")
    hot = [golden_folder / "base", golden_folder / "donor", half, *ZOO_HOSTED]
    loopback = Loopback(folder, hot, [folder / "cold"])
    yield loopback
    loopback.stop()


@pytest.fixture(scope="session")
def bare_family(golden_folder: Path) -> Family:
    """The golden family without weights."""
    return hosted_family(golden_folder, weights=False)


@pytest.fixture(scope="session")
def full_family(golden_folder: Path) -> Family:
    """The same family with weights."""
    return hosted_family(golden_folder, weights=True)


@pytest.fixture
def bench(server: Loopback, bare_family: Family, full_family: Family, tmp_path: Path) -> Bench:
    """Three small units, and a store of this test's own."""
    return Bench(server, bare_family, full_family, tmp_path)


@pytest.fixture(scope="session")
def bare_tiny() -> Family:
    """The embedded family without weights."""
    return zoo(weights=False)
