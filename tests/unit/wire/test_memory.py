"""Reading another process's memory; here it is this process's own."""

import os
import threading

import pytest

from zerokernel.wire import memory
from zerokernel.wire.memory import address_of, read_all

SIZES = (0, 1, 5_000, memory._PIECE - 1, memory._PIECE, 3 * memory._PIECE + 7)


def parts_of(sources: list[bytes]) -> tuple[list[tuple[int, memoryview]], list[bytearray]]:
    targets = [bytearray(len(source)) for source in sources]
    addresses = [address_of(memoryview(source)) for source in sources]
    return list(zip(addresses, map(memoryview, targets), strict=True)), targets


@pytest.mark.parametrize("readers", [1, 2, 4])
def test_every_view_gets_its_own_bytes(monkeypatch: pytest.MonkeyPatch, readers: int) -> None:
    """Views of any size are filled, whoever reads which piece."""
    monkeypatch.setattr(memory, "_READERS", readers)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(readers)))
    sources = [os.urandom(size) for size in SIZES]
    parts, targets = parts_of(sources)
    read_all(os.getpid(), parts)
    assert all(target == source for target, source in zip(targets, sources, strict=True))
    assert not [one for one in threading.enumerate() if one.name.startswith(memory.READER)]


def test_an_error_of_any_reader_is_raised_once_all_have_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory that is not there: an OSError, and nobody writes to the views any more."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    parts, _ = parts_of([os.urandom(6 * memory._PIECE)])
    parts.insert(3, (8, memoryview(bytearray(100))))
    with pytest.raises(OSError, match="Bad address"):
        read_all(os.getpid(), parts)
    assert not [one for one in threading.enumerate() if one.name.startswith(memory.READER)]
