import pytest

from zerokernel.errors import MalformedMessage
from zerokernel.wire.frames import (
    MAX_HEADER,
    PREFIX_SIZE,
    BufferEntry,
    Carriage,
    FrameKind,
    Prefix,
    pack_table,
    table_size,
    unpack_table,
)


def test_prefix_is_read_back() -> None:
    """A prefix has a fixed size and keeps its fields."""
    prefix = Prefix(FrameKind.ACKNOWLEDGEMENT, 7, 2, 1 << 40)
    assert len(prefix.pack()) == PREFIX_SIZE
    assert Prefix.unpack(prefix.pack()) == prefix


def test_table_is_read_back() -> None:
    """A buffer table keeps carriage, size and position."""
    entries = [BufferEntry(Carriage.INLINE, 3), BufferEntry(Carriage.MEMORY, 1 << 40, 1 << 47)]
    data = pack_table(entries)
    assert len(data) == table_size(2)
    assert unpack_table(data) == entries


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x"[:PREFIX_SIZE],
        Prefix(FrameKind.MESSAGE, MAX_HEADER + 1, 0, 0).pack(),
        Prefix(FrameKind.MESSAGE, 0, 1 << 30, 0).pack(),
        b"ZKF1\x09" + bytes(PREFIX_SIZE - 5),
    ],
)
def test_impossible_prefixes_are_refused(data: bytes) -> None:
    """Another protocol, or sizes beyond the bounds, raise MalformedMessage."""
    with pytest.raises(MalformedMessage):
        Prefix.unpack(data)


def test_unknown_carriage_is_refused() -> None:
    """A buffer that travels in an unknown way raises MalformedMessage."""
    with pytest.raises(MalformedMessage):
        unpack_table(b"\x07" + bytes(16))
