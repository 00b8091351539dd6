"""Addresses, passwords and keys: the key goes to one scheme, host and port, and is never shown or noted."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitrack.core.errors import UserError
from entitrack.runtime.ndif.saying import one_line, scrub
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.wire import Wire
from tests.hostile.replies import (
    HOST,
    KEY,
    RESULT_PAGE,
    STATE_PAGE,
    Client,
    answers,
    good_result,
    good_values,
    refused,
    state,
)
from tests.remote.harness import largest_difference

ELSEWHERE = (
    "@evil.test/x",
    "//evil.test/x",
    "/result/x",
    f"{HOST}@evil.test/x",
    f"{HOST}.evil.test/x",
    "http://server.test:8080@evil.test/x",
    "http://server.test:8080\\@evil.test/x",
    "http://server.test\\@evil.test:8080/x",
    "http://server.test:80/x",
    "http://server.test/x",
    "https://server.test:8080/x",
    "http://server.test.:8080/x",
    "http://server.test.evil.test:8080/x",
    "http://evil.test/http://server.test:8080/x",
    "http://evil.test?http://server.test:8080/",
    "http://evil.test#http://server.test:8080/",
    "http://sеrver.test:8080/x",
    "http://ſerver.test:8080/x",
    "http://server%2etest:8080/x",
    "http://server.test:8080\t.evil.test/x",
    "http://server.test:8080\r\nHost: evil.test/x",
    " http://server.test:8080/x",
    "http:server.test:8080/x",
    "http:///server.test:8080/x",
    "http://[::1]:8080/x",
    "http://server.test:99999999/x",
    "http://server.test:/x",
    "http://:8080/x",
    "ftp://server.test:8080/x",
    "file:///etc/passwd",
    "data:text/plain,x",
    "ws://server.test:8080/x",
    "javascript:alert(1)",
    "http://" + "a" * 100_000 + ".test/",
    "",
)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_the_key_goes_to_the_configured_server_alone(client: Client, address: str) -> None:
    client.server.pages[STATE_PAGE] = answers(state(data=address))
    client.server.pages["/x"] = answers(b"no result")
    refused(client)
    for request in client.server.requests:
        own = (request.url.scheme, request.url.host, request.url.port) == ("http", "server.test", 8080)
        assert own == (KEY in str(request.headers.raw))
        assert request.url.scheme in ("http", "https")


@pytest.mark.parametrize(
    "address",
    ["https://bucket.test/result?signature=1", "http://server.test:9000/x", f"{HOST}/x", "HTTP://SERVER.TEST:8080/x"],
)
def test_a_result_may_lie_elsewhere(client: Client, address: str) -> None:
    client.server.pages[STATE_PAGE] = answers(state(data=address))
    client.server.pages["/x"] = client.server.pages["/result"] = answers(good_result())
    assert largest_difference(client.run(), good_values()) == 0
    assert client.server.keys_went_to() == {HOST}


def test_a_result_does_not_leave_https(client: Client) -> None:
    client.settings["host"] = "https://server.test"
    client.server.pages[STATE_PAGE] = answers(state(data="http://server.test/x"))
    with pytest.raises(UserError, match="without https"):
        client.run()
    assert {request.url.scheme for request in client.server.requests} == {"https"}


@pytest.mark.parametrize("data", [None, 5, [], {"url": HOST}, True])
def test_a_result_without_an_address_is_said(client: Client, data: Any) -> None:
    client.server.pages[STATE_PAGE] = answers(state(data=data))
    assert "is damaged" in refused(client)


HOSTS = (
    "server.test",
    "ftp://server.test",
    "https://",
    "https://user:hunter2@server.test",
    "https://hunter2@server.test",
    "https:/user:hunter2@server.test",
    "user:hunter2@server.test",
    "https://server.test/?key=hunter2",
    "https://server.test/#hunter2",
    "https://ser ver.test",
    "https://server.test\n",
    "https://sérver.test",
    "https://server.test\\x",
    "https://server.test:99999",
    "https://server.test:hunter2@",
    "https://[::1",
    "https://\x1b[31m",
    "x" * 100_000,
)


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_none_is_refused_without_its_password(client: Client, host: str) -> None:
    client.settings["host"] = host
    said = refused(client)
    assert said.startswith("backend.host: ")
    assert "hunter2" not in said
    assert client.server.requests == []


KEYS = (
    "hunter2\n",
    "\nhunter2",
    "hunter2\r\nx: y",
    "hun ter2",
    "hunter2\x00",
    "hunter2\x1b[31m",
    "hunter2é",
    "hunter2\u202e",
    "hunter2" * 1000,
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("way", ["settings", "environment"])
def test_a_key_that_is_none_is_refused_without_repeating_it(
    client: Client, key: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment" and "\0" in key:
        pytest.skip("no environment holds it")
    client.settings["key"] = key if way == "settings" else None
    if way == "environment":
        monkeypatch.setenv("NDIF_API_KEY", key)
    said = refused(client)
    assert said.startswith("backend.key: ")
    assert "hun" not in said
    assert client.server.requests == []


def test_the_key_is_in_nothing_that_is_shown_or_noted(client: Client) -> None:
    backend = client.backend()
    assert KEY not in repr(backend) + repr(backend.settings) + repr(backend._wire)
    client.server.pages[RESULT_PAGE] = answers(b"damaged")
    refused(client)
    notes = [path.read_text() for path in client.folder.rglob("*") if path.is_file()]
    assert notes
    assert not any(KEY in note for note in notes)


def test_an_error_of_the_connection_does_not_show_the_key(client: Client) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError(f"Illegal header value {KEY!r} \x1b[31m\n{KEY}")

    client.server.pages["/whoami"] = broken
    assert "***" in refused(client)


def test_a_proxy_that_is_none_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://user:hunter2@proxy.test")
    with pytest.raises(UserError, match=r"backend\.host: no connection can be made") as caught:
        Wire(Settings(host=HOST))
    assert "hunter2" not in str(caught.value)


@given(st.text(), st.text(st.characters(exclude_characters="*"), min_size=1))
def test_words_are_one_line_and_hold_no_key(words: str, key: str) -> None:
    line = one_line(words)
    assert line.isprintable()
    assert len(line) <= 300
    assert key not in scrub(words + key + words, key)
