"""`.to`, `.cuda`, `.cpu`, `.type`: a tensor on another device has a storage of its own."""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation import files
from zerokernel.emulation.devices import (
    CPU,
    PLAIN,
    EmulatedDevice,
    device_of,
    devices,
    put,
    put_all,
    resolve,
    shares_memory,
)

_UNSAID = object()


class _Copying:
    """How a storage is copied. The mutable state: whether it may be put off until a write.

    A put-off copy is right only where every other way into the memory is known: a NumPy array
    over it would go on writing into what both share. Such ways are marked on the storage
    (``_exposed``) from the install on, so that the answer is no where tensors are older.
    """

    lazily = False


copying = _Copying()


def to(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor.to(…)` in all its forms."""
    tensor, rest, kwargs = args[0], list(args[1:]), dict(kwargs)
    spec = kwargs.pop("device", _UNSAID)
    other = kwargs.pop("other", None)
    if rest and spec is _UNSAID:
        first = rest[0]
        if isinstance(first, torch.Tensor):
            other = rest.pop(0)
        elif first is None or isinstance(first, (str, int, torch.device)):
            spec = rest.pop(0)
    if other is not None:
        spec = _device(other)
        rest.insert(0, other.dtype)
    elif spec is not _UNSAID and spec is not None and rest and rest[0] is None:
        rest.pop(0)  # to(device, None, …)
    here = device_of(tensor)
    if spec is _UNSAID or spec is None:
        # Said all the same: without it `to(None, None, True)` would not be understood.
        first = [] if spec is _UNSAID else [None]
        return _tagged(func(tensor, *first, *rest, **kwargs), here)
    there = resolve(spec)
    if there is None and torch.device(spec).type != "cpu":
        return func(tensor, spec, *rest, **kwargs)  # meta, or torch says what it thinks of it
    if not any(isinstance(one, torch.dtype) for one in rest) and rest:
        kwargs.update(zip(("non_blocking", "copy"), rest, strict=False))
        rest = []
    return moved(tensor, here, there, lambda: func(tensor, CPU, *rest, **kwargs), kwargs)


def parsed(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """What `module.to(…)` asks for: a number is a device of this kind."""
    if args and type(args[0]) is int:
        args = (devices.at(args[0]).device, *args[1:])
    if type(kwargs.get("device")) is int:
        kwargs = {**kwargs, "device": devices.at(kwargs["device"]).device}
    return func(*args, **kwargs)


def moved(
    tensor: Any,
    here: EmulatedDevice | None,
    there: EmulatedDevice | None,
    convert: Any,
    kwargs: Any,
) -> Any:
    """Gives the tensor as `convert` makes it, on `there` with a storage of its own."""
    result = convert()
    if here is not there and shares_memory(result, tensor):
        result = duplicate(tensor)
    return _tagged(result, there)


def _device(tensor: Any) -> Any:
    on = device_of(tensor)
    return tensor.device if on is None else on.device


def _tagged(result: Any, on: EmulatedDevice | None) -> Any:
    return result if on is None else put(result, on)


def duplicate(tensor: Any) -> Any:
    """Gives a copy with a storage of its own, written when one of the two is written to."""
    if torch.nn.parameter.is_lazy(tensor):  # it refuses operations until it has a shape
        with torch._C.DisableTorchFunction():
            return tensor.detach().clone()
    if tensor.layout is not torch.strided:
        return tensor.clone()
    if copying.lazily and _may_wait(tensor):
        return torch._lazy_clone(tensor)
    shown = _shown_again(tensor)
    return torch.ops.aten._to_copy.default(tensor) if shown is None else shown


def _shown_again(tensor: Any) -> Any:
    """Another tensor over the file that a tensor shows; None where it has memory of its own."""
    if type(tensor) not in PLAIN or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        return None
    if (tensor.requires_grad and torch.is_grad_enabled()) or not tensor.is_contiguous():
        return None
    if tensor.untyped_storage().resizable():
        return None  # torch's own memory, or a library's that says so
    size = tensor.numel() * tensor.element_size()
    storage = files.shown_again(torch._C.TensorBase.data_ptr(tensor), size)
    if storage is None:
        return None
    with torch._C.DisableTorchFunction():
        return torch.empty(0, dtype=tensor.dtype).set_(storage, 0, tensor.size(), tensor.stride())


def _may_wait(tensor: Any) -> bool:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_quantized:
        return False
    if tensor.requires_grad and torch.is_grad_enabled():
        return False  # its grad_fn would have another name
    storage = tensor.untyped_storage()
    size = tensor.numel() * tensor.element_size()
    if size < 1 << 16 or storage.nbytes() != size or storage._exposed or storage.is_shared():
        return False
    return bool(tensor.is_contiguous()) and storage.resizable()


def cuda(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor.cuda(device, non_blocking, memory_format)`."""
    tensor = args[0]
    spec = args[1] if len(args) > 1 else kwargs.get("device")
    there = devices.here() if spec is None else resolve(spec)
    if there is None:
        raise RuntimeError(f"Invalid device, must be cuda device")  # noqa: F541
    form = {k: v for k, v in kwargs.items() if k == "memory_format"}
    return moved(tensor, device_of(tensor), there, lambda: tensor.to(CPU, **form), form)


def cpu(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor.cpu(memory_format)`."""
    tensor = args[0]
    convert = lambda: func(*args, **kwargs)  # noqa: E731
    return moved(tensor, device_of(tensor), None, convert, kwargs)


def type_(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor.type(dtype)`, or a type's name: "torch.cuda.FloatTensor" moves too."""
    tensor, here = args[0], device_of(args[0])
    wanted = args[1] if len(args) > 1 else kwargs.get("dtype")
    if wanted is None:
        name = func(tensor)
        return name if here is None else name.replace("torch.", "torch.cuda.", 1)
    if isinstance(wanted, torch.dtype):
        return _tagged(func(*args, **kwargs), here)
    name = wanted if isinstance(wanted, str) else f"{wanted.__module__}.{wanted.__name__}"
    there = (here or devices.here()) if name.startswith("torch.cuda.") else None
    name = name.replace("torch.cuda.", "torch.")
    return moved(tensor, here, there, lambda: func(tensor, name), {})


def type_as(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor.type_as(other)`."""
    tensor, other = args
    there = device_of(other)
    return moved(tensor, device_of(tensor), there, lambda: func(tensor, other), {})


def getitem(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """Indexing: indices may lie on the CPU, but not on a device that the tensor is not on."""
    tensor, index = args
    here = device_of(tensor)
    if type(index) is not int and type(index) is not slice:
        _check_indices(tensor, index, here)
    result = func(tensor, index)
    return result if here is None else put_all(result, here)


def setitem(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """Assignment by index: a plain slice takes values of any device, tensors as index do not."""
    tensor, index, value = args
    here = device_of(tensor)
    if type(index) is not int and type(index) is not slice:
        tensors = _check_indices(tensor, index, here)
        foreign = isinstance(value, torch.Tensor) and value.dim() and device_of(value) is not here
        if tensors and foreign:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but got value is on "
                f"{_device(value)}, different from other tensors on {_device(tensor)} "
                "(when checking argument in method wrapper_CUDA__index_put_impl_)"
            )
    return func(tensor, index, value)


def _check_indices(tensor: Any, index: Any, here: EmulatedDevice | None) -> bool:
    parts = index if isinstance(index, (tuple, list)) else (index,)
    tensors = [one for one in parts if isinstance(one, torch.Tensor)]
    for one in tensors:
        on = device_of(one)
        if on is not None and on is not here and not _is_number(one):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor "
                f"({_device(tensor)})"
            )
    return bool(tensors)


def _is_number(index: Any) -> bool:
    """Whether torch takes an index for the integer that it holds, wherever that lies."""
    if index.dim() or index.is_floating_point() or index.is_complex():
        return False
    return index.dtype not in (torch.bool, torch.uint8)
