"""Tensors of two devices in one operation: what torch allows, and what it says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from zerokernel.emulation.devices import CPU, device_of


def collect(values: Iterable[Any], into: list[Any]) -> None:
    """Adds the tensors among values, and in the containers among them, to a list."""
    for value in values:
        if isinstance(value, torch.Tensor):
            into.append(value)
        elif isinstance(value, (list, tuple)):
            collect(value, into)
        elif isinstance(value, dict):
            collect(value.values(), into)


def same_device(func: Any, args: Any, kwargs: Any) -> None:
    """Refuses an operation on tensors of several devices as torch does.

    A CPU scalar may be read beside device tensors, but not written from them.

    Raises:
        RuntimeError: With torch's own message.
    """
    tensors: list[Any] = []
    collect(args, tensors)
    collect(kwargs.values(), tensors)
    places = [(device_of(tensor), tensor) for tensor in tensors]
    if _writes(getattr(func, "__name__", "")) or "out" in kwargs:
        written = kwargs.get("out", args[0] if args else None)
    else:
        written = None
    counted = [on for on, t in places if on is not None or t.dim() > 0 or t is written]
    if len(set(counted)) < 2 or _in_backward():  # the engine's own gradients carry no tag
        return
    other = next(on for on in counted if on is not counted[0])
    first, second = (str(on.device if on else CPU) for on in (counted[0], other))
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{first} and {second}!"
    )


def _writes(name: str) -> bool:
    if name.startswith("__"):
        return name.startswith("__i") and name not in ("__index__", "__invert__", "__int__")
    return name.endswith("_")


def _in_backward() -> bool:
    return int(torch._C._current_graph_task_id()) != -1
