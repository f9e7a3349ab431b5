"""A channel: messages with buffers between two processes, over a connected socket.

Any thread may send and any may receive: a sender that waits for an acknowledgement while
nobody receives reads the socket itself and puts other frames into the inbox.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from zerokernel.errors import ChannelClosed, MalformedMessage
from zerokernel.messages import Message, decode, encode
from zerokernel.wire.frames import (
    PREFIX_SIZE,
    BufferEntry,
    Carriage,
    FrameKind,
    Prefix,
    pack_table,
    table_size,
    unpack_table,
)

STALL_SECONDS = 30.0
"""A peer that stops in the middle of a frame for so long is taken for dead."""

_JOINED = 64 << 10
"""Smaller parts of a message go out together: each write may cost a switch to the reader."""

_VECTORS = 512
"""So many buffers are filled by one read; the system takes 1024."""

Allocate = Callable[[Message, list[int]], list[memoryview]]
"""Gives, for a message and the sizes of its buffers, writable views to fill."""


def _allocate_plainly(_: Message, sizes: list[int]) -> list[memoryview]:
    return [memoryview(bytearray(size)) for size in sizes]


@dataclass(frozen=True)
class Received:
    """A message, the buffers as the views that were filled, and passed descriptors."""

    message: Message
    buffers: list[memoryview] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


class Channel:
    """Messages with buffers over a connected stream socket; see TcpChannel and UnixChannel.

    Attributes:
        passes_descriptors: Whether open files can be passed (UNIX sockets only).
    """

    passes_descriptors = False

    def __init__(self, connection: socket.socket) -> None:
        # Receiving stalls for a bounded time; sending waits as long as the peer needs, which
        # is the back-pressure that a flood of output meets.
        connection.settimeout(None)
        stall = struct.pack("ll", int(STALL_SECONDS), 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, stall)
        self._socket = connection
        self._sending = threading.Lock()
        # Everything below is guarded by _state and changed by the thread that reads.
        self._state = threading.Condition()
        self._inbox: deque[Received] = deque()
        self._reading = False
        self._acknowledged: set[int] = set()
        self._sequence = 0
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._inbox)} waiting"
        return f"<{type(self).__name__} {state}>"

    # --- what users of a channel call ---------------------------------------------------

    def fileno(self) -> int:
        """Descriptor to select on; look at ``pending`` before."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether a received message waits in the inbox."""
        return bool(self._inbox)

    def send(
        self,
        message: Message,
        buffers: Sequence[memoryview | bytes] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        """Sends a message; returns when its buffers may be changed again.

        Raises:
            ChannelClosed: The other end is gone.
        """
        views = [memoryview(b).cast("B") for b in buffers]
        with self._sending:
            sequence = self._send_message(encode(message), views, list(descriptors))
        if sequence:
            self._read_until(lambda: sequence in self._acknowledged, None)
            self._acknowledged.discard(sequence)

    def receive(
        self, timeout: float | None = None, allocate: Allocate = _allocate_plainly
    ) -> Received:
        """Waits for the next message and fills its buffers.

        Raises:
            TimeoutError: Nothing arrived within ``timeout`` seconds.
            ChannelClosed: The other end is gone.
            MalformedMessage: The other end sends something else; the channel is closed.
        """
        self._read_until(lambda: bool(self._inbox), timeout, allocate)
        return self._inbox.popleft()

    def close(self) -> None:
        """Closes this end. Idempotent."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        with contextlib.suppress(OSError):  # the other end closed before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def abandon(self) -> None:
        """Closes this process's descriptor only: after a fork the other process owns the channel."""  # noqa: E501 - one sentence
        self._closed = True
        self._socket.close()

    # --- sending ------------------------------------------------------------------------

    def _send_message(self, header: bytes, views: list[memoryview], descriptors: list[int]) -> int:
        entries, sequence, inline = self._arrange(views, descriptors)
        prefix = Prefix(FrameKind.MESSAGE, len(header), len(views), sequence)
        head = b"".join((prefix.pack(), header, pack_table(entries)))
        for part in _joined([memoryview(head), *inline]):
            self._write(part, descriptors)
            descriptors = []
        return sequence

    def _arrange(
        self, views: list[memoryview], descriptors: list[int]
    ) -> tuple[list[BufferEntry], int, list[memoryview]]:
        """Decides how each buffer travels: entries, sequence (0: none), those sent inline."""
        return [BufferEntry(Carriage.INLINE, v.nbytes) for v in views], 0, views

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def _signal(self, kind: FrameKind, header: bytes = b"", sequence: int = 0) -> None:
        with self._sending:
            self._write(Prefix(kind, len(header), 0, sequence).pack() + header)

    def _write(self, data: bytes | memoryview, descriptors: Sequence[int] = ()) -> None:
        try:
            if descriptors:
                sent = socket.send_fds(self._socket, [data], list(descriptors))
                data = memoryview(data)[sent:]
            self._socket.sendall(data)
        except OSError as error:
            raise ChannelClosed(f"The other end of the channel is gone: {error}") from error

    # --- receiving ----------------------------------------------------------------------

    def _read_until(
        self,
        done: Callable[[], bool],
        timeout: float | None,
        allocate: Allocate = _allocate_plainly,
    ) -> None:
        """Reads frames, or waits for the thread that does, until ``done``."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._state:
            while not done():
                if self._closed:
                    raise ChannelClosed
                remaining = None if until is None else until - time.monotonic()
                if self._reading:
                    if not self._state.wait(remaining):
                        raise TimeoutError
                    continue
                self._reading = True
                self._state.release()
                try:
                    self._read_frame(remaining, allocate)
                finally:
                    self._state.acquire()
                    self._reading = False
                    self._state.notify_all()

    def _read_frame(self, timeout: float | None, allocate: Allocate) -> None:
        self._wait_readable(timeout)
        try:
            descriptors: list[int] = []
            head = self._read(PREFIX_SIZE, descriptors)
            prefix = Prefix.unpack(head)
            if prefix.kind is FrameKind.MESSAGE:
                self._take_message(prefix, descriptors, allocate)
            else:
                self._take_signal(prefix, bytes(self._read(prefix.header_size)))
        except MalformedMessage:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise ChannelClosed(f"The other end of the channel is gone: {error}") from error

    def _wait_readable(self, timeout: float | None) -> None:
        try:
            wait = None if timeout is None else max(0.0, timeout) * 1000
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if not poll.poll(wait):
                raise TimeoutError
        except (ValueError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise ChannelClosed from error

    def _take_message(self, prefix: Prefix, descriptors: list[int], allocate: Allocate) -> None:
        head = self._read(prefix.header_size + table_size(prefix.buffer_count))
        entries = unpack_table(head[prefix.header_size :])
        descriptors = self._keep_own_descriptors(entries, descriptors)
        message = decode(bytes(head[: prefix.header_size]))
        views = allocate(message, [e.size for e in entries]) if entries else []
        if [v.nbytes for v in views] != [e.size for e in entries]:
            raise MalformedMessage(f"The buffers of {type(message).__name__} do not fit.")
        carried = list(zip(entries, views, strict=True))
        self._fill([each for each in carried if each[0].carriage is not Carriage.INLINE])
        self._read_all([view for entry, view in carried if entry.carriage is Carriage.INLINE])
        if prefix.sequence:
            self._signal(FrameKind.ACKNOWLEDGEMENT, sequence=prefix.sequence)
        self._inbox.append(Received(message, views, descriptors))

    def _fill(self, beside: list[tuple[BufferEntry, memoryview]]) -> None:
        """Gets the buffers that are not in the stream."""
        if beside:
            raise MalformedMessage("This channel carries all buffers in its stream.")

    def _keep_own_descriptors(self, entries: list[BufferEntry], received: list[int]) -> list[int]:
        return received

    def _take_signal(self, prefix: Prefix, header: bytes) -> None:
        if prefix.kind is not FrameKind.ACKNOWLEDGEMENT:
            raise MalformedMessage("This channel does not read memory.")
        self._acknowledged.add(prefix.sequence)

    def _read(self, size: int, descriptors: list[int] | None = None) -> bytearray:
        data = bytearray(size)
        self._read_into(memoryview(data), descriptors)
        return data

    def _read_into(self, view: memoryview, descriptors: list[int] | None = None) -> None:
        done = 0
        while done < view.nbytes:
            count = self._receive_some(view[done:], descriptors)
            if not count:
                raise ChannelClosed
            done += count

    def _read_all(self, views: list[memoryview]) -> None:
        waiting = deque(view for view in views if view.nbytes)
        while waiting:
            count = self._socket.recvmsg_into(list(islice(waiting, _VECTORS)))[0]
            if not count:
                raise ChannelClosed
            while waiting and count >= waiting[0].nbytes:
                count -= waiting.popleft().nbytes
            if count:
                waiting[0] = waiting[0][count:]

    def _receive_some(self, view: memoryview, descriptors: list[int] | None) -> int:
        return self._socket.recv_into(view)


def _joined(parts: list[memoryview]) -> Iterator[memoryview | bytes]:
    """The parts in their order, neighbours joined where they are small."""
    small: list[memoryview] = []
    size = 0
    for part in parts:
        if small and size + part.nbytes > _JOINED:
            yield small[0] if len(small) == 1 else b"".join(small)
            small, size = [], 0
        small.append(part)
        size += part.nbytes
    if small:
        yield small[0] if len(small) == 1 else b"".join(small)
