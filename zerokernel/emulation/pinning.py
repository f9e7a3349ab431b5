"""Pinned memory: a mark on the storage of a real CPU tensor."""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation.devices import device_of


def pinned(tensor: Any) -> Any:
    """Marks the storage of a fresh tensor as pinned."""
    if isinstance(tensor, torch.Tensor):
        storage: Any = tensor.untyped_storage()
        storage._pinned = True
    return tensor


def is_pinned(tensor: Any) -> bool:
    """Whether a tensor lies in memory that was asked for as pinned."""
    try:
        return bool(tensor.untyped_storage()._pinned)
    except NotImplementedError:
        return False


def pin_memory(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`tensor.pin_memory()`: a copy, unless the tensor is pinned.

    Raises:
        RuntimeError: The tensor is on a device.
    """
    tensor = args[0]
    if (on := device_of(tensor)) is not None:
        kind = f"torch.{on.device.type}.{tensor.type().rpartition('.')[2]}"
        raise RuntimeError(f"cannot pin '{kind}' only dense CPU tensors can be pinned")
    return tensor if is_pinned(tensor) else pinned(tensor.clone())
