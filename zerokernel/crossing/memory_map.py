"""Which memory of arrays, mapped files and storages lies where."""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterable
from typing import Any

from zerokernel.crossing import placement
from zerokernel.crossing.arrays import order_of
from zerokernel.crossing.buffers import byte_array, size_of
from zerokernel.crossing.device_memory import holding


class MemoryMap:
    """Finds the owner of memory that something else shows."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self._owners: list[Any] = []

    def add(self, items: Iterable[Any]) -> None:
        """Adds those among the items that have contiguous memory of their own on the host."""
        for item in items:
            start = _start_of(item)
            if start is not None and (size := size_of(item)):
                at = bisect.bisect(self._starts, start)
                self._starts.insert(at, start)
                self._sizes.insert(at, size)
                self._owners.insert(at, item)

    def find(self, address: int, size: int) -> tuple[Any, int] | None:
        """The owner of a range of memory, and the offset in it."""
        at = bisect.bisect(self._starts, address) - 1
        if at < 0 or not size:
            return None
        offset = address - self._starts[at]
        return (self._owners[at], offset) if offset + size <= self._sizes[at] else None


def _start_of(item: Any) -> int | None:
    """The address of its first byte; None for anything that owns no memory here."""
    import numpy as np

    if isinstance(item, np.ndarray):
        address: int | None = item.__array_interface__["data"][0]
        return address if order_of(item) is not None else None
    if isinstance(item, mmap.mmap):
        mapped: int = byte_array(item).__array_interface__["data"][0]
        return mapped
    if type(item).__name__ == "UntypedStorage" and holding(item) is None:
        # One on an emulated device may show another's memory until either is written to.
        own: int | None = item.data_ptr() if placement.place_of(item) is None else None
        return own
    return None
