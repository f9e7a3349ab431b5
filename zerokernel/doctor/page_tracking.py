"""Self-tests of the kernel's ways to tell which pages were written.

Each writes to a page and asks; a kernel may accept every call and still answer wrongly.
Numbers are those of linux/userfaultfd.h and linux/fs.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API = 0xAA
_WP_UNPOPULATED, _WP_ASYNC = 1 << 13, 1 << 15
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_REGISTER_WP, _PROTECT = 2, 1
_PAGEMAP_SCAN = 0xC0606610
_IS_WRITTEN = 1 << 1
_PAGES = 4


def userfaultfd_works() -> str:
    """Tries write-protection by userfaultfd with PAGEMAP_SCAN; "" where it is right, else why."""
    number = _USERFAULTFD.get(platform.machine())
    if number is None:
        return f"not tried on {platform.machine()}"
    descriptor = _libc.syscall(number, os.O_CLOEXEC | _USER_MODE_ONLY)
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    try:
        with mmap.mmap(-1, _PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as pages:
            return "" if _tracked(descriptor, pages) == [1] else "it reports wrong pages"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(descriptor)


def soft_dirty_works() -> str:
    """Tries soft-dirty bits on one page; "" where they are right, else why."""
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as page:
            page[0] = 1
            Path("/proc/self/clear_refs").write_text("4")
            before = _soft_dirty(_address(page))
            page[0] = 2
            after = _soft_dirty(_address(page))
    except OSError as error:
        return error.strerror or str(error)
    return "" if (before, after) == (False, True) else "it reports a written page as clean"


def _tracked(descriptor: int, pages: mmap.mmap) -> list[int]:
    """Protects touched pages, writes to the second, and gives those reported written."""
    for page in range(_PAGES):
        pages[page * mmap.PAGESIZE] = 1
    start, size = _address(pages), len(pages)
    fcntl.ioctl(descriptor, _UFFDIO_API, struct.pack("3Q", _API, _WP_UNPOPULATED | _WP_ASYNC, 0))
    fcntl.ioctl(descriptor, _UFFDIO_REGISTER, struct.pack("4Q", start, size, _REGISTER_WP, 0))
    fcntl.ioctl(descriptor, _UFFDIO_WRITEPROTECT, struct.pack("3Q", start, size, _PROTECT))
    pages[mmap.PAGESIZE] = 2
    return [
        page
        for first, last in _written(start, size)
        for page in range((first - start) // mmap.PAGESIZE, (last - start) // mmap.PAGESIZE)
    ]


def _written(start: int, size: int) -> list[tuple[int, int]]:
    regions = (ctypes.c_uint64 * (3 * _PAGES))()
    # struct pm_scan_arg: size, flags, where; the answer's place and room; which pages are
    # wanted (by a mask of all that must hold) and what is told of them.
    where = (96, 0, start, start + size, 0, ctypes.addressof(regions), _PAGES, 0)
    question = bytearray(struct.pack("12Q", *where, 0, _IS_WRITTEN, 0, _IS_WRITTEN))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, question)
    return [(regions[3 * n], regions[3 * n + 1]) for n in range(count)]


def _soft_dirty(address: int) -> bool:
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // mmap.PAGESIZE * 8)
        (entry,) = struct.unpack("Q", pagemap.read(8))
    return bool(entry >> 55 & 1)


def _address(pages: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(pages))
