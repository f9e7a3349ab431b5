"""The channel between machines, or where the two sides share no file system."""

from __future__ import annotations

import socket

from zerokernel.wire.channel import Channel


class TcpChannel(Channel):
    """Between machines, or where both sides share no file system: all bytes in the stream."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(connection)
