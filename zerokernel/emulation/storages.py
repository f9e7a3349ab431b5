"""`UntypedStorage`: it carries the tag, says its device, and is moved, copied, saved and loaded."""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation.devices import CPU, EmulatedDevice, Tag, devices, resolve
from zerokernel.emulation.patches import Patch

_Untyped: Any = torch.UntypedStorage
_Base: Any = torch._C.StorageBase
_device = _Base.device.__get__
_to, _data_ptr = _Untyped.to, _Base.data_ptr
_resize_before: Any = _Base.resize_


def _get_device(self: Any) -> Any:
    tag = self._emulated
    return _device(self) if tag is None else tag.on.device


def _is_cuda(self: Any) -> bool:
    return bool(_get_device(self).type == "cuda")


def _index(self: Any) -> int:
    device = _get_device(self)
    return int(device.index) if device.type == "cuda" else -1


def _copied(self: Any, on: EmulatedDevice | None) -> Any:
    fresh = _Untyped(self.nbytes())
    fresh.copy_(self)
    return fresh if on is None else tagged(fresh, on)


def tagged(storage: Any, on: EmulatedDevice) -> Any:
    """Puts a storage on a device."""
    storage._emulated = Tag(on, storage.nbytes())
    return storage


def _clone(self: Any) -> Any:
    if _device(self).type != "cpu":
        return type(self)(self.nbytes(), device=self.device).copy_(self)
    return _copied(self, self._emulated.on if self._emulated is not None else None)


def _move(self: Any, *, device: Any, non_blocking: bool = False) -> Any:
    there = resolve(device)
    here = self._emulated.on if self._emulated is not None else None
    if _device(self).type != "cpu" or (there is None and torch.device(device).type != "cpu"):
        return _to(self, device=device, non_blocking=non_blocking)
    return self if here is there else _copied(self, there)


def _cuda(self: Any, device: Any = None, non_blocking: bool = False) -> Any:
    return _move(self, device=devices.here().device if device is None else device)


def _cpu(self: Any) -> Any:
    return _move(self, device=CPU) if _device(self).type == "cpu" else _to(self, device=CPU)


def _pointer(self: Any) -> int:
    self._exposed = True
    return int(_data_ptr(self))


def _resize(self: Any, size: int) -> Any:
    _data_ptr(self)  # memory of its own, before torch forgets that there was other
    result = _resize_before(self, size)
    if self._emulated is not None:
        tagged(self, self._emulated.on)
    return result


def patches() -> list[Patch]:
    """What is replaced on `torch.UntypedStorage`."""
    replaced: dict[str, Any] = {
        "_emulated": None,  # the tag of a storage that has none
        "_exposed": False,
        "_pinned": False,
        "device": property(_get_device),
        "is_cuda": property(_is_cuda),
        "get_device": _index,
        "clone": _clone,
        "to": _move,
        "cuda": _cuda,
        "cpu": _cpu,
        "data_ptr": _pointer,
        "resize_": _resize,
    }
    return [Patch(_Untyped, name, value) for name, value in replaced.items()]


def location_of(storage: Any) -> str | None:
    """For `torch.save`: where a storage was."""
    tag = getattr(storage, "_emulated", None)
    return None if tag is None else str(tag.on.device)


def restored(storage: Any, location: str) -> Any:
    """For `torch.load`: puts a storage that was just read where it belongs, without a copy.

    None for other locations, and while there is no emulation: torch's own functions follow.
    """
    if not location.startswith("cuda") or not registration.active:
        return None
    on = resolve(location)
    if on is None or _device(storage).type != "cpu":
        return None
    return tagged(storage, on)


class _Registration:
    """The place among torch's functions for locations. The mutable state: whether it counts."""

    active = False
    entry: Any = None

    def enter(self) -> None:
        registry = torch.serialization._package_registry
        before = list(registry)
        torch.serialization.register_package(1, location_of, restored)
        self.entry = next(one for one in registry if one not in before)
        self.active = True

    def leave(self) -> None:
        self.active = False
        if self.entry in torch.serialization._package_registry:
            torch.serialization._package_registry.remove(self.entry)


registration = _Registration()
