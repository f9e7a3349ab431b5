"""`cuda` in a process that has none: tensors are on the CPU and say that they are on a device.

Importing this package imports no torch.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from zerokernel.emulation.profile import DeviceProfile

__all__ = [
    "DeviceProfile",
    "emulate",
    "expect",
    "in_worker",
    "index_of",
    "is_expected",
    "is_pinned",
    "path_of",
    "pin",
    "put_storage",
    "remove",
    "suspended",
    "where_real",
]


def emulate(profile: DeviceProfile | None = None, *, from_the_start: bool | None = None) -> None:
    """Emulates `cuda` from now on; torch must have been imported, or is now.

    Args:
        profile: What the device says of itself; by default half an H200.
        from_the_start: Whether torch was imported just now, so that there is no tensor yet;
            None where this function can tell.

    Raises:
        CannotEmulate: A real device is visible to this process.
    """
    fresh = "torch" not in sys.modules if from_the_start is None else from_the_start
    from zerokernel.emulation.install import install

    install(profile or DeviceProfile(), from_the_start=fresh)


def remove() -> None:
    """Takes the emulation back, without a trace; harmless where there is none."""
    module = sys.modules.get("zerokernel.emulation.install")
    if module is not None:
        module.remove()


def suspended() -> AbstractContextManager[None]:
    """Has the emulation stand aside for a while: device tensors are CPU tensors meanwhile."""
    module = sys.modules.get("zerokernel.emulation.install")
    if module is None:
        return nullcontext()
    standing_aside: AbstractContextManager[None] = module.suspended()
    return standing_aside


class _Expected:
    """The mutable state: whether the emulation begins as soon as torch is imported; and where."""

    yes = False
    in_worker = False


def in_worker(yes: bool) -> None:
    """Notes whether this process runs `%%gpu` cells; it then has a simulated slice."""
    _Expected.in_worker = yes


def where_real() -> str:
    """Where to do what needs a real device, for messages."""
    if _Expected.in_worker:
        return "in a %%gpu cell on a real device (this slice is simulated)"
    return "in a %%gpu cell"


def expect(yes: bool) -> None:
    """Notes whether the emulation is to begin when torch is imported."""
    _Expected.yes = yes


def is_expected() -> bool:
    """Whether tensors of this process can be on an emulated device, now or after the import."""
    torch = sys.modules.get("torch")
    return _Expected.yes or hasattr(getattr(torch, "UntypedStorage", None), "_emulated")


def path_of(item: Any) -> tuple[str, str] | None:
    """Module and name of the function or class of torch in whose place another one stands."""
    module = sys.modules.get("zerokernel.emulation.install")
    return None if module is None else module.path_of(item)


def index_of(storage: Any) -> int | None:
    """The emulated device that a storage is on; None for any other, and without an emulation."""
    # While the emulation is in place the class has the attribute, with which a storage begins.
    if not hasattr(type(storage), "_emulated"):
        return None
    tag = storage._emulated
    return None if tag is None else int(tag.on.index)


def put_storage(storage: Any, index: int) -> None:
    """Says that a storage is on an emulated device; nothing is copied."""
    from zerokernel.emulation.devices import devices
    from zerokernel.emulation.storages import tagged

    tagged(storage, devices.one(index))


def is_pinned(storage: Any) -> bool:
    """Whether a storage counts as pinned in an emulation that is in place."""
    return hasattr(type(storage), "_pinned") and bool(storage._pinned)


def pin(storage: Any) -> None:
    """Has a storage count as pinned."""
    storage._pinned = True
