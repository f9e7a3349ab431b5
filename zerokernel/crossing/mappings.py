# ruff: noqa: D102 - the methods are those of Part, documented there
"""``mmap.mmap`` objects, which `numpy.memmap` and others show: a file, mapped on both sides."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from typing import Any

from zerokernel.crossing.buffers import write_pieces
from zerokernel.crossing.mapped_files import Mapped
from zerokernel.crossing.parts import BUFFERS, Part, Plan


class State(Part):
    """Where a mapped file is read next, and its size; None where it is closed."""

    rank = BUFFERS

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return list(map(self.read, objects))

    def read(self, item: Any) -> Any:
        return None if item.closed else (item.tell(), len(item))

    def write(self, item: Any, state: Any) -> None:
        if self.read(item) == state or item.closed:
            return
        if state is None:
            with contextlib.suppress(BufferError):  # something of this side shows its memory
                item.close()
            return
        position, size = state
        if len(item) != size:
            item.resize(size)
        item.seek(position)


MAPPING = Plan((State(),), content="buffer", rank=BUFFERS)


def made(mapped: Mapped, position: int) -> mmap.mmap:
    """A mapped file that is read next at a position."""
    memory = mapped.shown()
    memory.seek(position)
    return memory


def put(item: Any, pieces: Sequence[Any], owners: Sequence[Any]) -> None:
    """Writes byte ranges into new memory."""
    write_pieces(
        item,
        (
            (start, stop, data if index is None else owners[index])
            for start, stop, data, index in pieces
        ),
    )
