"""What a server says it runs is in the key of the units that run there: another model, another record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.runtime.backends import Runner
from entitrack.runtime.ndif.payload import model_key
from entitrack.runtime.store import Store
from tests.hostile.replies import HOST, JOB, RESULT_PAGE, Client, answers, compressed, saved, state
from tests.remote.harness import largest_difference, zoo


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A server that hosts the embedded base, and one unit to do there."""
    tokens = torch.ones(2, 5, dtype=torch.long)
    prompts = {"tokens": tokens, "mask": torch.ones_like(tokens), "last": tokens[:, 0] * 4, "answers": tokens[:, 0]}
    return Client.make(zoo(weights=False).load("llama"), {"prompts": prompts}, tmp_path / "store")


def place(client: Client) -> str:
    return client.backend().place(client.model)


OTHER_MODELS: dict[str, dict[str, Any]] = {
    "revision": {"revision": "v2"},
    "precision": {"dtype": "bfloat16"},
    "quantisation": {"dtype": "nf4"},
    "configuration": {"config": '{"rope_theta": 500000.0}'},
    "size": {"n_params": 8_000_000_000},
    "its own code": {"trusted": True},
    "what runs it": {"actor_class": "ndif.services.ray.tp.model.TPModelActor"},
    "commit": {"commit_hash": "0e9e39f2"},
    "name": {"repo_id": "someone/else"},
}
OTHER_LIBRARIES = {"torch": "2.13.0+cu128", "transformers": "5.99.1", "peft": "0.1", "flash_attn": "2.7"}
PASSING: dict[str, Any] = {
    "application_state": "DEPLOYING",
    "replica_id": "r7",
    "pinned": True,
    "schedule": {"end_time": "2031-01-01"},
    "execution_timeout_seconds": 60,
    "size_bytes": 123,
    "load": 0.97,
}


@pytest.mark.parametrize("fact", OTHER_MODELS)
def test_another_model_under_the_name_is_another_place(client: Client, fact: str) -> None:
    before = place(client)
    client.server.deployment = OTHER_MODELS[fact]
    assert place(client) != before


@pytest.mark.parametrize("library", OTHER_LIBRARIES)
def test_another_library_is_another_place(client: Client, library: str) -> None:
    client.settings["check_versions"] = False
    before = place(client)
    client.server.packages = {library: OTHER_LIBRARIES[library]}
    assert place(client) != before


@pytest.mark.parametrize("fact", PASSING)
def test_what_passes_is_not_in_the_place(client: Client, fact: str) -> None:
    before = place(client)
    client.server.deployment = {fact: PASSING[fact]}
    client.server.packages = {"uvicorn": "9"}
    assert place(client) == before


def test_a_server_that_runs_another_model_since_shares_no_record(client: Client) -> None:
    first = client.run()
    other = {"prediction": torch.arange(2) + 7, "probability": torch.zeros(2)}
    client.server.pages[RESULT_PAGE] = answers(compressed(saved({"result": other})))
    assert largest_difference(client.run(), first) == 0
    client.server.deployment = {"revision": "v2"}
    assert largest_difference(client.run(), other) == 0
    client.server.deployment = {}
    assert largest_difference(client.run(), first) == 0


def test_the_server_is_asked_once_and_before_the_first_unit(client: Client) -> None:
    runner = Runner(client.backend(), Store(client.folder))
    for _ in range(2):
        runner.run(client.model, answer, client.inputs)
    paths = [request.url.path for request in client.server.requests]
    assert paths == ["/whoami", "/env", "/status", "/request", f"/response/{JOB}", RESULT_PAGE]
    assert runner.cost.reused == 1
    assert runner.cost.wire_down > sum(map(len, paths))


def test_without_the_server_nothing_is_said_of_what_it_runs(client: Client) -> None:
    """What is kept may be of what it ran then: a run that could do without it asks all the same."""
    client.run()

    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client.server.pages = dict.fromkeys(("/whoami", "/env", "/status"), gone)
    with pytest.raises(UserError, match=rf"backend\.host: {HOST}: the connection failed .* what is finished is kept"):
        client.run()


def test_copies_that_differ_are_refused_with_what_they_differ_in(client: Client) -> None:
    entry = {"model_key": model_key(client.model), "deployment_level": "HOT"}
    copies = {"a": {**entry, "dtype": "float32"}, "b": {**entry, "dtype": "bfloat16"}, "c": entry}
    client.server.pages["/status"] = answers({"deployments": copies})
    with pytest.raises(UserError, match=r"model\.members\.llama: .* copies of .* that differ \(dtype\)"):
        client.run()
    client.server.pages["/status"] = answers({"deployments": {**copies, "b": copies["a"], "c": copies["a"]}})
    client.run()


def test_a_model_that_is_parked_is_brought_up_and_counts_as_the_one_that_is_up(client: Client) -> None:
    """Of a model that is not up a server does not say in what precision it runs."""
    client.server.deployment = {"dtype": "bfloat16"}
    up = place(client)
    client.server.deployment = {"deployment_level": "WARM", "dtype": None}
    client.settings |= {"deploy": "auto", "status_age_s": 5.0}

    def brought_up(request: httpx.Request) -> httpx.Response:
        client.server.deployment = {"dtype": "bfloat16"}
        return answers(state(status="RECEIVED", data=None))(request)

    client.server.pages["/request"] = brought_up
    assert place(client) == up


@pytest.mark.parametrize(("there", "said"), [("float32", False), ("bfloat16", True), (7, False), (None, False)])
def test_another_precision_than_is_asked_for_is_said(
    client: Client, there: Any, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    client.server.deployment = {"dtype": there}
    client.settings["host"] = f"http://server.test:{9000 + len(str(there))}"  # what was said once is not said again
    place(client)
    assert (f"in {there}, not in float32" in capsys.readouterr().err) is said


def test_what_it_runs_is_recorded_in_words(client: Client) -> None:
    client.server.deployment = {"dtype": "float32", "config": "x" * 5000}
    record = client.backend().hosted(client.model).record()
    assert record["model.dtype"] == '"float32"'
    assert record["model.config"].startswith("sha256:")
    assert record["nnsight"]
    assert "model.application_state" not in record
