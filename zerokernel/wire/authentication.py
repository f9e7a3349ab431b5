"""Both ends of a channel prove that they know its secret, without sending it.

Challenge and response with HMAC-SHA256; each side's answer is bound to its role, so that
an answer cannot be played back to the side that gave it.
"""

from __future__ import annotations

import hmac
import secrets
import socket

from zerokernel.errors import AuthenticationFailed

_NONCE = 32
_DIGEST = 32


def prove_as_listener(connection: socket.socket, secret: bytes) -> None:
    """Runs the listener's half. Raises AuthenticationFailed or OSError (time-out included)."""
    challenge = secrets.token_bytes(_NONCE)
    connection.sendall(challenge)
    answer = _read(connection, _DIGEST + _NONCE)
    if not hmac.compare_digest(answer[:_DIGEST], _response(secret, b"caller", challenge)):
        raise AuthenticationFailed
    connection.sendall(_response(secret, b"listener", answer[_DIGEST:]))


def prove_as_caller(connection: socket.socket, secret: bytes) -> None:
    """Runs the caller's half. Raises AuthenticationFailed or OSError."""
    challenge = _read(connection, _NONCE)
    own = secrets.token_bytes(_NONCE)
    connection.sendall(_response(secret, b"caller", challenge) + own)
    if not hmac.compare_digest(_read(connection, _DIGEST), _response(secret, b"listener", own)):
        raise AuthenticationFailed


def _response(secret: bytes, role: bytes, challenge: bytes) -> bytes:
    return hmac.digest(secret, role + challenge, "sha256")


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise AuthenticationFailed("The other end closed the connection: the secret is wrong.")
        data += part
    return bytes(data)
