"""Large contiguous memory: allocation for what arrives, byte views and digests of what is held."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Iterable, Sequence
from typing import Any

import xxhash

from zerokernel.crossing.device_memory import holding
from zerokernel.crossing.mapped_files import Mapped, Part, map_again

IN_BAND = 64 * 1024
"""Buffers below this size travel inside the payload (bytes)."""

CHUNK = 256 << 10
"""Changes of a buffer are found and sent by chunks of this size (bytes)."""

OF_FILE = "file"
"""The form of a buffer of which no bytes travel: a part of a file."""

Digests = tuple[int, ...]


def allocate(specs: Sequence[Any]) -> tuple[list[Any], list[memoryview]]:
    """Makes the objects that will own what a shipment's buffers carry.

    Args:
        specs: One description per buffer: ``["array", dtype, shape, order]``,
            ``["storage", bytes]``, ``["bytes", bytes]``, or that of a part of a file.

    Returns:
        The owners, and for each a writable view of its bytes to be filled; of a part of a file,
        which is mapped here, it is empty.
    """
    parts = iter(map_again([Part.of(details) for form, *details in specs if form == OF_FILE]))
    owners = [next(parts) if spec[0] == OF_FILE else _allocate_one(*spec) for spec in specs]
    return owners, [
        memoryview(bytearray()) if isinstance(owner, Mapped) else writable_view(owner)
        for owner in owners
    ]


def _allocate_one(form: str, *details: Any) -> Any:
    if form == "array":
        import numpy as np

        dtype, shape, order = details
        return np.empty(tuple(shape), np.dtype(dtype), order)
    if form == "storage":
        return _new_storage(details[0])
    if form == "bytes":
        import numpy as np

        return np.empty(details[0], np.uint8)
    raise ValueError(f"unknown form of buffer: {form!r}")


_libc = ctypes.CDLL(None)
_MADV_HUGEPAGE = 14
_LARGE = 4 << 20  # from here on NumPy asks for huge pages


def _new_storage(size: int) -> Any:
    """A storage in huge pages, as NumPy's arrays are: filling it is three times as fast.

    All its pages are asked for, so that those of neighbours are one mapping, and few are small.
    """
    import torch

    storage = torch.UntypedStorage(size)  # type: ignore[no-untyped-call]
    if size >= _LARGE and hasattr(_libc, "madvise"):
        first = storage.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        length = storage.data_ptr() + size - first
        _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    return storage


def writable_view(owner: Any) -> memoryview:
    """The bytes of a buffer's owner, writable."""
    return memoryview(byte_array(owner))


def readable_view(owner: Any) -> memoryview:
    """The bytes of a buffer's owner, read-only; the view keeps the owner alive."""
    return memoryview(byte_array(owner)).toreadonly()


def byte_array(owner: Any) -> Any:
    """The memory of an array, storage or bytes-like object as one flat uint8 array.

    It is uncopied, but for storages on a device.
    """
    import numpy as np

    if isinstance(owner, np.ndarray):
        return _flat(owner)
    if isinstance(owner, Mapped):
        return _mapped_bytes(owner)
    if isinstance(owner, mmap.mmap) and owner.closed:
        return np.empty(0, np.uint8)
    if isinstance(owner, bytes | bytearray | memoryview | array.array | ctypes.Array | mmap.mmap):
        buffer: Any = owner
        return np.frombuffer(buffer, np.uint8) if len(owner) else np.empty(0, np.uint8)
    return _storage_bytes(owner)


def _mapped_bytes(owner: Mapped) -> Any:
    import numpy as np

    memory = owner.shown()
    return np.frombuffer(memory, np.uint8)[owner.start : owner.start + owner.length]


def _flat(owner: Any) -> Any:
    import numpy as np

    if owner.nbytes == 0:
        return np.empty(0, np.uint8)
    if not (owner.flags.c_contiguous or owner.flags.f_contiguous):
        axes = sorted(range(owner.ndim), key=lambda axis: -owner.strides[axis])
        owner = owner.transpose(axes)
    flat = owner.view(np.ndarray).reshape(-1, order="A")
    return flat.view(np.uint8)


