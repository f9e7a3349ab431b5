"""Shared memory for buffers where a machine forbids reading another process's memory.

The pages of an arena are touched once and used again: fresh shared pages cost more than
the copy (256 MiB: 125 ms fresh, 21 ms used again).
"""

from __future__ import annotations

import mmap
import os


class SendArena:
    """The sender's side: copies buffers in. It grows, and passes a new descriptor then."""

    def __init__(self) -> None:
        self.descriptor = -1
        self._map: mmap.mmap | None = None

    def reserve(self, size: int) -> bool:
        """Makes room; returns whether the descriptor is new and must be passed."""
        if self._map is not None and len(self._map) >= size:
            return False
        self.close()
        self.descriptor = os.memfd_create("zerokernel-arena", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, size)
        self._map = mmap.mmap(self.descriptor, size)
        return True

    def write(self, offset: int, buffer: memoryview) -> None:
        """Copies a buffer to an offset of the reserved room."""
        assert self._map is not None
        self._map[offset : offset + buffer.nbytes] = buffer

    def close(self) -> None:
        """Gives the memory back."""
        if self._map is not None:
            self._map.close()
            self._map = None
            os.close(self.descriptor)
            self.descriptor = -1


class ReceiveArena:
    """The receiver's side: maps the passed descriptor read-only and copies out."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None

    def replace(self, descriptor: int) -> None:
        """Maps a newly passed descriptor and closes it."""
        self.close()
        try:
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def read(self, offset: int, into: memoryview) -> None:
        """Fills ``into`` from an offset. Raises ValueError beyond the arena's end."""
        if self._map is None or offset + into.nbytes > len(self._map):
            raise ValueError("a buffer lies outside of the arena")
        with memoryview(self._map) as view:
            into[:] = view[offset : offset + into.nbytes]

    def close(self) -> None:
        """Gives the mapping back."""
        if self._map is not None:
            self._map.close()
            self._map = None
