"""The loopback server, started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entitrack.models.family import Family
from tests.remote.harness import Loopback, hosted_family


@pytest.fixture(scope="session")
def server(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """A server that hosts the golden base and donor."""
    folder = tmp_path_factory.mktemp("server")
    loopback = Loopback(folder, [golden_folder / "base", golden_folder / "donor"])
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
