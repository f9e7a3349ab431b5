"""The channel on one host: passes descriptors and reads the sender's memory."""

from __future__ import annotations

import os
import socket

from zerokernel.errors import MalformedMessage
from zerokernel.wire.arena import ReceiveArena, SendArena
from zerokernel.wire.channel import Channel
from zerokernel.wire.frames import BufferEntry, Carriage, FrameKind, Prefix
from zerokernel.wire.memory import Probe, address_of, allow_reading_by, read_all, try_probe

LARGE = 64 << 10
"""Bytes from which a buffer is read from the sender's memory instead of sent."""


class UnixChannel(Channel):
    """On one host: passes descriptors, and large buffers are read from the sender's memory.

    Reading memory begins after ``offer_memory`` of the process that finally owns the end
    (a fork may stand between the connection and it). Where the machine forbids it, large
    buffers go through a shared arena.
    """

    passes_descriptors = True

    def __init__(self, connection: socket.socket, *, may_read_memory: bool = True) -> None:
        super().__init__(connection)
        self._may_read_memory = may_read_memory
        self._probe: Probe | None = None
        self._peer = 0  # process whose memory this end can read
        self._peer_reads = False  # whether the peer can read this process's memory
        self._send_arena = SendArena()
        self._receive_arena = ReceiveArena()

    def offer_memory(self, process: int = 0) -> None:
        """Asks the peer to find out whether it can read this process's memory, and back.

        Args:
            process: This process's id as the peer sees it, where that is not its own view:
                a PID namespace may lie between.
        """
        self._probe = Probe.make()
        self._signal(FrameKind.PROBE, self._probe.pack(process))

    def close(self) -> None:
        """Closes this end and gives shared memory back."""
        super().close()
        self._send_arena.close()
        self._receive_arena.close()

    def _arrange(
        self, views: list[memoryview], descriptors: list[int]
    ) -> tuple[list[BufferEntry], int, list[memoryview]]:
        large = [v for v in views if v.nbytes >= LARGE]
        if not large:
            return super()._arrange(views, descriptors)
        if self._peer_reads:
            carriage, positions = Carriage.MEMORY, [address_of(v) for v in large]
        else:
            carriage, positions = Carriage.ARENA, self._fill_arena(large, descriptors)
        where = iter(positions)
        entries = [
            BufferEntry(carriage, v.nbytes, next(where))
            if v.nbytes >= LARGE
            else BufferEntry(Carriage.INLINE, v.nbytes)
            for v in views
        ]
        return entries, self._next_sequence(), [v for v in views if v.nbytes < LARGE]

    def _fill_arena(self, views: list[memoryview], descriptors: list[int]) -> list[int]:
        if self._send_arena.reserve(sum(v.nbytes for v in views)):
            descriptors.insert(0, self._send_arena.descriptor)
        offsets, offset = [], 0
        for view in views:
            self._send_arena.write(offset, view)
            offsets.append(offset)
            offset += view.nbytes
        return offsets

    def _fill(self, beside: list[tuple[BufferEntry, memoryview]]) -> None:
        parts = []
        for entry, view in beside:
            if entry.carriage is Carriage.MEMORY:
                parts.append((entry.position, view))
            else:
                self._read_arena(entry, view)
        read_all(self._peer, parts)

    def _read_arena(self, entry: BufferEntry, view: memoryview) -> None:
        try:
            self._receive_arena.read(entry.position, view)
        except ValueError as error:
            raise MalformedMessage(f"A frame is wrong: {error}.") from error

    def _keep_own_descriptors(self, entries: list[BufferEntry], received: list[int]) -> list[int]:
        # A new arena comes first; an arena in use comes without a descriptor.
        carried = any(e.carriage is Carriage.ARENA for e in entries)
        if carried and received and _is_arena(received[0]):
            self._receive_arena.replace(received[0])
            return received[1:]
        return received

    def _take_signal(self, prefix: Prefix, header: bytes) -> None:
        if prefix.kind is FrameKind.PROBE:
            self._answer_probe(header)
        elif prefix.kind is FrameKind.PROBE_RESULT:
            self._peer_reads = prefix.sequence == 1
        else:
            super()._take_signal(prefix, header)

    def _answer_probe(self, header: bytes) -> None:
        self._peer = try_probe(header) if self._may_read_memory else 0
        self._signal(FrameKind.PROBE_RESULT, sequence=int(self._peer != 0))
        if self._probe is None:
            if self._peer:
                allow_reading_by(self._peer)
            self.offer_memory()

    def _receive_some(self, view: memoryview, descriptors: list[int] | None) -> int:
        if descriptors is None:
            return self._socket.recv_into(view)
        count, ancillary, _, _ = self._socket.recvmsg_into(
            [view], socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(data) - len(data) % 4
                descriptors.extend(memoryview(data)[:whole].cast("i"))
        return count


def _is_arena(descriptor: int) -> bool:
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:zerokernel-arena")
