"""The emulated devices, and which tensor is on which.

A tensor on an emulated device is a real CPU tensor. Its storage carries a ``Tag``: torch keeps
the Python object of a storage alive with the storage, so views, parameters and detached tensors
have the tag of their storage, and ``p.data = q`` moves it as it moves the memory.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import torch

from zerokernel.emulation.limit import limit
from zerokernel.emulation.profile import DeviceProfile

CPU: Any = torch.device("cpu")
ATTRIBUTE = "_emulated"
"""Where a storage, or a tensor that has none, carries its tag."""


class EmulatedDevice:
    """One emulated device.

    The mutable state: bytes that live on it, how often there were too few, and its generator.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.device = torch.device("cuda", index)
        self.allocated = 0
        self.peak = 0
        self.mark = 0  # the peak, as long as it is below the limit
        self.refused = 0
        self.generator: Any = None

    def __repr__(self) -> str:
        return f"<emulated {self.device}: {self.allocated} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, here or in another process, is the device of that number."""
        return (numbered, (self.index,))


class Tag:
    """Says that a storage is on a device; it lives and dies with the storage."""

    __slots__ = ("nbytes", "on")

    def __init__(self, on: EmulatedDevice, nbytes: int) -> None:
        self.on = on
        self.nbytes = nbytes
        on.allocated = total = on.allocated + nbytes
        if total > on.mark:
            _rise(self, total)

    def __del__(self) -> None:
        self.on.allocated -= self.nbytes

    def __reduce__(self) -> Any:
        return _tag, (self.on.index, self.nbytes)


def _rise(tag: Tag, total: int) -> None:
    """Notes that more is in use than before, or takes a tag back that there is no memory for.

    Raises:
        torch.OutOfMemoryError: There is none; it reads as on a real device.
    """
    on, wanted = tag.on, tag.nbytes
    if total <= limit.memory:
        on.mark = total
        on.peak = max(total, on.peak)
        return
    on.allocated -= wanted
    tag.nbytes = 0
    on.refused += 1
    free = max(0.0, limit.memory - on.allocated)
    raise torch.OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate {_size(wanted)}. GPU {on.index} has a total "
        f"capacity of {_size(limit.memory)} of which {_size(free)} is free. Of the allocated "
        f"memory {_size(on.allocated)} is allocated by PyTorch (emulated device)."
    )


def _size(count: float) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.2f} MiB"


class _Current(threading.local):
    index = 0


class _Devices:
    """The devices of this process. The mutable state: profile, devices, each thread's current."""

    def __init__(self) -> None:
        self.profile = DeviceProfile()
        self.all: list[EmulatedDevice] = []
        self.known: dict[Any, Any] = {}
        self.current = _Current()

    def configure(self, profile: DeviceProfile) -> None:
        self.profile = profile
        while len(self.all) < profile.count:
            self.all.append(EmulatedDevice(len(self.all)))
        self.known = {}

    def here(self) -> EmulatedDevice:
        """The current device of this thread."""
        return self.at(self.current.index)

    def one(self, index: int) -> EmulatedDevice:
        """A device of any number: one with more devices may have made what is on it."""
        while len(self.all) <= index:
            self.all.append(EmulatedDevice(len(self.all)))
        return self.all[index]

    def at(self, index: int) -> EmulatedDevice:
        if not 0 <= index < self.profile.count:
            raise _invalid_ordinal()
        return self.all[index]


devices = _Devices()


def numbered(index: int) -> EmulatedDevice:
    """The device of a number, also where this process has fewer."""
    return devices.one(index)


def _tag(index: int, nbytes: int) -> Tag | None:
    """A tag in a process that emulates; on a real device, tensors need none."""
    return Tag(devices.one(index), nbytes) if hasattr(torch.UntypedStorage, ATTRIBUTE) else None


def _forget_marks() -> None:
    for on in devices.all:
        on.mark = 0


limit.when_set = _forget_marks


def _invalid_ordinal() -> Exception:
    kind: type[Exception] = getattr(torch, "AcceleratorError", RuntimeError)
    return kind(
        "CUDA error: invalid device ordinal\n"
        f"This session has {devices.profile.count} emulated device(s); "
        "ask for more with the size of the cell."
    )


_UNKNOWN, _CURRENT = object(), object()


def resolve(spec: Any) -> EmulatedDevice | None:
    """Gives the emulated device that a device argument names, None for any other device."""
    known = devices.known.get(spec, _UNKNOWN)
    if known is _CURRENT:
        return devices.here()
    if known is not _UNKNOWN:
        on: EmulatedDevice | None = known
        return on
    return _resolved(spec)


