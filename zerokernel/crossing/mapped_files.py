"""Memory that shows a file: which file it is, whether it still shows it, and mapping it again.

A library that maps a file of weights (safetensors, ``torch.load(mmap=True)``, ``numpy.memmap``)
says so nowhere; the operating system knows it for each range of addresses. What both processes
map is one copy in the page cache, and what somebody writes into the file both see alike. Only
pages that a process wrote to itself (of a private mapping) are its own; ``/proc/self/pagemap``
tells them apart. Numbers are those of linux/fs.h and Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import mmap
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerokernel.errors import FileNotShared

PAGE = mmap.PAGESIZE

_PROCMAP_QUERY, _QUERY_SIZE, _NAME_SIZE = 0xC0686611, 104, 4096
_IS_WRITABLE, _IS_SHARED = 2, 8
_NO_FILES = ("/dev/zero", "/memfd:", "/SYSV")  # memory that is shared, as the system calls it
_PRESENT, _SWAPPED, _OF_FILE = 63, 62, 61


@dataclass(frozen=True)
class Area:
    """A range of this process's addresses that shows a file.

    Attributes:
        start: First address.
        stop: The address after the last.
        private: Writes stay in this process.
        writable: Writes are possible.
        offset: Where in the file it starts, in bytes.
        file: Device and inode as the system tells them of a mapping.
        path: Of the file when it was mapped.
    """

    start: int
    stop: int
    private: bool
    writable: bool
    offset: int
    file: tuple[int, int, int]
    path: str


def area_at(address: int) -> Area | None:
    """The mapped file that an address shows; None where it is other memory."""
    try:
        return _ask(address)
    except OSError:  # before Linux 6.11
        return next((area for area in _read_areas() if area.start <= address < area.stop), None)


def _ask(address: int) -> Area | None:
    name = ctypes.create_string_buffer(_NAME_SIZE)
    question = bytearray(
        struct.pack("9Q4I2Q", _QUERY_SIZE, 0, address, *[0] * 6, 0, 0, _NAME_SIZE, 0,
                    ctypes.addressof(name), 0)
    )  # fmt: skip
    maps = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(maps, _PROCMAP_QUERY, question)
    finally:
        os.close(maps)
    _, _, _, start, stop, flags, _, offset, inode, major, minor, *_ = struct.unpack(
        "9Q4I2Q", question
    )
    path = os.fsdecode(name.value)
    if not inode or path.startswith(_NO_FILES):
        return None
    private, writable = not flags & _IS_SHARED, bool(flags & _IS_WRITABLE)
    return Area(start, stop, private, writable, offset, (major, minor, inode), path)


def _read_areas() -> Iterator[Area]:
    with open("/proc/self/maps", "rb") as lines:
        for line in lines:
            span, rights, offset, device, inode, *path = line.rstrip(b"\n").split(None, 5)
            name = os.fsdecode(path[0].replace(b"\\012", b"\n")) if path else ""
            if inode == b"0" or not name or name.startswith(_NO_FILES):
                continue
            start, stop = (int(end, 16) for end in span.split(b"-"))
            major, minor = (int(part, 16) for part in device.split(b":"))
            private, writable = rights[3:4] == b"p", rights[1:2] == b"w"
            file = (major, minor, int(inode))
            yield Area(start, stop, private, writable, int(offset, 16), file, name)


# --- pages of this process's own --------------------------------------------------------


def own_pages(start: int, stop: int) -> list[int]:
    """The addresses of the pages, among those from ``start`` to ``stop``, that are a private copy.

    Raises:
        OSError: The system does not tell.
    """
    import numpy as np

    first, last = start // PAGE, -(-stop // PAGE)
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = os.pread(pagemap, 8 * (last - first), 8 * first)
    finally:
        os.close(pagemap)
    if len(told) != 8 * (last - first):
        raise OSError(0, "the system tells of too few pages")
    bits: Any = np.frombuffer(told, np.uint64) >> np.uint64(_OF_FILE)
    # Of a file's pages that are not in memory nothing is told; what was swapped out was written.
    own = (bits == 1 << _PRESENT - _OF_FILE) | (bits & np.uint64(1 << _SWAPPED - _OF_FILE) != 0)
    found: list[int] = ((np.flatnonzero(own) + first) * PAGE).tolist()
    return found


@functools.cache
def tells_own_pages() -> bool:
    """Whether `own_pages` and `area_at` are right here: tried once, with a file of this package."""
    try:
        return _trial()
    except (OSError, ValueError, ImportError):
        return False


def _trial() -> bool:
    with open(__file__, "rb") as file:
        size = min(os.fstat(file.fileno()).st_size, 2 * PAGE)
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    start = address_of(memory)
    area = area_at(start)
    untouched = own_pages(start, start + size)
    read = memory[0]
    after_read = own_pages(start, start + size)
    memory[0] = read  # the same byte: it is the page that counts
    written = own_pages(start, start + size)
    memory.close()
    if area is None or not (area.private and area.writable) or area.offset:
        return False
    return (untouched, after_read, written) == ([], [], [start])


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping starts; one that is not closed."""
    import numpy as np

    address: int = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return address


