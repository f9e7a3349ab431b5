"""Reading another process's memory, and finding out whether that works here."""

from __future__ import annotations

import ctypes
import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PTRACER = 0x59616D61
_MAX_READ = 1 << 30  # one call moves at most 2 GiB less a page (man process_vm_readv)

_READERS = 4
"""Threads that read at a time: getting the pages that are filled takes longer than the copy."""

_PIECE = 8 << 20  # bytes that a thread reads at a time

READER = "reads memory"
"""How the names of such threads begin."""


class _Extent(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _PyBuffer(ctypes.Structure):  # Py_buffer of CPython's stable ABI
    _fields_ = (
        ("address", ctypes.c_void_p),
        ("owner", ctypes.py_object),
        ("size", ctypes.c_ssize_t),
        ("rest", ctypes.c_byte * 64),
    )


def address_of(view: memoryview) -> int:
    """Address of a contiguous view's first byte; valid while the view lives.

    The C interface, because ctypes' own from_buffer refuses read-only views.
    """
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    address = buffer.address or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address


def read_memory(process: int, address: int, into: memoryview) -> None:
    """Fills ``into`` from the memory of another process of this user.

    Raises:
        OSError: The process is gone, or the machine forbids it.
    """
    target = address_of(into)
    done, size = 0, into.nbytes
    while done < size:
        length = min(size - done, _MAX_READ)
        local = _Extent(target + done, length)
        remote = _Extent(address + done, length)
        count = _libc.process_vm_readv(
            process, ctypes.byref(local), 1, ctypes.byref(remote), 1, ctypes.c_ulong(0)
        )
        if count <= 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        done += count


def read_all(process: int, parts: Iterable[tuple[int, memoryview]]) -> None:
    """Fills views from addresses in another process's memory, large ones by several threads.

    Raises:
        OSError: The process is gone, or the machine forbids it.
    """
    pieces = [piece for part in parts for piece in _pieces(*part)]
    count = min(_READERS, len(os.sched_getaffinity(0)), len(pieces))
    if count < 2 or sum(view.nbytes for _, view in pieces) < 2 * _PIECE:
        for address, view in pieces:
            read_memory(process, address, view)
        return
    with ThreadPoolExecutor(count, thread_name_prefix=READER) as readers:
        for _ in readers.map(lambda piece: read_memory(process, *piece), pieces):
            pass  # raises what went wrong; what has not begun is not read any more


def _pieces(address: int, view: memoryview) -> Iterator[tuple[int, memoryview]]:
    for start in range(0, view.nbytes, _PIECE):
        yield address + start, view[start : start + _PIECE]


def allow_reading_by(process: int) -> None:
    """Lets ``process`` read this one where Yama restricts it; elsewhere without effect."""
    _libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(process), 0, 0, 0)


_PROBE = struct.Struct("<QQ16s")


@dataclass
class Probe:
    """A secret in this process's memory that a peer is asked to read back."""

    buffer: ctypes.Array[ctypes.c_char]

    @staticmethod
    def make() -> Probe:
        """Puts a fresh secret into memory."""
        return Probe(ctypes.create_string_buffer(secrets.token_bytes(16), 16))

    def pack(self, process: int = 0) -> bytes:
        """Tells a peer where the secret is and what it must read there.

        Args:
            process: This process's id as the peer sees it, where that is not its own view.
        """
        return _PROBE.pack(process or os.getpid(), ctypes.addressof(self.buffer), self.buffer.raw)


def try_probe(data: bytes) -> int:
    """Returns the prober's process id where its memory can be read, else 0."""
    process, address, expected = _PROBE.unpack(data)
    found = bytearray(16)
    try:
        read_memory(process, address, memoryview(found))
    except OSError:
        return 0
    return int(process) if secrets.compare_digest(bytes(found), expected) else 0
