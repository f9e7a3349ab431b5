"""Which pages of this process's memory were written: asked of the operating system.

userfaultfd protects pages against writing in a way that only notes the first write and lets
it pass (``WP_ASYNC``); ``PAGEMAP_SCAN`` tells which pages were written and protects them
again in one step (Linux 6.7 and later). Writes by system calls and by other processes count
too. Numbers are those of linux/userfaultfd.h and linux/fs.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import struct
from collections.abc import Iterator

PAGE = mmap.PAGESIZE

Range = tuple[int, int]
"""Addresses: the first, and the one after the last."""

_libc = ctypes.CDLL(None, use_errno=True)

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1  # what needs no privilege; with WP_ASYNC, writes by system calls count still
_API = 0xAA
_WP_UNPOPULATED, _WP_ASYNC = 1 << 13, 1 << 15
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_REGISTER_WP, _PROTECT = 2, 1

_PAGEMAP_SCAN, _SCAN_SIZE = 0xC0606610, 96
_PROTECT_MATCHING, _CHECK_TRACKED = 1, 2
_IS_WRITTEN, _IS_PRESENT, _IS_SWAPPED = 1 << 1, 1 << 3, 1 << 4
_HERE = _IS_PRESENT | _IS_SWAPPED
_REGIONS = 1024

_PROCMAP_QUERY, _QUERY_SIZE = 0xC0686611, 104
_IS_SHARED = 8


class Pages:
    """Tracks writes to private memory of this process, by whole pages.

    Args:
        counts_dropped: This Linux says of pages whose memory was dropped that they were written,
            so that nobody needs to look for them, which costs more than all else.

    Raises:
        OSError: This machine, or what contains this process, does not allow it.
    """

    def __init__(self, *, counts_dropped: bool = False) -> None:
        self._counts_dropped = counts_dropped
        number = _USERFAULTFD.get(platform.machine())
        if number is None:
            raise OSError(0, f"not tried on {platform.machine()}")
        with contextlib.ExitStack() as opened:
            self._faults = _libc.syscall(number, os.O_CLOEXEC | _USER_MODE_ONLY)
            if self._faults < 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))
            opened.callback(os.close, self._faults)
            features = struct.pack("3Q", _API, _WP_UNPOPULATED | _WP_ASYNC, 0)
            fcntl.ioctl(self._faults, _UFFDIO_API, features)
            self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, self._pagemap)
            self._maps = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, self._maps)
            self._opened = opened.pop_all()
        self._regions = (ctypes.c_uint64 * (3 * _REGIONS))()

    def close(self) -> None:
        """Ends all tracking."""
        self._opened.close()

    def arm(self, start: int, stop: int) -> None:
        """Tracks writes to these pages from now on.

        Raises:
            OSError: The pages cannot be tracked.
        """
        registered = struct.pack("4Q", start, stop - start, _REGISTER_WP, 0)
        fcntl.ioctl(self._faults, _UFFDIO_REGISTER, registered)
        self._protect(start, stop, _PROTECT)

    def disarm(self, start: int, stop: int) -> None:
        """Lets these pages be written at full speed; they count as written.

        Raises:
            OSError: They are not tracked.
        """
        self._protect(start, stop, 0)

    def _protect(self, start: int, stop: int, mode: int) -> None:
        fcntl.ioctl(
            self._faults, _UFFDIO_WRITEPROTECT, struct.pack("3Q", start, stop - start, mode)
        )

    def take_written(self, start: int, stop: int) -> list[Range]:
        """The tracked pages that were written since they were armed, which arms them again.

        Pages whose memory was dropped meanwhile count as written.

        Raises:
            OSError: Not all of these pages are tracked (any more).
        """
        written = list(self._scan(start, stop, _PROTECT_MATCHING, 0, _IS_WRITTEN))
        if self._counts_dropped:
            return written
        dropped = list(self._scan(start, stop, 0, _HERE, _HERE))
        for first, last in dropped:
            self._protect(first, last, _PROTECT)
        return sorted(written + dropped) if dropped else written

    def _scan(self, start: int, stop: int, flags: int, inverted: int, mask: int) -> Iterator[Range]:
        """Yields the ranges of pages with all categories of the mask, after the inversion."""
        place, room = ctypes.addressof(self._regions), _REGIONS
        while start < stop:
            where = (_SCAN_SIZE, flags | _CHECK_TRACKED, start, stop, 0, place, room, 0)
            question = bytearray(struct.pack("12Q", *where, inverted, mask, 0, mask))
            count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, question)
            (start,) = struct.unpack_from("Q", question, 4 * 8)
            found = self._regions[: 3 * count]
            yield from zip(found[::3], found[1::3], strict=True)

    def is_private(self, start: int, stop: int) -> bool:
        """Whether all of a range is memory of this process alone: no file, nothing shared."""
        while start < stop:
            found = self._mapping_at(start)
            if found is None:
                return False
            start = found
        return True

    def _mapping_at(self, address: int) -> int | None:
        """The end of the private mapping without a file that holds an address."""
        try:
            return self._ask_mapping(address)
        except OSError:  # before Linux 6.11
            return self._read_mapping(address)

    def _ask_mapping(self, address: int) -> int | None:
        question = bytearray(struct.pack("13Q", _QUERY_SIZE, 0, address, *[0] * 10))
        fcntl.ioctl(self._maps, _PROCMAP_QUERY, question)
        _, stop, flags, _, _, inode = struct.unpack_from("6Q", question, 3 * 8)
        return None if inode or flags & _IS_SHARED else int(stop)

    def _read_mapping(self, address: int) -> int | None:
        with open("/proc/self/maps") as lines:
            for line in lines:
                span, rights, _, _, inode, *_ = line.split()
                first, last = (int(end, 16) for end in span.split("-"))
                if first <= address < last:
                    return last if rights[3] == "p" and inode == "0" else None
        return None


def inner(start: int, stop: int) -> Range:
    """The whole pages within a range of memory."""
    return -(-start // PAGE) * PAGE, stop // PAGE * PAGE


def best() -> Pages | None:
    """Gives what tracks pages here at the least cost; None where the self-test fails."""
    for counts_dropped in (True, False):
        if not trial(counts_dropped=counts_dropped):
            return Pages(counts_dropped=counts_dropped)
    return None


def trial(*, counts_dropped: bool = False) -> str:
    """Writes to pages in several ways and asks; "" where the answers are right, else why."""
    try:
        with contextlib.closing(Pages(counts_dropped=counts_dropped)) as pages, _memory() as memory:
            return "" if answers(pages, memory) == WRITTEN else "it reports wrong pages"
    except OSError as error:
        return error.strerror or str(error)


_HUGE = 2 << 20
_PLAIN_PAGES = 8
WRITTEN: tuple[list[int], ...] = (
    [],
    [0, 1, 2, 4, _PLAIN_PAGES + 1],
    [],
    [3],
    list(range(_PLAIN_PAGES, _PLAIN_PAGES + 4)),
)
"""The right answers of the trial: page numbers, of which those from 8 on lie in a huge page."""


@contextlib.contextmanager
def _memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, 3 * _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        yield memory


def answers(pages: Pages, memory: mmap.mmap) -> tuple[list[int], ...]:
    """What is said to be written: nothing; several pages; nothing again; one page; a huge one.

    Args:
        pages: To be tried.
        memory: Thrice 2 MiB that nobody else uses.
    """
    view = ctypes.c_char.from_buffer(memory)
    base = ctypes.addressof(view)
    del view
    huge = -(-(base + _PLAIN_PAGES * PAGE) // _HUGE) * _HUGE - base
    first = huge - _PLAIN_PAGES * PAGE
    with contextlib.suppress(OSError):  # where there are none
        memory.madvise(mmap.MADV_HUGEPAGE, huge, _HUGE)
    for page in range(_PLAIN_PAGES - 1):  # the last one is left without memory
        memory[first + page * PAGE] = 1
    memory[huge] = 1
    start = base + first

    def ask() -> list[int]:
        ranges = pages.take_written(start, base + huge + 4 * PAGE)
        return [(at - start) // PAGE for a, b in ranges for at in range(a, b, PAGE)]

    pages.arm(start, base + huge + 4 * PAGE)
    none = ask()
    memory[first + 1] = 2
    _write_by_system(memory, first + 2 * PAGE)
    memory[first] = 1  # the byte that was there
    memory.madvise(mmap.MADV_DONTNEED, first + 4 * PAGE, PAGE)
    memory[huge + PAGE] = 2
    memory[first + PAGE] = 2
    several = ask()
    nothing = ask()
    memory[first + 3 * PAGE] = 3
    one = ask()
    memory.madvise(mmap.MADV_DONTNEED, huge, _HUGE)
    return none, several, nothing, one, ask()


def _write_by_system(memory: mmap.mmap, place: int) -> None:
    receiver, sender = os.pipe()
    try:
        os.write(sender, b"x")
        with memoryview(memory) as view:
            os.readv(receiver, [view[place : place + 1]])
    finally:
        os.close(receiver)
        os.close(sender)
