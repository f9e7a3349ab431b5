"""The memory of devices, for those who bring storages there and back.

Host memory is read in place; what lies on a device is asked for. Everything that the crossing
does with a device goes through a `DeviceMemory`; there is one for real devices, and one that
pretends, which counts what is done.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def past_modes(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Has what a function does with torch seen by no mode, be it the emulation's or a user's."""

    @functools.wraps(function)
    def plainly(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        import torch

        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return plainly


class DeviceMemory(Protocol):
    """What the crossing does with storages on devices. Bytes are flat arrays of uint8."""

    def holds(self, storage: Any) -> bool:
        """Whether a storage lies here."""

    def index_of(self, storage: Any) -> int:
        """The device of a storage that lies here."""

    def place(self, data: Any, index: int) -> Any:
        """A new storage on a device with these bytes, moved in one go.

        Raises:
            CannotTravel: There is no device of that number.
        """

    def settle(self) -> None:
        """Waits until what was placed and written is there."""

    def read(self, storage: Any, start: int, stop: int) -> Any:
        """A copy of some of its bytes, in host memory."""

    def write(self, storage: Any, start: int, data: Any) -> None:
        """Writes bytes into it, from a place on."""

    def labels(self, storage: Any) -> tuple[int, ...]:
        """A label below zero for each chunk: equal ones mean equal bytes."""

    def release(self) -> None:
        """Gives what nobody uses any more back to the device."""


class _InUse:
    """The mutable state: the memory that pretends, None where none does; the real one."""

    pretended: DeviceMemory | None = None
    real: DeviceMemory | None = None
    has_devices: bool | None = None  # None: nobody asked yet


_in_use = _InUse()


def pretend(memory: DeviceMemory | None) -> None:
    """Has storages on emulated devices lie in such a memory, for tests; None ends it."""
    _in_use.pretended = memory


def holding(owner: Any) -> DeviceMemory | None:
    """The memory that a storage lies in; None for any buffer in host memory."""
    if type(owner).__name__ != "UntypedStorage":
        return None
    if hasattr(type(owner), "_emulated"):  # where there is an emulation, there is no device
        pretended = _in_use.pretended
        return pretended if pretended is not None and pretended.holds(owner) else None
    return None if owner.device.type == "cpu" else _real()


def of_this_process() -> DeviceMemory | None:
    """The memory of the devices that this process has, None where it has none.

    Asking torch for devices begins to use them: not to be called where none was bound.
    """
    if _in_use.pretended is not None:
        return _in_use.pretended
    torch = sys.modules.get("torch")
    if torch is None or hasattr(torch.UntypedStorage, "_emulated"):
        return None  # tensors are where the emulation says
    if _in_use.has_devices is None:
        _in_use.has_devices = bool(torch.cuda.is_available())
    return _real() if _in_use.has_devices else None


def finish() -> None:
    """Waits until devices have done what the cell told them, on all streams.

    Raises:
        RuntimeError: What went wrong there, which a device tells late.
    """
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        for index in range(cuda.device_count()):
            # To wait for one that is not used would begin to use it.
            if cuda.memory_reserved(index):
                cuda.synchronize(index)


def settle() -> None:
    """Waits until everything that went to a device is there."""
    for memory in (_in_use.pretended, _in_use.real):
        if memory is not None:
            memory.settle()


def release() -> None:
    """Gives what nobody uses any more back to the devices."""
    for memory in (_in_use.pretended, _in_use.real):
        if memory is not None:
            memory.release()


def _real() -> DeviceMemory:
    if _in_use.real is None:
        from zerokernel.crossing.cuda_memory import CudaMemory

        _in_use.real = CudaMemory()
    return _in_use.real
