"""The layout of a frame: prefix, header, buffer table, then the bytes of inline buffers.

A frame is a message, or one of the channel's own signals (acknowledgement, memory probe).
Integers are little-endian: both ends of every supported machine are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from zerokernel.errors import MalformedMessage

_PREFIX = struct.Struct("<4sBIIQ")
_ENTRY = struct.Struct("<BQQ")
_MAGIC = b"ZKF1"

PREFIX_SIZE = _PREFIX.size
MAX_HEADER = 256 << 20
"""A header holds text outputs, pictures in base64 among them; above this it is a mistake."""
MAX_BUFFERS = 1 << 24


class FrameKind(IntEnum):
    """What a frame is."""

    MESSAGE = 0
    ACKNOWLEDGEMENT = 1  # sequence: of the frame whose buffers have been read
    PROBE = 2  # header: where in the sender's memory to try to read
    PROBE_RESULT = 3  # sequence: 1 where the probe could be read


class Carriage(IntEnum):
    """How a buffer travels."""

    INLINE = 0  # its bytes follow in the stream
    MEMORY = 1  # the receiver reads the sender's memory at ``position``
    ARENA = 2  # the receiver reads the shared arena at ``position``


@dataclass(frozen=True)
class Prefix:
    """The fixed start of every frame.

    Attributes:
        sequence: Not 0 where the sender waits for an acknowledgement.
    """

    kind: FrameKind
    header_size: int
    buffer_count: int
    sequence: int

    def pack(self) -> bytes:
        """Gives PREFIX_SIZE bytes."""
        return _PREFIX.pack(_MAGIC, self.kind, self.header_size, self.buffer_count, self.sequence)

    @staticmethod
    def unpack(data: bytes | bytearray) -> Prefix:
        """Reads a prefix. Raises MalformedMessage where it is none or beyond its bounds."""
        magic, kind, header_size, buffer_count, sequence = _PREFIX.unpack(data)
        if magic != _MAGIC or kind > max(FrameKind):
            raise MalformedMessage("The other end does not speak zerokernel's frames.")
        if header_size > MAX_HEADER or buffer_count > MAX_BUFFERS:
            raise MalformedMessage("A frame is larger than any message may be.")
        return Prefix(FrameKind(kind), header_size, buffer_count, sequence)


@dataclass(frozen=True)
class BufferEntry:
    """One row of a frame's buffer table; ``position`` is an address or an arena offset."""

    carriage: Carriage
    size: int
    position: int = 0


def pack_table(entries: list[BufferEntry]) -> bytes:
    """Gives the buffer table's bytes."""
    return b"".join(_ENTRY.pack(e.carriage, e.size, e.position) for e in entries)


def table_size(count: int) -> int:
    """Bytes of a table of so many buffers."""
    return count * _ENTRY.size


def unpack_table(data: bytes | bytearray) -> list[BufferEntry]:
    """Reads a buffer table. Raises MalformedMessage for a carriage that does not exist."""
    try:
        return [BufferEntry(Carriage(c), size, at) for c, size, at in _ENTRY.iter_unpack(data)]
    except ValueError as error:
        raise MalformedMessage("A frame's buffers travel in an unknown way.") from error
