"""`nn.DataParallel` and `torch.cuda.comm`: what they do in C++ between devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from zerokernel.emulation.patches import Patch


def _broadcast(tensor: Any, devices: Sequence[int]) -> list[Any]:
    return [tensor.to(torch.device("cuda", device)) for device in devices]


def _broadcast_coalesced(tensors: Any, devices: Sequence[int], size: int) -> list[list[Any]]:
    return [[tensor.to(torch.device("cuda", device)) for tensor in tensors] for device in devices]


def _scatter(
    tensor: Any, devices: Sequence[int], sizes: Any = None, dim: int = 0, streams: Any = None
) -> tuple[Any, ...]:
    parts = tensor.split(sizes, dim) if sizes is not None else tensor.chunk(len(devices), dim)
    pairs = zip(parts, devices, strict=False)
    return tuple(part.to(torch.device("cuda", device)) for part, device in pairs)


def _gather(tensors: Any, dim: int, destination: int | None = None) -> Any:
    place = torch.device("cpu" if destination == -1 else "cuda", max(destination or 0, 0))
    return torch.cat([tensor.to(place) for tensor in tensors], dim)


def patches() -> list[Patch]:
    """What is added to `torch._C`."""
    added = {
        "_broadcast": _broadcast,
        "_broadcast_coalesced": _broadcast_coalesced,
        "_scatter": _scatter,
        "_gather": _gather,
    }
    return [Patch(torch._C, name, value) for name, value in added.items()]
