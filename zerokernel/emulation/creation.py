"""Functions that make tensors: their `device` argument, the default device, generators."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch.utils import _device

from zerokernel.emulation import checks
from zerokernel.emulation.devices import (
    CPU,
    EmulatedDevice,
    device_of,
    put,
    put_all,
    resolve,
    shares_memory,
)
from zerokernel.emulation.generators import default_generator, is_emulated
from zerokernel.emulation.pinning import pinned

_C: Any = torch._C
_swapping = threading.RLock()


def created(func: Any, args: Any, kwargs: Any, tensors: list[Any]) -> Any:
    """Calls a function that has a `device` or `pin_memory` argument."""
    kwargs = dict(kwargs)
    pin = kwargs.pop("pin_memory", False)
    spec = kwargs.get("device")
    on = resolve(spec) if spec is not None else _inherited(tensors)
    if spec is not None and on is not None:
        kwargs["device"] = CPU
    if pin and on is not None:
        raise RuntimeError("Only dense CPU tensors can be pinned")
    result = func(*args, **kwargs)
    if spec is not None:
        result = _apart(result, tensors, on)
    if on is not None:
        return put_all(result, on)
    return pinned(result) if pin else result


def _inherited(tensors: list[Any]) -> EmulatedDevice | None:
    return next((on for t in tensors if (on := device_of(t)) is not None), None)


def _apart(result: Any, tensors: list[Any], on: EmulatedDevice | None) -> Any:
    """A result on another device never shares memory with what it was made from."""
    if not isinstance(result, torch.Tensor):
        return result
    for tensor in tensors:
        if device_of(tensor) is not on and shares_memory(result, tensor):
            return result.clone()
    return result


def default_device() -> Any:
    """What `set_default_device` or `with torch.device(…)` says in this thread, else None."""
    if _device.CURRENT_DEVICE is None:
        return None  # nobody has set one, in any thread
    for level in range(_C._len_torch_function_stack()):
        mode = _C._get_function_stack_at(level)
        if isinstance(mode, _device.DeviceContext):
            return mode.device
    return None


def constructor(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A function that makes a tensor from nothing: the default device counts."""
    if kwargs.get("device") is None and (default := default_device()) is not None:
        kwargs = {**kwargs, "device": default}
    if not kwargs:
        return func(*args)
    if "pin_memory" in kwargs or "out" in kwargs:
        return mode.general(func, args, kwargs)
    on = resolve(spec) if (spec := kwargs.get("device")) is not None else None
    if on is None:
        return func(*args, **kwargs)
    return put(func(*args, **{**kwargs, "device": CPU}), on)


def sharing_constructor(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A constructor whose result may share the memory of tensors that it is given."""
    if kwargs.get("device") is None and (default := default_device()) is not None:
        kwargs = {**kwargs, "device": default}
    return mode.general(func, args, kwargs)


def from_data(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor`, `as_tensor`, `asarray`: a tensor given as data gives its device."""
    data = args[0] if args else kwargs.get("data", kwargs.get("obj"))
    if isinstance(data, torch.Tensor):
        if kwargs.get("device") is None:
            return _as_its_data(func, args, kwargs, data)
        return created(func, args, kwargs, [data])
    if kwargs.get("device") is None:
        default = default_device()
        if default is None or resolve(default) is None:
            return func(*args, **kwargs)
        kwargs = {**kwargs, "device": default}
    on = resolve(kwargs["device"])
    if on is None:
        return func(*args, **kwargs)
    tensors: list[Any] = []
    result = created(func, args, kwargs, tensors) if func is torch.tensor else None
    if result is None:
        result = put_all(func(*args, **{**kwargs, "device": CPU}).clone(), on)
    return result


def _as_its_data(func: Any, args: Any, kwargs: Any, data: Any) -> Any:
    on = device_of(data)
    if on is None and func is not torch.tensor and default_device() is None:
        return func(*args, **kwargs)
    result = func(*args, **{**kwargs, "device": CPU})
    return put_all(result, on) if on is not None else result


def random(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A function with a `generator` argument: the device's own unless one is given."""
    kwargs = dict(kwargs)
    made = func in CONSTRUCTORS and kwargs.get("device") is None
    if made and (default := default_device()) is not None:
        kwargs["device"] = default
    tensors: list[Any] = []
    checks.collect((*args, *kwargs.values()), tensors)
    spec = kwargs.get("device")
    on = resolve(spec) if spec is not None else _inherited(tensors)
    given = kwargs.get("generator")
    if given is None and on is not None and not _holds_generator(args):
        kwargs["generator"] = default_generator(on)
    elif given is not None and is_emulated(given) != (on is not None):
        ours, theirs = ("cuda", "cpu") if on is not None else ("cpu", "cuda")
        raise RuntimeError(f"Expected a '{ours}' device type for generator but found '{theirs}'")
    if "device" in kwargs or "pin_memory" in kwargs:
        return created(func, args, kwargs, tensors)
    if on is None:
        return func(*args, **kwargs)
    checks.same_device(func, args, kwargs)
    return put_all(func(*args, **kwargs), on)


def _holds_generator(args: Any) -> bool:
    return any(isinstance(arg, torch.Generator) for arg in args)


def drawing(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A random function without a `generator` argument: the device's generator stands in.

    The CPU's default generator is not touched: what it gives later is what it would on a GPU.
    """
    tensors: list[Any] = []
    checks.collect((*args, *kwargs.values()), tensors)
    spec = kwargs.get("device")
    on = resolve(spec) if spec is not None else _inherited(tensors)
    if on is None:
        return mode.general(func, args, kwargs)
    if not _draws(func, args):
        return mode.general(func, args, kwargs)
    own, usual = default_generator(on), torch.default_generator
    with _swapping:
        before = usual.get_state()
        usual.set_state(own.get_state())
        try:
            return mode.general(func, args, kwargs)
        finally:
            own.set_state(usual.get_state())
            usual.set_state(before)


def _draws(func: Any, args: Any) -> bool:
    # dropout(input, p, train) is the one that is called in evaluation too.
    return not (len(args) == 3 and "dropout" in func.__name__ and args[2] is False)


CONSTRUCTORS: frozenset[Any] = frozenset({torch.rand, torch.randn, torch.randint, torch.randperm})
