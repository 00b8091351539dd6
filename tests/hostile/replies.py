"""A server in this process that answers what a test wants, and archives as a liar would write them."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import zstandard
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.models.family import Model
from entitrack.runtime.backends import Runner
from entitrack.runtime.ndif.backend import Ndif
from entitrack.runtime.ndif.payload import model_key
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.store import Store

HOST = "http://server.test:8080"
KEY = "secret-of-mine"
JOB = "0123456789abcdef"
RESULT_PAGE = f"/result/{JOB}"
STATE_PAGE = f"/response/{JOB}"

MIB = 1 << 20
LONGEST_LINE = 1500
ANSI = "\x1b[31mred\x1b[0m \x07 \x9b31m \r\n second \u202e line"
CANARY = Path("sprung")

IN_A_HURRY = {
    "poll_s": 0.001,
    "backoff_s": 0.0,
    "retries": 1,
    "deploy": "never",
    "status_age_s": 0.0,
    "reconnect_s": 0.0,
}
"""Settings of a client that waits for nothing."""

Answer = Callable[[httpx.Request], httpx.Response]


def saved(value: Any, **options: Any) -> bytes:
    """What `torch.save` makes of a value."""
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def compressed(archive: bytes) -> bytes:
    return zstandard.compress(archive)


def good_values(rows: int = 2) -> dict[str, Tensor]:
    """What the intervention `answer` gives."""
    return {"prediction": torch.arange(rows), "probability": torch.linspace(0, 1, rows)}


def good_result(rows: int = 2) -> bytes:
    return compressed(saved({"result": good_values(rows)}))


def state(**others: Any) -> dict[str, Any]:
    """A finished job's state."""
    return {"id": JOB, "status": "COMPLETED", "description": "", "data": HOST + RESULT_PAGE, **others}


def rezipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def members(program: bytes, storages: Mapping[str, bytes] | None = None, **others: bytes) -> dict[str, bytes]:
    """The members that an archive has, around a pickled program."""
    plain = {"data.pkl": program, "byteorder": sys.byteorder.encode(), "version": b"3\n", **others}
    plain |= {f"data/{number}": content for number, content in (storages or {}).items()}
    return {f"archive/{name}": content for name, content in plain.items()}


def lied(program: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """A result whose structure is `program`."""
    return compressed(rezipped(members(program, storages)))


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """The instruction that pushes a whole number."""
    content = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def result_of(pushed: bytes) -> bytes:
    """A program that saves one value, which these instructions push, as `values` of the result."""
    return b"\x80\x02}" + text("result") + b"}" + text("values") + pushed + b"ss."


def tensor(
    size: bytes,
    stride: bytes,
    offset: bytes = number(0),
    count: bytes = number(4),
    kind: str = "FloatStorage",
    place: str = "0",
    metadata: bytes = b"",
) -> bytes:
    """The instructions that push a tensor of four numbers in `data/0`, with parts of them replaced."""
    reference = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(place) + text("cpu") + count + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + reference
        + offset
        + size
        + stride
        + b"\x89"
        + hooks
        + metadata
        + b"tR"
    )


def lied_tensor(size: bytes, stride: bytes, offset: bytes = number(0), **parts: Any) -> bytes:
    """A result with a tensor of which parts are lies."""
    return lied(result_of(tensor(size, stride, offset, **parts)), {"0": bytes(16)})


@dataclass
class FakeServer:
    """Answers as the protocol says, but for the pages that a test replaces.

    Attributes:
        hosted: Key of the model that it hosts.
        pages: Path -> what it answers instead.
        deployment: What `/status` says of the model, besides its key.
        packages: What `/env` says.
        requests: Everything that was asked for, on any host.
    """

    hosted: str
    pages: dict[str, Answer] = field(default_factory=dict)
    deployment: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if path in self.pages:
            return self.pages[path](request)
        if path == RESULT_PAGE:
            return answers(good_result())(request)
        page = self._pages().get(path)
        return answers({"detail": "Not Found"} if page is None else page, 404 if page is None else 200)(request)

    def _pages(self) -> dict[str, Any]:
        """The pages that are JSON."""
        known = {name: version(name) for name in ("nnsight", "torch", "transformers")}
        entry = {"model_key": self.hosted, "deployment_level": "HOT", "application_state": "RUNNING"}
        return {
            "/whoami": {"email": None, "tags": []},
            "/env": {"python_version": sys.version, "packages": {**known, **self.packages}},
            "/status": {"deployments": {"r0:ModelActor:" + self.hosted: {**entry, **self.deployment}}},
            "/request": state(status="RECEIVED", data=None),
            STATE_PAGE: state(),
        }

    def keys_went_to(self) -> set[str]:
        """Scheme, host and port of everything that was sent the key, in whatever way."""
        told = [request for request in self.requests if KEY in f"{request.headers.raw} {request.url}"]
        return {f"{request.url.scheme}://{request.url.netloc.decode()}" for request in told}


@dataclass
class Client:
    """The client's side: one unit to do, a store, and a server of the test's own."""

    model: Model
    inputs: dict[str, Any]
    folder: Path
    server: FakeServer
    settings: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def make(model: Model, inputs: dict[str, Any], folder: Path) -> Client:
        return Client(model, inputs, folder, FakeServer(model_key(model)))

    def backend(self) -> Ndif:
        given = {"host": HOST, "key": KEY, **IN_A_HURRY, **self.settings}
        return Ndif(Settings(**given), transport=httpx.MockTransport(self.server))

    def run(self) -> dict[str, Any]:
        """Do the unit."""
        return Runner(self.backend(), Store(self.folder)).run(self.model, answer, self.inputs)

    def stored(self) -> list[Path]:
        """What is in the store, apart from notes about jobs."""
        return [path for path in self.folder.rglob("*") if path.is_file() and "jobs" not in path.parts]


def answers(content: Any, status: int = 200, **headers: str) -> Answer:
    """A page that always answers this: bytes as they are, anything else as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(status, stream=httpx.ByteStream(body), headers=named)


def check_line(line: str) -> None:
    """One line of bounded length, without control characters or the key."""
    assert line.isprintable(), repr(line)
    assert len(line) <= LONGEST_LINE
    assert KEY not in line


def refused(client: Client) -> str:
    """What the user reads; nothing was executed, kept, or told to anyone else."""
    with pytest.raises(UserError) as caught:
        client.run()
    check_line(str(caught.value))
    assert client.stored() == []
    assert not CANARY.exists()
    assert client.server.keys_went_to() <= {HOST}
    return str(caught.value)


@contextmanager
def little_memory(most: int = 100 * MIB) -> Iterator[None]:
    """The block does not take more memory at once than this, on top of what is there."""

    def resident(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # the highest mark is the present one again
    before = resident("VmRSS")
    yield
    assert resident("VmHWM") - before <= most