def has_memory(address: int) -> bool:
    """Whether there is memory at an address, asked so that no signal can end the process."""
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return len(os.pread(memory, 1, address)) == 1
    except OSError:
        return False
    finally:
        os.close(memory)


def memory_bytes(address: int, size: int) -> bytes:
    """A copy of memory that is there."""
    return ctypes.string_at(address, size)


# --- the file itself --------------------------------------------------------------------


def size_of_file(area: Area) -> int | None:
    """The bytes of the file of a mapping; None where its path leads to it no more."""
    try:
        with _Opened(area.path, area.file) as opened:
            return opened.size
    except OSError:
        return None


def file_bytes(area: Area, offset: int, size: int) -> bytes | None:
    """What the file of a mapping holds; None where its path leads to it no more."""
    try:
        with _Opened(area.path, area.file) as opened:
            return os.pread(opened.descriptor, size, offset)
    except OSError:
        return None


class _Opened:
    """A file that is open, and is the one that a mapping shows.

    Numbers of devices and inodes are compared as they are told of mappings: of some file systems
    (overlays, btrfs) ``stat`` tells others.

    Raises:
        OSError: It cannot be opened, or is another file.
    """

    def __init__(self, path: str, file: tuple[int, int, int], write: bool = False) -> None:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(0, f"{path} is not a regular file")
        mode = os.O_RDWR if write else os.O_RDONLY
        self.descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.size = os.fstat(self.descriptor).st_size
            self._compare(path, file)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _compare(self, path: str, file: tuple[int, int, int]) -> None:
        if not self.size:
            raise OSError(0, f"{path} is empty")
        with mmap.mmap(self.descriptor, 1, access=mmap.ACCESS_READ) as memory:
            area = area_at(address_of(memory))
        if area is None or area.file != file:
            raise OSError(0, f"{path} is another file by now")

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


# --- on the other side ------------------------------------------------------------------

PRIVATE, READ, SHARED = "private", "read", "shared"
"""How a file is mapped: writes stay in the process, are not possible, or go to the file."""

_ACCESS = {PRIVATE: mmap.ACCESS_COPY, READ: mmap.ACCESS_READ, SHARED: mmap.ACCESS_WRITE}


@dataclass(frozen=True)
class Part:
    """A part of a file that is to be mapped.

    Attributes:
        path: Absolute.
        file: Device and inode as the system tells them of a mapping.
        machine: On which the sender runs, by `machine`.
        group: What of one mapping of the sender comes from one mapping of the receiver.
        offset: In the file, in bytes.
        length: In bytes.
        access: How it is mapped.
    """

    path: str
    file: tuple[int, int, int]
    machine: str
    group: int
    offset: int
    length: int
    access: str

    def spec(self) -> list[Any]:
        """What the receiver needs, as JSON has it."""
        return [
            self.path,
            list(self.file),
            self.machine,
            self.group,
            self.offset,
            self.length,
            self.access,
        ]

    @staticmethod
    def of(details: Iterable[Any]) -> Part:
        """What a spec tells."""
        path, file, *rest = details
        major, minor, inode = file
        return Part(path, (major, minor, inode), *rest)


@dataclass(frozen=True)
class Mapped:
    """A part of a file as the receiver mapped it.

    Attributes:
        memory: The mapping; None where the file is not the sender's.
        start: Where in it the part begins, in bytes.
        length: In bytes.
        reason: Why there is none.
    """

    memory: mmap.mmap | None
    start: int
    length: int
    reason: str = ""

    def shown(self) -> mmap.mmap:
        """The mapping.

        Raises:
            FileNotShared: There is none.
        """
        if self.memory is None:
            raise FileNotShared(f"{FileNotShared.__doc__} ({self.reason})")
        return self.memory


def map_again(parts: list[Part]) -> list[Mapped]:
    """Maps parts of files, each mapping of the sender once."""
    groups: dict[tuple[Any, ...], list[Part]] = {}
    for part in parts:
        groups.setdefault(_group(part), []).append(part)
    made = {key: _map_group(members) for key, members in groups.items()}
    return [_place(part, *made[_group(part)]) for part in parts]


def _group(part: Part) -> tuple[Any, ...]:
    return (part.path, part.file, part.group, part.access)


def _map_group(parts: list[Part]) -> tuple[mmap.mmap | None, int, str]:
    """A mapping that spans the parts, where it starts in the file, and why there is none."""
    sample = parts[0]
    start = min(part.offset for part in parts) // PAGE * PAGE
    stop = max(part.offset + part.length for part in parts)
    try:
        if sample.machine != machine():
            raise OSError(0, f"{sample.path} is a file of another machine")
        with _Opened(sample.path, sample.file, sample.access == SHARED) as opened:
            if opened.size < stop:
                raise OSError(0, f"{sample.path} has become shorter")
            memory = mmap.mmap(
                opened.descriptor, stop - start, access=_ACCESS[sample.access], offset=start
            )
    except (OSError, ValueError) as error:  # ValueError: it was cut short just now
        return None, start, getattr(error, "strerror", None) or str(error)
    return memory, start, ""


def _place(part: Part, memory: mmap.mmap | None, start: int, reason: str) -> Mapped:
    return Mapped(memory, part.offset - start, part.length, reason)


@functools.cache
def machine() -> str:
    """A name of this machine since it was started; device and inode name a file within it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
