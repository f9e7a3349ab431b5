"""Tensors that are made of other tensors: quantised weights, nested tensors, a user's own.

torch calls their `__torch_dispatch__` in the middle of an operation, where our mode is set aside;
it is put back for as long as that runs, so that the tensors inside are on the device as well.
"""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation.devices import ATTRIBUTE, CPU, Tag, resolve
from zerokernel.emulation.mode import InMode
from zerokernel.emulation.patches import Patch, PatchTable

_make_before: Any = torch.Tensor._make_wrapper_subclass
_OF_TORCH = ("torch._subclasses", "torch.fx", "torch.distributed", "torch._functorch")


class _Followed:
    """The mutable state: the table that is in place, and the classes that are in it."""

    table: PatchTable | None = None
    classes: set[type] = set()  # noqa: RUF012  # one for the process, as the table


followed = _Followed()


def _make(cls: Any, *args: Any, **kwargs: Any) -> Any:
    _follow(cls)
    spec = kwargs.get("device")
    on = resolve(spec) if spec is not None else None
    if on is None:
        return _make_before(cls, *args, **kwargs)
    made = _make_before(cls, *args, **{**kwargs, "device": CPU})
    setattr(made, ATTRIBUTE, Tag(on, 0))
    return made


def _follow(cls: type) -> None:
    owner = next(one for one in cls.__mro__ if "__torch_dispatch__" in vars(one))
    if owner in followed.classes or owner is torch.Tensor or followed.table is None:
        return
    if owner.__module__.startswith(_OF_TORCH):
        return  # they describe tensors, for compilers
    followed.classes.add(owner)
    method = vars(owner)["__torch_dispatch__"]
    if isinstance(method, (classmethod, staticmethod)):
        around = type(method)(_dispatching(method.__func__))
        followed.table.add(Patch(owner, "__torch_dispatch__", around))


def _dispatching(function: Any) -> Any:
    in_mode = InMode(function)
    return lambda *args, **kwargs: in_mode(*args, **kwargs)  # a function: it becomes a method


def patches() -> list[Patch]:
    """What is replaced so that tensors of tensors are on a device."""
    return [Patch(torch.Tensor, "_make_wrapper_subclass", staticmethod(_make))]
