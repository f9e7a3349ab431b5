"""Buffers that are windows of a mapped file: they travel as the file's name, not as bytes.

Both processes then show the same pages of the page cache, until one of them writes to its own
mapping: such a page is that process's private copy, and is what has changed. So a page that is
still the file's needs no look at its bytes: whatever happens to the file, both see it.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import xxhash

from zerokernel.crossing import mapped_files
from zerokernel.crossing.device_memory import holding
from zerokernel.crossing.mapped_files import PAGE, Area, Part
from zerokernel.errors import CannotTravel

_CUT_SHORT = (
    "shows the file {path}, which has become shorter since it was mapped: what it held there is "
    "gone; load it again"
)
_NO_FILE = (
    "shows the file {path}, which was deleted, replaced or cannot be opened; take a copy with "
    "numpy.array(...), or map the file again"
)


@dataclass(frozen=True)
class Window:
    """A buffer that shows a part of a mapped file.

    Attributes:
        address: Of its first byte.
        size: In bytes.
        area: The mapping that it lies in.
    """

    address: int
    size: int
    area: Area

    @property
    def offset(self) -> int:
        """Where it starts in the file, in bytes."""
        return self.area.offset + self.address - self.area.start

    @property
    def access(self) -> str:
        """How the mapping takes writes."""
        if not self.area.writable:
            return mapped_files.READ
        return mapped_files.PRIVATE if self.area.private else mapped_files.SHARED

    def part(self, *, of_its_own: bool = False) -> Part:
        """What the other side is told.

        Args:
            of_its_own: Nothing else is mapped together with it.
        """
        where = self.area
        # Alike for all of one mapping, also if that was split.
        group = where.start - where.offset if not of_its_own else -self.address
        machine = mapped_files.machine()
        return Part(where.path, where.file, machine, group, self.offset, self.size, self.access)

    def runs(self) -> list[tuple[int, int]]:
        """The bytes (start, stop) on pages that are this process's own, neighbours joined."""
        runs: list[tuple[int, int]] = []
        for start, stop in self._own():
            if stop - start < PAGE and self._is_files(start, stop):
                continue
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
        return runs

    def own_chunks(self, chunk: int) -> set[int]:
        """The chunks of a size that have bytes of this process's own.

        A page that is in two of them, or holds others' bytes too, may have been written for the
        other: there it counts only where it differs from the file.
        """
        inside: set[int] = set()
        shared: list[tuple[int, int, int]] = []
        for start, stop in self._own():
            first, last = start // chunk, (stop - 1) // chunk
            if first == last and stop - start == PAGE:
                inside.add(first)
            elif first == last:
                shared.append((first, start, stop))
            else:
                shared += [(first, start, last * chunk), (last, last * chunk, stop)]
        differ = {n for n, *part in shared if n not in inside and not self._is_files(*part)}
        return inside | differ

    def _own(self) -> Iterator[tuple[int, int]]:
        """The bytes (start, stop) on each of the pages that are this process's own."""
        if self.area.private:
            for page in mapped_files.own_pages(self.address, self.address + self.size):
                start, stop = page - self.address, page + PAGE - self.address
                yield max(0, start), min(self.size, stop)

    def _is_files(self, start: int, stop: int) -> bool:
        held = mapped_files.memory_bytes(self.address + start, stop - start)
        return held == mapped_files.file_bytes(self.area, self.offset + start, stop - start)


class FileWindows:
    """Tells which buffers of this process are windows; remembers it for one crossing."""

    def __init__(self) -> None:
        self._areas: list[Area] = []
        self._sizes: dict[Area, int | None] = {}

    def begin(self) -> None:
        """A crossing begins: files and mappings are looked at anew."""
        self._areas.clear()
        self._sizes.clear()

    def find(self, owner: Any) -> Window | None:
        """The window that a buffer is; None for any other buffer, at the cost of a look at it."""
        place = _place(owner)
        found = None if place is None else self.at(*place)
        if found is None or isinstance(owner, mmap.mmap):
            return found
        # A tensor over memory that others write to is none.
        return found if found.area.private or not found.area.writable else None

    def at(self, address: int, size: int) -> Window | None:
        """The window that begins at an address and has so many bytes; None where no file shows."""
        if not mapped_files.tells_own_pages():
            return None
        area = self._area_at(address)
        if area is None or address + size > area.stop:
            return None
        return Window(address, size, area)

    def _area_at(self, address: int) -> Area | None:
        for area in self._areas:
            if area.start <= address < area.stop:
                return area
        found = mapped_files.area_at(address)
        if found is not None:
            self._areas.append(found)
        return found

    def is_there(self, window: Window) -> bool:
        """Whether the path still leads to the file that a window shows."""
        return self._size(window.area) is not None

    def is_cut_short(self, window: Window) -> bool:
        """Whether the file ends before the window does: to read it would end the process."""
        size = self._size(window.area)
        if size is not None:
            return size < window.offset + window.size
        last = window.address + max(0, window.size - 1)
        return not mapped_files.has_memory(last)

    def _size(self, area: Area) -> int | None:
        if area not in self._sizes:
            self._sizes[area] = mapped_files.size_of_file(area)
        return self._sizes[area]

    def check(self, owner: Any) -> None:
        """Raises CannotTravel for a buffer whose bytes are gone with the end of its file."""
        window = self.find(owner)
        if window is not None and self.is_cut_short(window):
            raise CannotTravel(_CUT_SHORT.format(path=window.area.path))

    def mapping(self, owner: mmap.mmap, by_file: bool) -> Window:
        """The window that a mapping is; it travels only ``by_file``.

        Raises:
            CannotTravel: It shows no file, or one that the other side cannot map.
        """
        window = self.find(owner)
        if window is None:
            raise CannotTravel("is mapped memory of no file; take a copy: bytes(...)")
        self.check(owner)
        if not by_file or not self.is_there(window) or not _is_text(window.area.path):
            raise CannotTravel(_NO_FILE.format(path=window.area.path))
        return window

    def sendable(self, owner: Any) -> tuple[Window, list[tuple[int, int]]] | None:
        """A window that can travel as its file, and what of it was written; else None.

        If most of it was written, it travels as bytes.

        Raises:
            CannotTravel: Its bytes are gone with the end of its file.
        """
        window = self.find(owner)
        if window is None:
            return None
        self.check(owner)
        if not self.is_there(window) or not _is_text(window.area.path):
            return None
        runs = window.runs()
        written = sum(stop - start for start, stop in runs)
        return None if 2 * written > window.size else (window, runs)


def _is_text(path: str) -> bool:
    """Whether a path can be told as text."""
    return path.isprintable() and path.startswith("/")


def _place(owner: Any) -> tuple[int, int] | None:
    """Address and size of a buffer that may be a window; None for one that cannot."""
    if isinstance(owner, mmap.mmap):
        if owner.closed or not len(owner):
            return None
        return mapped_files.address_of(owner), len(owner)
    resizable: Any = getattr(owner, "resizable", None)
    if resizable is None or resizable() or not owner.nbytes() or holding(owner) is not None:
        return None
    return owner.data_ptr(), owner.nbytes()


_BELOW = 1 << 64
"""Labels of files are below all that are counted."""


@functools.lru_cache(maxsize=4096)
def labels_of_file(
    file: tuple[int, int, int], offset: int, size: int, chunk: int
) -> tuple[int, ...]:
    """Labels for the chunks of a window while these are the file's."""
    stop = offset + size
    places = [(file, start, min(chunk, stop - start)) for start in range(offset, stop, chunk)]
    return tuple(-_BELOW - xxhash.xxh3_128_intdigest(repr(place).encode()) for place in places)
