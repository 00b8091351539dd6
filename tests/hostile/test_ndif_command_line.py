"""Bad servers, hosts and keys as the command line tells them: one line, no key, nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from entitrack.runtime.ndif import backend
from entitrack.runtime.ndif.wire import Wire
from tests.conftest import Launch
from tests.hostile.replies import (
    ANSI,
    HOST,
    IN_A_HURRY,
    KEY,
    RESULT_PAGE,
    STATE_PAGE,
    Answer,
    FakeServer,
    answers,
    compressed,
    saved,
    state,
)
from tests.hostile.test_replies_results import torch_script
from tests.hostile.trial import Trial, attempt

ON = ("backend=ndif", *(f"backend.{name}={value}" for name, value in {**IN_A_HURRY, "retries": 0}.items()))
HERE = (*ON, f"backend.host={HOST}", "store={here}/store")
OTHER = "(?!.*hunter2)"
PASSWORD = {"NDIF_HOST": "https://user:hunter2@server.test"}

WORDS = [
    Trial("a password in the host", (*ON, "backend.host=https://u:hunter2@server.test"), OTHER + r"backend\.host: the"),
    Trial("a password in the environment's host", ON, OTHER + r"backend\.host: the", environment=PASSWORD),
    Trial("a host that is a name", (*ON, "backend.host=server.test"), r"backend\.host: 'server\.test' is not an"),
    Trial("a host of another kind", (*ON, "backend.host=ftp://server.test"), r"backend\.host: .* is not an address"),
    Trial("a host with a query", (*ON, "backend.host='https://server.test/?key=hunter2'"), OTHER + r"backend\.host: "),
    Trial("no room for a result", (*HERE, "backend.max_result_bytes=0"), r"backend\.max_result_bytes: 0 is not 1 or"),
    Trial("a key with a line end", HERE, OTHER + r"backend\.key: ", environment={"NDIF_API_KEY": "hunter2\n"}),
    Trial("a key with an escape", HERE, OTHER + r"backend\.key: ", environment={"NDIF_API_KEY": "hunter2\x1b[31m"}),
    Trial("a key of another alphabet", HERE, OTHER + r"backend\.key: ", environment={"NDIF_API_KEY": "hunter2е"}),
    Trial(
        "a proxy with a password", HERE, OTHER + r"backend\.host: no conn", environment={"ALL_PROXY": "x://u:hunter2@p"}
    ),
]


@dataclass(frozen=True)
class Served(Trial):
    """A trial on a server.

    Attributes:
        pages: What it answers instead.
    """

    pages: dict[str, Callable[[], Answer]] = field(default_factory=dict)


def served(name: str, says: str, page: str, answer: Callable[[], Answer], *more: str) -> Served:
    return Served(name, (*HERE, *more), says, environment={"NDIF_API_KEY": KEY}, pages={page: answer})


SMALL = "backend.max_result_bytes=4999"
SERVERS = [
    served("a page of a hotel", rf"backend\.host: {HOST}/status .* not JSON", "/status", lambda: answers(b"<html>")),
    served("a list of nothing", r"model\.members\.float: .* nothing at", "/status", lambda: answers({})),
    served("an echo of the key", r"backend\.host: .*\*\*\*", "/request", lambda: answers({"detail": KEY}, 400)),
    served("a complaint with escapes", r"backend\.key: .*red", "/whoami", lambda: answers({"detail": ANSI}, 401)),
    served("a state of another job", r".* another job", STATE_PAGE, lambda: answers(state(id="e" * 16))),
    served(
        "a redirect", r"backend\.host: .* leads elsewhere", "/env", lambda: answers(b"", 302, location="http://evil")
    ),
    served("a result of TorchScript", r".* is damaged", RESULT_PAGE, lambda: answers(compressed(torch_script()))),
    served("an address with a user", r".* is damaged", STATE_PAGE, lambda: answers(state(data="@evil.test/x"))),
    served("a large result", r"backend\.max_result_bytes: ", RESULT_PAGE, lambda: answers(bytes(5000)), SMALL),
    served("an empty result", r".* is damaged", RESULT_PAGE, lambda: answers(compressed(saved({"result": {}})))),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trial", [*WORDS, *SERVERS], ids=lambda trial: trial.name)
def test_what_is_wrong_is_one_line(
    trial: Trial,
    launch: Launch,
    golden_overrides: list[str],
    golden_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NDIF_HOST", "NDIF_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if isinstance(trial, Served):
        named = {"repo_id": str(golden_folder / "donor"), "revision": None, "task": "text-generation"}
        server = FakeServer(f"nnsight.modeling.transformers.TransformersModel:{json.dumps(named)}")
        server.pages = {page: answer() for page, answer in trial.pages.items()}
        transport = httpx.MockTransport(server)
        monkeypatch.setattr(backend, "Wire", lambda settings, _: Wire(settings, transport))
    attempt(trial, launch, golden_overrides, tmp_path, capsys, monkeypatch)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret in path.read_bytes() for path in written for secret in (b"hunter2", KEY.encode()))
