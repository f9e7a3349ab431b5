"""The broker over real sockets: who gets in, and what hostile bytes get."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado import httpclient, websocket

from zerokernel.broker.app import ROUTES
from zerokernel.broker.handlers import MAX_MESSAGE, Guarded
from zerokernel.client import CloseCode
from zerokernel.messages import (
    PROTOCOL_VERSION,
    OpenSession,
    RequestLease,
    SessionOpened,
    decode,
    encode,
)
from zerokernel.testing import InProcessBroker

OPENING = OpenSession("0" * 32, "test.ipynb", "python", {})


@pytest.fixture(scope="module")
def broker() -> Iterator[InProcessBroker]:
    with InProcessBroker() as running:
        yield running


def ask(
    broker: InProcessBroker, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Asks with a valid token unless the headers say otherwise; "" leaves a header out."""
    where = urlsplit(broker.url)
    sent = {"Authorization": f"token {broker.address.token}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=10)
    try:
        connection.request(method, path, body, {k: v for k, v in sent.items() if v})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "{}")
    finally:
        connection.close()


def concrete(path: str) -> str:
    return path.replace("([^/]{1,64})", "a" * 32)


PATHS = [(method, concrete(path)) for method, path, _ in ROUTES]
PATHS += [("GET", "/"), ("GET", "/favicon.ico"), ("POST", "/v1/status"), ("PUT", "/v1/x")]


def test_every_handler_is_guarded() -> None:
    """No route can be added that does not descend from the one that checks the token."""
    assert all(issubclass(handler, Guarded) for _, _, handler in ROUTES)


@pytest.mark.parametrize("authorization", ["", "token", "token wrong", "Bearer x", "token \xff"])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_no_path_answers_without_the_token(
    broker: InProcessBroker, method: str, path: str, authorization: str
) -> None:
    """Known or unknown, with any method: 401, and nothing but a reason."""
    status, body = ask(broker, method, path, Authorization=authorization)
    assert status == 401
    assert set(body) == {"error"}
    assert not broker.shutdown_asked.is_set()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "["])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_foreign_host_is_refused(
    broker: InProcessBroker, method: str, path: str, host: str
) -> None:
    """A page whose name was rebound to loopback does not get in, token or not."""
    status, _ = ask(broker, method, path, Host=host)
    assert status in (400, 403)


@pytest.mark.parametrize("host", ["localhost:{}", "127.0.0.1:{}", "[::1]:{}"])
def test_loopback_names_are_served(broker: InProcessBroker, host: str) -> None:
    """Whichever way this machine is named."""
    port = urlsplit(broker.url).port
    assert ask(broker, "GET", "/v1/status", Host=host.format(port))[0] == 200


def test_a_foreign_origin_is_refused(broker: InProcessBroker) -> None:
    """A browser's page from elsewhere does not get in; the broker's own origin does."""
    assert ask(broker, "GET", "/v1/status", Origin="http://evil.example")[0] == 403
    assert ask(broker, "GET", "/v1/status", Origin="null")[0] == 403
    assert ask(broker, "GET", "/v1/status", Origin=broker.url)[0] == 200


def test_unknown_things_are_404(broker: InProcessBroker) -> None:
    """Paths, requests and sessions that do not exist."""
    for method, path in [("GET", "/nowhere"), *(p for p in PATHS if "aaaa" in p[1])]:
        assert ask(broker, method, path)[0] == 404


def test_a_large_body_is_refused(broker: InProcessBroker) -> None:
    """It is not read, and the broker serves on."""
    body = b"x" * (MAX_MESSAGE + 1)
    with pytest.raises((AssertionError, OSError, http.client.HTTPException)):
        assert ask(broker, "POST", "/v1/requests/a/cancel", body)[0] == 404
    assert ask(broker, "GET", "/v1/status")[0] == 200


def test_shutdown_is_passed_on() -> None:
    """Who has the token can end the broker."""
    with InProcessBroker() as one:
        assert ask(one, "POST", "/v1/shutdown")[0] == 200
        assert one.shutdown_asked.wait(5)


# --- the WebSocket ----------------------------------------------------------------------


def converse(broker: InProcessBroker, *messages: bytes | str) -> tuple[list[Any], int | None]:
    """Sends messages, gives what came back until the close, and the close code."""

    async def run() -> tuple[list[Any], int | None]:
        request = httpclient.HTTPRequest(
            broker.url.replace("http", "ws") + "/v1/events",
            headers={"Authorization": f"token {broker.address.token}"},
        )
        socket = await websocket.websocket_connect(request)
        for message in messages:
            await socket.write_message(message, binary=isinstance(message, bytes))
        received = []
        async with asyncio.timeout(10):
            while (answer := await socket.read_message()) is not None:
                received.append(answer)
        socket.close()
        return received, socket.close_code

    return asyncio.run(run())


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"kind": "RequestLease"}',
    f'{{"kind": "OpenSession", "protocol": {PROTOCOL_VERSION}}}'.encode(),
    b'{"kind": "OpenSession", "protocol": "1"}',
    b'{"kind": "__class__"}',
    b"[" * 100_000,
    encode(RequestLease("r", "", 1.0)),
    encode(OpenSession("", "n", "p", {})),
    encode(OpenSession("x" * 65, "n", "p", {})),
]


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
def test_a_malformed_opening_ends_only_its_connection(
    broker: InProcessBroker, message: bytes
) -> None:
    """The close says so, and the next one is served."""
    assert converse(broker, message)[1] == CloseCode.MALFORMED
    assert ask(broker, "GET", "/v1/status")[0] == 200


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b'{"kind": "RequestLease", "request": 7, "size": "", "duration": 1}',
        b'{"kind": "RequestLease", "request": "r", "size": "", "duration": "1"}',
        b'{"kind": "RequestLease", "request": "r", "size": "", "duration": 1, "more": 1}',
        b'{"kind": "WorkerGone", "session": "s", "cause": "c"}',
        encode(OPENING),
    ],
    ids=range(6),
)
def test_a_malformed_message_ends_only_its_session(broker: InProcessBroker, message: bytes) -> None:
    """Nothing of it is believed: wrong types, unknown fields, another's kind of message."""
    received, code = converse(broker, encode(OPENING), message)
    assert [type(decode(one)) for one in received] in ([], [SessionOpened])
    assert code == CloseCode.MALFORMED
    assert ask(broker, "GET", "/v1/status")[0] == 200


def test_another_protocol_version_is_told_so(broker: InProcessBroker) -> None:
    """Also where that version's opening has fields that this one does not know."""
    body = {"kind": "OpenSession", "protocol": 99, "new": True}
    assert converse(broker, json.dumps(body))[1] == CloseCode.PROTOCOL


def test_a_frame_that_is_too_large_ends_its_connection(broker: InProcessBroker) -> None:
    """1 MiB is enough for any message of a notebook."""
    assert converse(broker, b"x" * (MAX_MESSAGE + 1))[1] in (1009, 1006, None)
    assert ask(broker, "GET", "/v1/status")[0] == 200
