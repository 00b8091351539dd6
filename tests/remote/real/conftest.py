"""NDIF's own server, started once, where it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from entitrack.models.family import Family
from tests.remote.real.installing import ASKED, NotHere, check_shared, installed, lacking
from tests.remote.real.served import HOSTED, Real


@pytest.fixture(scope="session")
def real(bare_tiny: Family) -> Iterator[Real]:
    """The server; while it runs, tests are on its network."""
    reason = lacking()
    if reason is None:
        try:
            installation = installed()
            check_shared(installation)
            server = Real(installation)
        except NotHere as error:
            reason = str(error)
    if reason is not None:
        if os.environ.get("CI") and os.environ.get(ASKED):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        with server.inside():
            server.deploy([bare_tiny.load(name) for name in HOSTED])
            yield server
    finally:
        server.stop()
