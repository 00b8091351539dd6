"""A method gives the same on a server, in nnsight's simulation of one, and here."""

from __future__ import annotations

import pytest

from entitrack.backends import Local, dry_run
from entitrack.circuits import Circuit
from entitrack.config import METHODS
from entitrack.models.family import Family
from tests.remote import matrix
from tests.remote.harness import Loopback

TOLERANCE = 1e-6


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_the_same_everywhere(
    method: str, server: Loopback, bare_family: Family, full_family: Family, golden_circuit: Circuit
) -> None:
    here = matrix.run(method, matrix.experiment(full_family, golden_circuit, Local()))
    simulated = matrix.run(method, matrix.experiment(full_family, golden_circuit, dry_run()))
    remote = matrix.run(method, matrix.experiment(bare_family, golden_circuit, server.backend()))
    assert max(matrix.differences(here, simulated).values()) <= TOLERANCE
    assert max(matrix.differences(here, remote).values()) <= TOLERANCE
    assert remote.cost.jobs == remote.cost.units == here.cost.units


def test_the_server_has_no_package_of_ours(server: Loopback) -> None:
    assert server.counts()["importable"] is False


def test_the_client_has_no_weights(bare_family: Family) -> None:
    module = bare_family.load("base").envoy._module
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_input_transplants_travel_too(
    server: Loopback, bare_family: Family, full_family: Family, golden_circuit: Circuit
) -> None:
    here = matrix.run("cmap", matrix.experiment(full_family, golden_circuit, Local()), form="input")
    remote = matrix.run("cmap", matrix.experiment(bare_family, golden_circuit, server.backend()), form="input")
    assert max(matrix.differences(here, remote).values()) <= TOLERANCE
