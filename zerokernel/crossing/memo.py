"""The objects that a C pickler numbered, in order.

`pickle.Pickler.memo.copy` makes a tuple for each of them, which for a million objects takes
longer than to pickle them. So the pickler's table is read as the memory that it is, where a
trial shows that it is laid out as in CPython's ``_pickle.c``.
"""

from __future__ import annotations

import ctypes
import functools
import io
import os
import pickle
import struct
import sys
from collections.abc import Set
from typing import Any

_MANY = 10_000
"""Objects from which on it is worth while to read memory (and perhaps to import NumPy)."""

_HEAD = object.__basicsize__  # the first field of a pickler: where its table is described
_TABLE = "4N"  # mask, used, allocated, address of the entries (object, index)


def count(pickler: pickle.Pickler) -> int:
    """How many objects a pickler numbered."""
    return _described(pickler)[1] if _is_readable() else len(pickler.memo.copy())


def objects(pickler: pickle.Pickler) -> list[Any]:
    """The objects that a pickler numbered, in the order of their numbers."""
    if _is_readable() and _described(pickler)[1] >= _MANY:
        return _by_memory(pickler)
    return _by_copy(pickler)


def places(pickler: pickle.Pickler, wanted: Set[int]) -> dict[int, int]:
    """The numbers of the objects at some addresses, as far as they have any."""
    if not wanted:
        return {}
    if _is_readable() and _described(pickler)[1] >= _MANY:
        import numpy as np

        addresses, numbers = _entries(pickler)
        chosen = np.isin(addresses, np.fromiter(wanted, np.uint64, len(wanted)))
        return dict(zip(addresses[chosen].tolist(), numbers[chosen].tolist(), strict=True))
    return {at: found[0] for at, found in pickler.memo.copy().items() if at in wanted}


def _by_copy(pickler: pickle.Pickler) -> list[Any]:
    placed: dict[int, Any] = dict(pickler.memo.copy().values())
    return list(map(placed.__getitem__, range(len(placed))))


def _by_memory(pickler: pickle.Pickler) -> list[Any]:
    import numpy as np

    addresses, numbers = _entries(pickler)
    ordered: Any = np.empty(len(addresses), np.uint64)
    ordered[numbers] = addresses
    # Reading such an item takes a reference to it, which the pickler's own keeps valid till then.
    found: Any = (ctypes.py_object * len(ordered)).from_buffer(ordered)
    return list(found)


def _entries(pickler: pickle.Pickler) -> tuple[Any, Any]:
    """Addresses and numbers of the objects, in the order of the table."""
    import numpy as np

    _, used, allocated, place = _described(pickler)
    memory: Any = (ctypes.c_uint64 * (2 * allocated)).from_address(place)
    table = np.frombuffer(memory, np.uint64).reshape(allocated, 2)
    table = table[table[:, 0] != 0]
    assert len(table) == used
    return table[:, 0], table[:, 1]


def _described(pickler: pickle.Pickler) -> tuple[int, ...]:
    place = ctypes.c_size_t.from_address(id(pickler) + _HEAD).value
    return struct.unpack(_TABLE, ctypes.string_at(place, struct.calcsize(_TABLE)))


@functools.cache
def _is_readable() -> bool:
    """Whether a pickler's memory is laid out as expected; reads it so that no error can harm."""
    if sys.implementation.name != "cpython" or sys.maxsize >> 32 == 0:
        return False
    trial = pickle.Pickler(io.BytesIO(), 5)
    trial.dump([[], "text", (1, [2]), {"key": b"bytes"}, object])
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            return _read_safely(memory.fileno(), trial) == trial.memo.copy()
    except (OSError, OverflowError, struct.error):
        return False


def _read_safely(memory: int, pickler: pickle.Pickler) -> dict[int, tuple[int, Any]]:
    (place,) = struct.unpack("N", os.pread(memory, struct.calcsize("N"), id(pickler) + _HEAD))
    found = os.pread(memory, struct.calcsize(_TABLE), place)
    mask, used, allocated, entries = struct.unpack(_TABLE, found)
    if mask + 1 != allocated or not used < allocated <= 1 << 10:
        return {}
    table = struct.iter_unpack("QQ", os.pread(memory, 16 * allocated, entries))
    known = {address: item for address, (_, item) in pickler.memo.copy().items()}
    return {at: (number, known.get(at)) for at, number in table if at}