def _resolved(spec: Any) -> EmulatedDevice | None:
    if isinstance(spec, int) and not isinstance(spec, bool):
        return devices.here() if spec == -1 else devices.at(spec)
    device: Any = torch.device(spec)
    if device.type != "cuda":
        devices.known[spec] = None
        return None
    if device.index is None:
        devices.known[spec] = _CURRENT
        return devices.here()
    on = devices.known[spec] = devices.at(device.index)
    return on


PLAIN: frozenset[type] = frozenset({torch.Tensor, torch.nn.Parameter})
"""Types that do nothing of their own when an operation is called on them."""
_Disable: Any = torch._C.DisableTorchFunction


def device_of(tensor: Any) -> EmulatedDevice | None:
    """Gives the emulated device that a tensor is on, None where it is on a real one."""
    if type(tensor) not in PLAIN:
        with _Disable():
            tag = vars(tensor).get(ATTRIBUTE) or _tag_of(tensor)
    else:
        tag = _tag_of(tensor)
    return None if tag is None else tag.on


def _tag_of(tensor: Any) -> Any:
    try:
        return tensor.untyped_storage()._emulated
    except (NotImplementedError, RuntimeError):
        parts = _parts(tensor)
        return _tag_of(parts[0]) if parts else getattr(tensor, ATTRIBUTE, None)


def put(tensor: Any, on: EmulatedDevice) -> Any:
    """Says that a tensor's storage is on a device; where it is on one already, nothing changes."""
    if type(tensor) in PLAIN:
        _put(tensor, on)
        return tensor
    with _Disable():
        if is_wrapper(type(tensor)):
            setattr(tensor, ATTRIBUTE, Tag(on, 0))
            for one in list(vars(tensor).values()):
                if isinstance(one, torch.Tensor):
                    put(one, on)
        else:
            _put(tensor, on)
    return tensor


def _put(tensor: Any, on: EmulatedDevice) -> None:
    try:
        storage = tensor.untyped_storage()
        known, size = storage._emulated, storage.nbytes()
    except (NotImplementedError, RuntimeError):
        parts = _parts(tensor)
        for part in parts:
            put(part, on)
        if not parts:
            setattr(tensor, ATTRIBUTE, Tag(on, 0))
        return
    if known is None:
        storage._emulated = Tag(on, size)


def is_wrapper(kind: Any) -> bool:
    """Whether tensors of a class are made of other tensors, which are its attributes."""
    return kind.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl


def put_all(result: Any, on: EmulatedDevice) -> Any:
    """Puts every tensor in a result on a device: tuples, lists, dicts and named tuples too."""
    if isinstance(result, torch.Tensor):
        put(result, on)
    elif isinstance(result, (tuple, list)):
        for one in result:
            put_all(one, on)
    elif isinstance(result, dict):
        for one in result.values():
            put_all(one, on)
    return result


def own_memory(tensors: Any) -> None:
    """Gives tensors memory of their own now, where a copy of them waits for the first write.

    torch forgets about the copy that waits when such a storage gets another size.
    """
    for tensor in tensors if isinstance(tensors, (tuple, list)) else (tensors,):
        with contextlib.suppress(NotImplementedError, RuntimeError):
            torch._C.TensorBase.data_ptr(tensor)


def shares_memory(one: Any, other: Any) -> bool:
    """Whether two tensors have a storage in common."""
    if one is other:
        return True
    return bool({id(s) for s in _storages(one)} & {id(s) for s in _storages(other)})


def _storages(tensor: Any) -> list[Any]:
    if type(tensor) not in PLAIN:
        with _Disable():
            return _own_storages(tensor)
    return _own_storages(tensor)


def _own_storages(tensor: Any) -> list[Any]:
    try:
        return [tensor.untyped_storage()]
    except (NotImplementedError, RuntimeError):
        return [s for part in _parts(tensor) for s in _storages(part)]


def _parts(tensor: Any) -> list[Any]:
    """The tensors that a tensor without storage of its own consists of."""
    functorch: Any = torch._C._functorch
    if functorch.is_functorch_wrapped_tensor(tensor):
        return [functorch.get_unwrapped(tensor)]
    layout = tensor.layout
    if layout is torch.sparse_coo:
        return [tensor._values(), tensor._indices()]
    if layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.values(), tensor.crow_indices(), tensor.col_indices()]
    if layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.values(), tensor.ccol_indices(), tensor.row_indices()]
    return []
