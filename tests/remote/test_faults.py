"""What goes wrong on a server loses nothing, runs nothing twice, and is said plainly where it stops a run."""

from __future__ import annotations

import re

import pytest
from nnsight.intervention.backends.remote import RemoteBackend

from entitrack.models.family import Model
from entitrack.runtime.ndif.payload import model_key
from tests.remote.scenarios import SCENARIOS, SERVED, Bench, broken_program, play

MESSAGES = {
    "422": "cannot read the request",
    "a key that is not known": "backend.key: .*knows no such key",
    "addresses of results always expire": "came to nothing, as 2 before it: its address has expired",
    "corrupt result, eight times": "is damaged",
    "unreachable for long": "503",
    "job forgotten by the server": "no longer knows job",
    "job takes too long": r"did not finish in 0.5 s .[A-Z]+.; it goes on on the server",
}


@pytest.mark.parametrize("fault", SCENARIOS)
def test_nothing_is_lost(fault: str, bench: Bench) -> None:
    outcome = play(bench, fault, **SCENARIOS[fault])
    assert outcome.lost == 0
    assert outcome.twice == 0
    assert re.search(MESSAGES.get(fault, SERVED), outcome.saw)


def test_an_error_in_the_program_is_shown_with_our_line(bench: Bench) -> None:
    outcome = broken_program(bench)
    assert "engine/sites.py:" in outcome.saw
    assert "in columns_of" in outcome.saw
    assert "IndexError" in outcome.saw
    assert (outcome.retries, outcome.twice) == (0, 0)


def test_the_dropped_websocket_is_a_fault(bench: Bench) -> None:
    """Nnsight's own waiting client, which listens on a websocket, dies of it."""
    model: Model = bench.bare.load("base")
    bench.server.order("drop_socket", 1)
    backend = RemoteBackend(model_key(model), host=bench.server.address, env=model.envoy._remoteable_get_env())
    tokens = bench.inputs[0]["prompts"]["tokens"]
    with pytest.raises(ValueError, match="Invalid JSON"):
        with model.envoy.trace({"input_ids": tokens}, backend=backend):
            model.envoy.output.logits.save()
