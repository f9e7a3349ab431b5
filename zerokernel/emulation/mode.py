"""The mode that sees every operation: outputs are on the device that the inputs are on.

This is the hot path of a kernel under emulation. An operation on plain arguments looks at each
of them once; everything rarer is left to a handler found by the function, or to ``general``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from zerokernel.emulation import checks
from zerokernel.emulation.creation import created
from zerokernel.emulation.devices import EmulatedDevice, Tag, device_of, own_memory, put_all

Handler = Callable[["EmulationMode", Any, Any, Any], Any]
"""Called with the mode, the function, its arguments (a tuple) and keyword arguments."""

HANDLERS: dict[Any, Handler] = {}
"""What is not done by the rule; filled once, at the first install."""

# What kinds of arguments are looked at in the hot path: True for tensors, False for what has
# none. Other types (containers, subclasses) lead to `general`.
_KINDS: dict[type, bool] = {
    torch.Tensor: True,
    torch.nn.Parameter: True,
    int: False,
    float: False,
    bool: False,
    complex: False,
    str: False,
    type(None): False,
    slice: False,
    type(...): False,
    torch.dtype: False,
    torch.Size: False,
    torch.layout: False,
    torch.memory_format: False,
}
_kind_of = _KINDS.get
_handler_of = HANDLERS.get
_Tensor: Any = torch.Tensor


def _is_plain(kwargs: Any) -> bool:
    """Whether keyword arguments hold no tensor, and nothing that is looked at."""
    if "device" in kwargs or "pin_memory" in kwargs:
        return False
    for one in kwargs.values():  # noqa: SIM110  # the hot path: a generator costs more
        if _kind_of(type(one)) is not False:
            return False
    return True


class EmulationMode(TorchFunctionMode):
    """Pushed once in each thread. The mutable state: what `torch.autocast("cuda")` asks for."""

    cast: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = _handler_of(func)
        if handler is not None:
            return handler(self, func, args, kwargs or {})
        if self.cast is not None or (kwargs and not _is_plain(kwargs)):
            return self.general(func, args, kwargs or {})
        on = None
        mixed = plain = False
        try:
            for arg in args:
                kind = _kind_of(type(arg))
                if kind:
                    tag = arg.untyped_storage()._emulated
                    if tag is None:
                        plain = True
                    elif on is None:
                        on = tag.on
                    elif on is not tag.on:
                        mixed = True
                elif kind is None:
                    if type(arg) is not list and type(arg) is not tuple:
                        return self.general(func, args, kwargs or {})
                    for one in arg:
                        kind = _kind_of(type(one))
                        if kind:
                            tag = one.untyped_storage()._emulated
                            if tag is None:
                                plain = True
                            elif on is None:
                                on = tag.on
                            elif on is not tag.on:
                                mixed = True
                        elif kind is None:
                            return self.general(func, args, kwargs or {})
        except NotImplementedError:  # a tensor without storage
            return self.general(func, args, kwargs or {})
        if on is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        if plain or mixed:
            checks.same_device(func, args, kwargs or {})
        out = func(*args, **kwargs) if kwargs else func(*args)
        if type(out) is _Tensor:
            try:
                storage = out.untyped_storage()
                if storage._emulated is None:
                    storage._emulated = Tag(on, storage.nbytes())
                return out
            except NotImplementedError:
                pass
        return put_all(out, on)

    def general(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Does what the hot path does, for any arguments."""
        tensors: list[Any] = []
        checks.collect(args, tensors)
        if kwargs:
            checks.collect(kwargs.values(), tensors)
            if "device" in kwargs or "pin_memory" in kwargs:
                return created(func, args, kwargs, tensors)
        if type(func) is FunctionType and not _is_ours(func) and _overloaded(tensors):
            return NotImplemented  # its own body comes back here, operation by operation
        if "out" in kwargs:
            own_memory(kwargs["out"])  # it may be given another size
        on = common_device(tensors)
        if on is None:
            return func(*args, **kwargs)
        checks.same_device(func, args, kwargs)
        if self.cast is not None:
            args, kwargs = self.cast(func, args, kwargs)
        return put_all(func(*args, **kwargs), on)


_emulating = EmulationMode.__torch_function__


def _passing(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    return func(*args, **(kwargs or {}))


def act(yes: bool) -> None:
    """Says whether the modes, in whatever threads they are, do anything."""
    EmulationMode.__torch_function__ = _emulating if yes else _passing  # type: ignore[method-assign]


def common_device(tensors: list[Any]) -> EmulatedDevice | None:
    """The first emulated device that one of the tensors is on."""
    for tensor in tensors:
        if (on := device_of(tensor)) is not None:
            return on
    return None


def _is_ours(function: FunctionType) -> bool:
    """Whether a function stands in the place of one of C, whose body would not come back here."""
    return str(function.__module__).startswith("zerokernel.")


def _overloaded(tensors: list[Any]) -> bool:
    disabled = torch._C._disabled_torch_function_impl
    return any(
        type(tensor) is not _Tensor and type(tensor).__torch_function__ is not disabled
        for tensor in tensors
    )


class _End:
    """Lives in a thread's own dictionary: goes with it, while the thread can still run Python.

    A mode that is left on the stack would be given up by the C++ runtime after that, and end
    the process where the interpreter is ending already.
    """

    def __init__(self, mode: EmulationMode) -> None:
        self.mode = mode

    def __del__(self) -> None:
        _unstack(self.mode)


class _Here(threading.local):
    mode: EmulationMode | None = None
    end: _End | None = None


here = _Here()
"""The mode of this thread, None where it was not pushed."""


def is_pushed(mode: EmulationMode) -> bool:
    """Whether a mode is on this thread's stack now, and not set aside by an operation."""
    levels = range(torch._C._len_torch_function_stack())
    return any(torch._C._get_function_stack_at(level) is mode for level in levels)


def push() -> None:
    """Pushes a mode in this thread unless it has one."""
    if here.mode is None:
        here.mode = EmulationMode()
        torch._C._push_on_torch_function_stack(here.mode)
        if threading.get_ident() != threading.main_thread().ident:
            here.end = _End(here.mode)


def pop() -> None:
    """Takes this thread's mode out of the stack, whatever lies above it."""
    mode, here.mode, here.end = here.mode, None, None
    if mode is not None:
        _unstack(mode)


def _unstack(mode: EmulationMode) -> None:
    above: list[Any] = []
    while torch._C._len_torch_function_stack():
        top = torch._C._pop_torch_function_stack()
        if top is mode:
            break
        above.append(top)
    for other in reversed(above):
        torch._C._push_on_torch_function_stack(other)


class InMode:
    """A function that torch calls in the middle of an operation, where our mode is set aside."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function with the mode on the stack."""
        mode = here.mode
        if mode is None or is_pushed(mode):
            return self.function(*args, **kwargs)
        torch._C._push_on_torch_function_stack(mode)
        try:
            return self.function(*args, **kwargs)
        finally:
            torch._C._pop_torch_function_stack()
