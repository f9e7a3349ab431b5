"""Buffers get the size that a cell gave them before what may show their memory is built."""

from __future__ import annotations

import array
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import xxhash

from zerokernel.crossing.buffers import byte_array


def sizes_of(tokens: Sequence[int], objects: Sequence[Any]) -> dict[int, int]:
    """The bytes of those objects that are memory which can be given another size in place."""
    kinds = list(map(type, objects))
    names = {kind: _has_size(kind) for kind in set(kinds)}
    if not any(names.values()):  # the usual case
        return {}
    chosen = compress(zip(tokens, objects, strict=True), map(names.__getitem__, kinds))
    return {token: size_of(item) for token, item in chosen}


def _has_size(kind: type) -> bool:
    return kind in (bytearray, array.array) or kind.__name__ == "UntypedStorage"


def size_of(item: Any) -> int:
    """The bytes of such an object."""
    if isinstance(item, bytearray | array.array):
        return memoryview(item).nbytes
    size: int = item.nbytes()
    return size


@dataclass(frozen=True)
class _Change:
    """What was given another size: its old one, the bytes that were cut off, the hash since."""

    item: Any
    size: int
    tail: bytes
    digest: int


class Resized:
    """Buffers that were given another size, until the cell's results are written.

    Attributes:
        refused: Those of which the notebook shows the memory elsewhere, so that it stays.
    """

    def __init__(self) -> None:
        self.refused: set[int] = set()
        self._changes: dict[int, _Change] = {}

    @property
    def tokens(self) -> set[int]:
        """Those that have another size now."""
        return set(self._changes)

    def resize(self, token: int, item: Any, size: int) -> None:
        """Gives a buffer a size (bytes); what it has to hold is written into it later."""
        now = size_of(item)
        tail = byte_array(item)[size:].tobytes()
        try:
            _set_size(item, size)
        except (BufferError, RuntimeError):  # RuntimeError: torch's
            self.refused.add(token)
        else:
            self._changes[token] = _Change(item, now, tail, _hash(item))

    def keeps_own(self, token: int) -> bool:
        """Whether a thread wrote to a buffer since, which then has its old size again."""
        change = self._changes.get(token)
        if change is None or _hash(change.item) == change.digest:
            return False
        self._give_back(token)
        return True

    def undo(self) -> None:
        """Gives back the sizes, and the bytes that were cut off."""
        for token in self.tokens:
            self._give_back(token)

    def done(self) -> None:
        """The results are written: the sizes stay."""
        self._changes.clear()

    def _give_back(self, token: int) -> None:
        change = self._changes.pop(token)
        with contextlib.suppress(BufferError):  # somebody shows the memory by now
            _set_size(change.item, change.size - len(change.tail))
            _append(change.item, change.tail)


def _hash(item: Any) -> int:
    return xxhash.xxh3_64_intdigest(byte_array(item))


def _set_size(item: Any, size: int) -> None:
    """Cuts off what is too much, or adds zeros."""
    if not isinstance(item, bytearray | array.array):
        item.resize_(size)
    elif (now := memoryview(item).nbytes) > size:
        del item[size // memoryview(item).itemsize :]
    else:
        _append(item, bytes(size - now))


def _append(item: Any, data: bytes) -> None:
    if isinstance(item, array.array):
        array.array.frombytes(item, data)
    elif isinstance(item, bytearray):
        bytearray.extend(item, data)
    elif data:
        start = item.nbytes()
        item.resize_(start + len(data))
        memoryview(byte_array(item))[start:] = data
