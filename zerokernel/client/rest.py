"""A broker's commands over HTTP, for callers without an event loop."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import quote, urlsplit

from zerokernel.client.address import BrokerAddress
from zerokernel.errors import BrokerUnavailable, TokenRefused

_ANSWER_SECONDS = 5.0
_LARGEST_ANSWER = 64 << 20


def call(
    address: BrokerAddress, method: str, path: str, timeout: float = _ANSWER_SECONDS
) -> dict[str, Any]:
    """Sends a command and gives its answer.

    Raises:
        BrokerUnavailable: Nobody answers in time, or not as a broker does.
        TokenRefused: The token is nobody's, or not any more.
        LookupError: The broker does not know the request or session named in the path.
    """
    status, body = _exchange(address, method, path, timeout)
    if status == 401:
        raise TokenRefused(f"The broker at {address.url} refused: {body.get('error', 'no token')}.")
    if status == 404:
        raise LookupError(str(body.get("error", "there is no such thing")))
    if status != 200:
        raise BrokerUnavailable(
            f"The broker at {address.url} refused: {body.get('error', f'status {status}')}."
        )
    return body


def fetch_status(address: BrokerAddress, timeout: float = _ANSWER_SECONDS) -> dict[str, Any]:
    """Gives slices, queue, sessions. Raises BrokerUnavailable."""
    return call(address, "GET", "/v1/status", timeout)


def fetch_usage(address: BrokerAddress) -> dict[str, Any]:
    """Gives the caller's books in milliseconds. Raises BrokerUnavailable."""
    return call(address, "GET", "/v1/usage")


def end_worker(address: BrokerAddress, session: str) -> None:
    """Ends a session's worker. Raises LookupError, BrokerUnavailable."""
    call(address, "POST", f"/v1/sessions/{quote(session, safe='')}/end-worker")


def shut_down(address: BrokerAddress) -> None:
    """Ends the broker with all workers. Raises BrokerUnavailable."""
    call(address, "POST", "/v1/shutdown")


def untrusted(address: BrokerAddress, error: ssl.SSLCertVerificationError) -> str:
    """Says that a broker's certificate is not what it should be, and what to do."""
    return (
        f"The certificate of the broker at {address.url} is not trusted: {error.verify_message}. "
        "The setting broker_ca_file names a file with its authority."
    )


def _connection(
    address: BrokerAddress, host: str, port: int | None, timeout: float
) -> http.client.HTTPConnection:
    if (tls := address.tls) is None:
        return http.client.HTTPConnection(host, port, timeout=timeout)
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=tls)


def _exchange(
    address: BrokerAddress, method: str, path: str, timeout: float
) -> tuple[int, dict[str, Any]]:
    where = urlsplit(address.url)
    connection = _connection(address, where.hostname or "", where.port, timeout)
    try:
        connection.request(method, path, headers={"Authorization": f"token {address.token}"})
        answer = connection.getresponse()
        body = json.loads(answer.read(_LARGEST_ANSWER))
    except ssl.SSLCertVerificationError as error:
        raise BrokerUnavailable(untrusted(address, error)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BrokerUnavailable(f"The broker at {address.url} does not answer: {error}") from error
    finally:
        connection.close()
    if not isinstance(body, dict):
        raise BrokerUnavailable(f"What answers at {address.url} is no broker.")
    return answer.status, body
