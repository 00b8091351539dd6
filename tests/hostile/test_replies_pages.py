"""Pages that are none: whatever a server sends, the user reads one line of bounded length."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest

from entitrack.core.errors import UserError
from tests.hostile.replies import (
    ANSI,
    HOST,
    KEY,
    MIB,
    RESULT_PAGE,
    STATE_PAGE,
    Client,
    answers,
    check_line,
    good_values,
    little_memory,
    refused,
    saved,
    state,
)

SHAPES: dict[str, bytes] = {
    "nothing": b"",
    "html": b"<html><body>Welcome to the hotel's network</body></html>",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"17",
    "a text": b'"fine"',
    "deep": b"[" * 100_000,
    "deep tables": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "invalid utf-8": b'{"id": "\xff\xfe"}',
    "a huge number": b'{"id": ' + b"9" * 6000 + b"}",
    "half": b'{"id": "0123',
    "control characters": ANSI.encode(),
    "a torch archive": saved({"result": good_values()}),
    "too much": b'{"a": "' + b"x" * (5 * MIB) + b'"}',
}
PAGES = ("/whoami", "/env", "/status", "/request", STATE_PAGE)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_that_is_none_is_said_in_a_line(client: Client, page: str, shape: str) -> None:
    client.server.pages[page] = answers(SHAPES[shape])
    said = refused(client)
    assert said.startswith(("backend.host: " + HOST + page, "backend.max_result_bytes: "))


ODD_PAGES: dict[str, tuple[str, Any, str]] = {
    "deployments that are a list": ("/status", {"deployments": [1]}, "no table"),
    "deployments that are texts": ("/status", {"deployments": {"a": "b"}}, "no table"),
    "deployments that are null": ("/status", {"deployments": None}, "no table"),
    "a key that is a number": ("/status", {"deployments": {"a": {"model_key": 3}}}, "model_key of a deployment"),
    "a level that is a list": ("/status", {"deployments": {"a": {"deployment_level": []}}}, "deployment_level"),
    "a key with odd parts": ("/status", {"deployments": {"a": {"model_key": "X:[1]"}}}, "does not host"),
    "a deep key": ("/status", {"deployments": {"a": {"model_key": "X:" + "[" * 99_999}}}, "does not host"),
    "names with escapes": ("/status", {"deployments": {"a": {"model_key": "X:y", "repo_id": ANSI}}}, r"available: \["),
    "a long name": ("/status", {"deployments": {"a": {"model_key": "X:y", "repo_id": "n" * MIB}}}, "nnn…"),
    "nothing but others": ("/status", {}, "nothing at the moment"),
    "packages that are a list": ("/env", {"packages": ["torch"]}, "no table"),
    "a version that is a number": ("/env", {"packages": {"torch": 2.9}}, "version of torch is none"),
    "a version to paste": ("/env", {"packages": {"torch": "2.9; rm -rf ~"}}, "version of torch is none"),
    "a version with escapes": ("/env", {"packages": {"nnsight": "0.8.1\x1b[2J"}}, "version of nnsight is none"),
    "a job without a name": ("/request", {"status": "RECEIVED"}, r"id: Field required"),
    "a job that is a number": ("/request", {"id": 5, "status": "RECEIVED"}, "id: Input should be a valid string"),
    "a job that is another page": ("/request", state(id="../control/fault"), "no job has such a name"),
    "a job that is another host": ("/request", state(id="@evil/x"), "no job has such a name"),
    "a job with a line end": ("/request", state(id="a\n"), "no job has such a name"),
    "a job with a long name": ("/request", state(id="a" * 10_000), "no job has such a name"),
    "an unknown state": (STATE_PAGE, state(status="EXPLODED\x1b[31m"), "status: Input should be"),
    "a description that is a table": (STATE_PAGE, state(description={}), "description: Input should be"),
    "a state that is about another job": (STATE_PAGE, state(id="f" * 16), "about another job"),
    "a state with surrogates": (STATE_PAGE, state(id="\ud800"), "not"),
}


@pytest.mark.parametrize("case", ODD_PAGES)
def test_a_page_of_another_shape_is_said_in_a_line(client: Client, case: str) -> None:
    page, content, says = ODD_PAGES[case]
    client.server.pages[page] = answers(content)
    assert re.search(says, refused(client))


COMPLAINTS: dict[str, tuple[int, bytes]] = {
    "a megabyte": (422, json.dumps({"detail": "no " * (MIB // 3)}).encode()),
    "a megabyte that is not JSON": (500, b"x" * MIB),
    "escapes": (400, json.dumps({"detail": ANSI}).encode()),
    "escapes that are not JSON": (503, ANSI.encode()),
    "the key": (400, json.dumps({"detail": f"{KEY} is not a key"}).encode()),
    "the key at the end of what is shown": (400, ("x" * 295 + KEY).encode()),
    "a list": (404, b'[{"loc": ["body"], "msg": "field required"}]'),
    "null": (409, b"null"),
    "invalid utf-8": (418, b"\xff\xff\xff"),
    "nothing": (501, b""),
    "deep": (500, b"[" * 60_000),
    "an unheard of code": (999, b"?"),
    "lone surrogates": (400, b'{"detail": "\\ud800 \\udfff"}'),
    "no key": (401, json.dumps({"detail": ANSI}).encode()),
}


@pytest.mark.parametrize("case", COMPLAINTS)
def test_a_complaint_is_one_line(client: Client, case: str) -> None:
    client.server.pages["/request"] = answers(COMPLAINTS[case][1], COMPLAINTS[case][0])
    refused(client)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("page", ["/whoami", "/request", STATE_PAGE, RESULT_PAGE])
def test_redirects_are_not_followed(client: Client, page: str, code: int) -> None:
    client.server.pages[page] = answers(b"", code, location=f"http://evil.test{page}")
    assert "leads elsewhere (http://evil.test" in refused(client)
    client.server.pages[page] = answers(b"", code, location=f"http://evil.test/\x1b{page}")
    refused(client)
    assert {request.url.host for request in client.server.requests} == {"server.test"}


def test_what_is_compressed_on_the_way_is_not_unpacked(client: Client) -> None:
    """Ten gigabytes fit in ten megabytes, and libraries unpack them as they come."""
    for page, coding in (("/status", "gzip"), (RESULT_PAGE, "gzip"), (STATE_PAGE, "deflate"), ("/env", "br")):
        client.server.pages = {page: answers(gzip.compress(bytes(30 * MIB)), content_encoding=coding)}
        with little_memory():
            assert "compressed answer" in refused(client)


def test_a_job_that_fails_is_told_without_control_characters(client: Client) -> None:
    frame = 'File "/x/entitrack/../../../../../../etc/passwd", line 1, in \x1b[31mf'
    trace = "  x\x1b]0;title\x07\n" * 50_000 + f"  {frame}\n{KEY}\nValueError: {ANSI} {KEY}"
    client.server.pages[STATE_PAGE] = answers(state(status="ERROR", description=trace))
    with pytest.raises(UserError) as caught:
        client.run()
    lines = str(caught.value).split("\n")
    assert len(lines) < 70
    for line in lines:
        check_line(line)


def test_a_job_that_fails_shows_no_other_file_of_ours(client: Client) -> None:
    for path in (
        "entitrack/../../../../../../../etc/passwd",
        "/entitrack/../pyproject.toml",
        "entitrack/../tests/conftest.py",
    ):
        trace = f'  File "{path}", line 1, in f\nValueError: no'
        client.server.pages[STATE_PAGE] = answers(state(status="ERROR", description=trace))
        with pytest.raises(UserError) as caught:
            client.run()
        assert "`" not in str(caught.value)
