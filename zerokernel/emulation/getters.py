"""Attributes of a tensor that tell its device: they hold in every thread, mode or not."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.utils.dlpack

from zerokernel.emulation import where_real
from zerokernel.emulation.devices import (
    PLAIN,
    EmulatedDevice,
    device_of,
)
from zerokernel.emulation.patches import Patch
from zerokernel.emulation.pinning import is_pinned

_Base: Any = torch._C.TensorBase
_Disable: Any = torch._C.DisableTorchFunction
_device = _Base.device.__get__
_numpy = _Base.numpy


def _on(tensor: Any) -> EmulatedDevice | None:
    with _Disable():
        return device_of(tensor)


def _get_device(self: Any) -> Any:
    if type(self) in PLAIN:
        with _Disable():
            try:
                tag = self.untyped_storage()._emulated
            except NotImplementedError:
                on = device_of(self)
                return on.device if on is not None else _device(self)
            return _device(self) if tag is None else tag.on.device
    on = _on(self)
    return _device(self) if on is None else on.device


def _is_cuda(self: Any) -> bool:
    return _on(self) is not None or bool(_Base.is_cuda.__get__(self))


def _is_cpu(self: Any) -> bool:
    return _on(self) is None and bool(_Base.is_cpu.__get__(self))


def _index(self: Any) -> int:
    on = _on(self)
    return int(_Base.get_device(self)) if on is None else on.index


def _to_numpy(self: Any, *, force: bool = False) -> Any:
    """As on a device: a TypeError, unless a copy is asked for."""
    on = _on(self)
    if on is not None and not force:
        raise TypeError(
            f"can't convert {on.device} device type tensor to numpy. Use Tensor.cpu() to "
            "copy the tensor to host memory first."
        )
    with _Disable():
        if on is not None:
            return _numpy(self.detach().resolve_conj().resolve_neg().clone())
        array = _numpy(self, force=force)
        expose(self)
        return array


def _data_ptr(self: Any) -> int:
    address = int(_Base.data_ptr(self))
    with _Disable():
        expose(self)
    return address


def expose(tensor: Any) -> None:
    """Notes that somebody outside torch knows the memory of a tensor."""
    with contextlib.suppress(NotImplementedError, RuntimeError):
        tensor.untyped_storage()._exposed = True


def _dlpack_device(self: Any) -> Any:
    from torch.utils.dlpack import DLDeviceType

    on = _on(self)
    if on is None:
        return _dlpack_device_before(self)
    return DLDeviceType.kDLCUDA, on.index


def _dlpack(self: Any, *args: Any, **kwargs: Any) -> Any:
    if (on := _on(self)) is not None:
        raise BufferError(
            f"A tensor on the emulated {on.device} has no device memory to share. "
            f"Do it {where_real()}, or use Tensor.cpu() first."
        )
    expose(self)
    return _dlpack_before(self, *args, **kwargs)


def _to_dlpack(tensor: Any) -> Any:
    """The function that `torch.utils.dlpack` and `torch` have beside the method."""
    return _to_dlpack_before(tensor) if _on(tensor) is None else _dlpack(tensor)


def _cuda_array_interface(self: Any) -> Any:
    if _on(self) is None:
        return _interface_before.__get__(self)
    raise AttributeError(
        f"A tensor on an emulated device has no device memory to share. Do it {where_real()}."
    )


def _repr(self: Any, *, tensor_contents: Any = None) -> str:
    if type(self) in PLAIN and _on(self) is not None:
        with _Disable():  # its hundred operations need no look at
            return str(_Printing._str(self, tensor_contents=tensor_contents))
    return str(_repr_before(self, tensor_contents=tensor_contents))


def _share_memory(self: Any) -> Any:
    return self if _on(self) is not None else _share_memory_before(self)


def _is_shared(self: Any) -> bool:
    return True if _on(self) is not None else bool(_is_shared_before(self))


def _is_pinned(self: Any, *args: Any, **kwargs: Any) -> bool:
    with _Disable():
        return is_pinned(self)


def _record_stream(self: Any, stream: Any) -> None:
    """Tells an allocator what ours need not know."""
    if _on(self) is None:
        _Base.record_stream(self, stream)


_Tensor: Any = torch.Tensor
_Printing: Any = torch._tensor_str
_Dlpack: Any = torch.utils.dlpack
_dlpack_before = _Tensor.__dlpack__
_dlpack_device_before = _Tensor.__dlpack_device__
_interface_before: Any = vars(_Tensor)["__cuda_array_interface__"]
_to_dlpack_before: Any = _Dlpack.to_dlpack
_repr_before = _Tensor.__repr__
_share_memory_before = _Tensor.share_memory_
_is_shared_before = _Tensor.is_shared


def patches() -> list[Patch]:
    """What is replaced on `torch.Tensor`, and the function that does what a method of it does."""
    replaced: dict[str, Any] = {
        "device": property(_get_device),
        "is_cuda": property(_is_cuda),
        "is_cpu": property(_is_cpu),
        "get_device": _index,
        "numpy": _to_numpy,
        "data_ptr": _data_ptr,
        "is_pinned": _is_pinned,
        "__dlpack__": _dlpack,
        "__dlpack_device__": _dlpack_device,
        "__cuda_array_interface__": property(_cuda_array_interface),
        "__repr__": _repr,
        "share_memory_": _share_memory,
        "is_shared": _is_shared,
        "record_stream": _record_stream,
    }
    functions = [Patch(owner, "to_dlpack", _to_dlpack) for owner in (torch, torch.utils.dlpack)]
    return [*functions, *(Patch(torch.Tensor, name, value) for name, value in replaced.items())]
