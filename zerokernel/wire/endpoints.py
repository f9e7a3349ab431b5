"""Addresses, listeners and authenticated connections.

An address is "unix:PATH" or "tcp:HOST:PORT".
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from zerokernel.errors import AuthenticationFailed, ChannelClosed, MalformedMessage
from zerokernel.messages import Hello
from zerokernel.wire.authentication import prove_as_caller, prove_as_listener
from zerokernel.wire.channel import Channel
from zerokernel.wire.tcp import TcpChannel
from zerokernel.wire.unix import UnixChannel

HANDSHAKE_SECONDS = 5.0
"""A caller that has not proved itself and said hello by then is dropped."""

_BACKLOG = 128


class Listener:
    """Accepts authenticated callers at an address.

    Attributes:
        address: Where it listens; with port 0 the port that the system chose.
    """

    def __init__(
        self, bound: socket.socket, address: str, secret: bytes, read_memory: bool
    ) -> None:
        self._socket = bound
        self.address = address
        self._secret = secret
        self._read_memory = read_memory

    def fileno(self) -> int:
        """Descriptor to select on; readable when a caller waits."""
        return self._socket.fileno()

    def accept(self) -> tuple[Channel, Hello]:
        """Takes the next caller, who must know the secret and say hello.

        Raises:
            AuthenticationFailed, MalformedMessage, ChannelClosed: The caller was dropped.
        """
        connection, _ = self._socket.accept()
        connection.settimeout(HANDSHAKE_SECONDS)
        try:
            prove_as_listener(connection, self._secret)
            channel = _wrap(connection, self._read_memory)
            received = channel.receive(HANDSHAKE_SECONDS)
        except OSError as error:
            connection.close()
            raise ChannelClosed(f"A caller left during the handshake: {error}") from error
        except (AuthenticationFailed, MalformedMessage, ChannelClosed):
            connection.close()
            raise
        if not isinstance(received.message, Hello):
            channel.close()
            raise MalformedMessage("The first message of a caller must be Hello.")
        return channel, received.message

    def close(self) -> None:
        """Stops listening and removes a UNIX socket's file."""
        self._socket.close()
        if self.address.startswith("unix:"):
            Path(self.address[5:]).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Closes this process's descriptor only, as a forked child must."""
        self._socket.close()


def listen(address: str, secret: bytes, *, read_memory: bool = True) -> Listener:
    """Listens at an address; a UNIX socket's file gets mode 0600.

    Raises:
        OSError: The address is taken or not allowed.
        ValueError: It is no address.
    """
    kind, target = _parse(address)
    if isinstance(target, str):
        bound = _bind_unix(target)
    else:
        bound = socket.create_server(target, backlog=_BACKLOG)
        address = f"tcp:{target[0]}:{bound.getsockname()[1]}"
    return Listener(bound, address, secret, read_memory and kind == "unix")


def connect(
    address: str,
    hello: Hello,
    secret: bytes,
    *,
    timeout: float = HANDSHAKE_SECONDS,
    read_memory: bool = True,
) -> Channel:
    """Connects, proves knowledge of the secret and says hello.

    Raises:
        OSError: Nobody listens there.
        AuthenticationFailed: The secret is wrong, on either side.
    """
    _, target = _parse(address)
    family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(target)
        prove_as_caller(connection, secret)
    except BaseException:
        connection.close()
        raise
    channel = _wrap(connection, read_memory)
    channel.send(hello)
    return channel


def _wrap(connection: socket.socket, read_memory: bool) -> Channel:
    if connection.family == socket.AF_UNIX:
        return UnixChannel(connection, may_read_memory=read_memory)
    return TcpChannel(connection)


def _parse(address: str) -> tuple[str, str | tuple[str, int]]:
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        return kind, rest
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdigit():
        return kind, (host, int(port))
    raise ValueError(f"{address!r} is no address: unix:PATH or tcp:HOST:PORT")


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        Path(path).unlink(missing_ok=True)  # left by a process that was killed
        bound.bind(path)
        bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound
