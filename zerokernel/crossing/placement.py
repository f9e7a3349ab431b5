"""Where a storage is: it travels with the storage, and the receiver puts it there.

A place is the number of a CUDA device, real or emulated; "pinned"; or None for host memory, which
is also what a process says that has no device and emulates none. What a notebook has on an
emulated device is on a real one in the worker of a real slice, and the other way round.
"""

from __future__ import annotations

import sys
from typing import Any

from zerokernel import emulation
from zerokernel.crossing import device_memory
from zerokernel.crossing.buffers import byte_array

PINNED = "pinned"

Place = int | str | None


def place_of(storage: Any) -> Place:
    """Where a storage is."""
    if hasattr(type(storage), "_emulated"):
        index = emulation.index_of(storage)
        return index if index is not None else PINNED if emulation.is_pinned(storage) else None
    kind = storage.device.type
    if kind != "cpu":
        memory = device_memory.holding(storage)
        return None if memory is None or kind != "cuda" else memory.index_of(storage)
    return PINNED if _is_pinned(storage) else None


def memory_of(storage: Any) -> Any:
    """The device of a storage's memory as torch without an emulation would tell it."""
    return "cpu" if emulation.index_of(storage) is not None else storage.device


def put(storage: Any, place: Place, *, in_worker: bool) -> Any:
    """Gives a storage with these bytes at a place: a new one where that takes a transfer.

    Args:
        storage: One in host memory, which nobody uses yet.
        place: Where it shall be.
        in_worker: Whether this process may put it on a device of its own.

    Raises:
        CannotTravel: There is no such device.
    """
    if place is None:
        return storage
    memory = device_memory.of_this_process() if in_worker else None
    if isinstance(place, int) and memory is not None:
        return memory.place(byte_array(storage), place)
    if not hasattr(type(storage), "_emulated"):
        return _pinned(storage) if place == PINNED and memory is not None else storage
    put_in_place(storage, place)
    return storage


def put_in_place(storage: Any, place: Place) -> None:
    """Has a storage be on an emulated device from now on; without an emulation nothing happens."""
    if place is None or place_of(storage) == place or not hasattr(type(storage), "_emulated"):
        return
    if isinstance(place, int):
        emulation.put_storage(storage, place)
    else:
        emulation.pin(storage)


def _is_pinned(storage: Any) -> bool:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda is not None and cuda.is_initialized() and bool(storage.is_pinned())


@device_memory.past_modes
def _pinned(storage: Any) -> Any:
    import torch

    made = torch.empty(storage.nbytes(), dtype=torch.uint8, device="cpu", pin_memory=True)
    made.untyped_storage().copy_(storage)
    return made.untyped_storage()
