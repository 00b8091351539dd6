"""Answers that are wrong below the level of pages: lengths that lie, bodies without end, no HTTP at all."""

from __future__ import annotations

import socket
import time

import pytest

from entitrack.core.errors import UserError
from entitrack.runtime.backends import Cost
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.wire import Wire
from tests.hostile.replies import KEY, MIB, check_line, little_memory
from tests.hostile.sockets import Send, sending

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
MOST_S = 20.0


def once(content: bytes) -> Send:
    return lambda connection: connection.sendall(content)


def endless(start: bytes, piece: bytes) -> Send:
    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return send


def dripping(connection: socket.socket) -> None:
    connection.sendall(OK + b"content-length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
ANSWERS: dict[str, Send] = {
    "nothing": once(b""),
    "no http": once(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "escapes": once(b"HTTP/1.1 200 \x1b[31m\x07\r\n\x1b]0;title\x07: x\r\n\r\n{}"),
    "a header of escapes": once(b"HTTP/1.1 400 Bad \xff\xfe\r\ncontent-length: 0\r\n\r\n"),
    "half a header": once(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "headers without end": endless(b"HTTP/1.1 200 OK\r\n", b"a: " + b"b" * 1000 + b"\r\n"),
    "a length that is more": once(OK + b"content-length: 1000\r\n\r\n{}"),
    "a length that is less": once(OK + b"content-length: 1\r\n\r\n{}"),
    "a length of exabytes": endless(OK + b"content-length: 999999999999999999\r\n\r\n", b" " * 65536),
    "a negative length": once(OK + b"content-length: -5\r\n\r\n{}"),
    "two lengths": once(OK + b"content-length: 5\r\ncontent-length: 2\r\n\r\n{}"),
    "a length in words": once(OK + b"content-length: many\r\n\r\n{}"),
    "no length and no end": endless(OK + b"\r\n", b" " * 65536),
    "pieces without end": endless(OK + b"transfer-encoding: chunked\r\n\r\n", CHUNK),
    "a piece of no size": once(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
    "a piece of exabytes": once(OK + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n"),
    "a complaint without end": endless(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536),
    "a drop at a time": dripping,
    "another protocol": once(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\x81\x05hello"),
    "preliminary answers": once(
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull"
    ),
    "the key": once(f"HTTP/1.1 418 {KEY}\r\nx: {KEY}\r\ncontent-length: 0\r\n\r\n".encode()),
}


def said_of(address: str) -> str:
    """What the user reads; empty if the page counts as one that the server does not have."""
    settings = Settings(host=address, key=KEY, retries=1, backoff_s=0.0, timeout_s=1.0, max_result_bytes=2 * MIB)
    try:
        content = Wire(settings).page("/whoami", Cost())
    except UserError as error:
        return str(error)
    assert content is None
    return ""


@pytest.mark.parametrize("case", ANSWERS)
def test_bytes_that_are_no_answer_are_said_in_a_line(case: str) -> None:
    begun = time.monotonic()
    with sending(ANSWERS[case]) as address, little_memory(60 * MIB):
        said = said_of(address)
    check_line(said)
    assert said.startswith("backend.") or case in ("the key", "a header of escapes")
    assert time.monotonic() - begun < MOST_S
