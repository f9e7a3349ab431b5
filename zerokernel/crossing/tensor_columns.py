"""What many tensors are, asked column by column.

Each question goes to torch's base class: no mode looks at it, neither the emulation's nor a
user's, and no Python function runs for each tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import is_, is_not
from typing import Any

from zerokernel.crossing.device_memory import past_modes


@functools.cache
def _base() -> Any:
    import torch

    return torch._C.TensorBase


class LiveGraph:
    """In the place of `requires_grad`: a tensor that was computed from others.

    Its graph stays where it was made: only that it has one can be told.
    """

    def __reduce__(self) -> str:
        return "LIVE_GRAPH"


LIVE_GRAPH = LiveGraph()


@past_modes
def storages(tensors: Sequence[Any]) -> list[Any]:
    """The storage of each."""
    return list(map(_base().untyped_storage, tensors))


@past_modes
def gradients(tensors: Sequence[Any]) -> list[Any]:
    """The gradient of each, without the warning that asking a non-leaf gives."""
    base = _base()
    if not all(map(base.is_leaf.__get__, tensors)):
        return [item.grad if item.is_leaf or item.retains_grad else None for item in tensors]
    found = list(map(base.grad.__get__, tensors))
    if any(map(is_not, found, repeat(None))):  # an emulated device has a way of its own to them
        pairs = zip(tensors, found, strict=True)
        return [item.grad if grad is not None else None for item, grad in pairs]
    return found


@past_modes
def hooks(tensors: Sequence[Any]) -> list[Any]:
    """The backward hooks of each."""
    return list(map(_base()._backward_hooks.__get__, tensors))


@past_modes
def geometries(tensors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All of each strided tensor that is neither memory nor reference."""
    base = _base()
    columns = (
        map(base.dtype.__get__, tensors),
        map(base.storage_offset, tensors),
        map(tuple, map(base.size, tensors)),
        map(base.stride, tensors),
        _need_gradients(tensors),
        map(base.is_conj, tensors),
        map(base.is_neg, tensors),
    )
    return list(zip(*columns, strict=True))


def _need_gradients(tensors: Sequence[Any]) -> Iterable[bool | LiveGraph]:
    base = _base()
    needs, leaves = base.requires_grad.__get__, base.is_leaf.__get__
    if all(map(leaves, tensors)):
        return map(needs, tensors)
    return [needs(item) if leaves(item) else LIVE_GRAPH for item in tensors]


@past_modes
def are_plain(tensors: Sequence[Any]) -> list[bool]:
    """Whether each is strided memory and nothing else."""
    import torch

    base = _base()
    columns = (
        map(is_, map(base.layout.__get__, tensors), repeat(torch.strided)),
        map(base.is_quantized.__get__, tensors),
        map(base.is_cpu.__get__, tensors),
        map(base.is_cuda.__get__, tensors),
        map(torch._is_functional_tensor, tensors),
    )
    return [
        strided and not quantized and (on_cpu or on_cuda) and not functional
        for strided, quantized, on_cpu, on_cuda, functional in zip(*columns, strict=True)
    ]