def _storage_bytes(storage: Any) -> Any:
    import numpy as np

    if storage.nbytes() == 0:
        return np.empty(0, np.uint8)
    memory = holding(storage)
    if memory is not None:
        return memory.read(storage, 0, storage.nbytes())
    return np.asarray(Window(storage))


class Window:
    """A storage's memory for NumPy, past torch: its own way makes a storage unresizable."""

    __slots__ = ("__array_interface__", "storage")

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.__array_interface__ = {
            "data": (storage.data_ptr(), False),
            "shape": (storage.nbytes(),),
            "typestr": "|u1",
            "version": 3,
        }


HASHED_PER_OBJECT = 30_000
"""The bytes that are hashed in the time in which one object is walked."""

OBJECTS_PER_LABEL = 10
"""The objects that are walked in the time that a buffer costs besides its hashing."""


def size_of(owner: Any) -> int:
    """The bytes of an array, a storage or a mapped file."""
    if isinstance(owner, mmap.mmap):
        return 0 if owner.closed else len(owner)
    size: Any = owner.nbytes
    return int(size() if callable(size) else size)


def digests(owner: Any, size: int | None = None) -> Digests:
    """One content hash per chunk (xxh3, 128 bits).

    Args:
        owner: Of the bytes.
        size: How many it has, where that is known.
    """
    if 0 < (size_of(owner) if size is None else size) <= IN_BAND:
        return (xxhash.xxh3_128_intdigest(small_bytes(owner)),)
    view = readable_view(owner)
    return tuple(
        xxhash.xxh3_128_intdigest(view[start : start + CHUNK])
        for start in range(0, len(view), CHUNK)
    )


def small_bytes(owner: Any) -> bytes:
    """A copy of all bytes, in the order of memory; for small buffers faster than a view."""
    flags = getattr(owner, "flags", None)
    if flags is None and holding(owner) is None:
        return ctypes.string_at(owner.data_ptr(), owner.nbytes())
    if flags is not None and flags.forc:
        data: bytes = owner.tobytes("A")
        return data
    return bytes(readable_view(owner))


def fill_storage(storage: Any, data: bytes) -> None:
    """Writes bytes into a storage of that size in host memory."""
    ctypes.memmove(storage.data_ptr(), data, len(data))


def dirty_runs(before: Digests | None, now: Digests, size: int) -> list[tuple[int, int]]:
    """The byte ranges (start, stop) whose digests differ, neighbours joined."""
    if before is None or len(before) != len(now):
        return [(0, size)] if size else []
    runs: list[tuple[int, int]] = []
    for index, (old, new) in enumerate(zip(before, now, strict=True)):
        if old == new:
            continue
        start, stop = index * CHUNK, min((index + 1) * CHUNK, size)
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def bytes_for(owner: Any, runs: Iterable[tuple[int, int]]) -> Any:
    """The same as `byte_array`, of which only these ranges (start, stop) are read."""
    import numpy as np

    memory = holding(owner)
    if memory is None:
        return byte_array(owner)
    data = np.empty(size_of(owner), np.uint8)  # pages that nobody writes to take no memory
    for start, stop in runs:
        data[start:stop] = memory.read(owner, start, stop)
    return data


def write_pieces(owner: Any, pieces: Iterable[tuple[int, int, Any]]) -> None:
    """Writes bytes into a buffer: start, stop and what is to be there."""
    memory = holding(owner)
    target = memoryview(byte_array(owner)) if memory is None else None
    for start, stop, source in pieces:
        data = byte_array(source)
        if memory is not None:
            memory.write(owner, start, data)
        elif target is not None:
            target[start:stop] = data


def total(views: Iterable[memoryview]) -> int:
    """The bytes that views span."""
    return sum(view.nbytes for view in views)
