"""Tensors of two devices in one operation: what torch allows, and what it says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from zerokernel.emulation.devices import CPU, device_of

# Their second tensor gives a shape or a type only, or each tensor is for itself.
INDEPENDENT = frozenset(
    "expand_as view_as reshape_as broadcast_tensors result_type promote_types is_same_size "
    "can_cast is_set_to copy_ set_ _pack_padded_sequence resize_as_ align_as pack_hook "
    "swap_tensors _has_compatible_shallow_copy_type backward grad is_nonzero "
    "is_tensor is_storage typename requires_grad_ retain_grad register_hook "
    "_is_view _typed_storage storage tensor_split _copy_from "
    "_amp_foreach_non_finite_check_and_unscale_ _foreach_copy_ _autograd_grad".split()
)


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

    Raises:
        RuntimeError: With torch's own message.
    """
    name = getattr(func, "__name__", "")
    if name in INDEPENDENT or name.startswith("_foreach"):
        return
    tensors: list[Any] = []
    collect(args, tensors)
    collect(kwargs.values(), tensors)
    found = {device_of(tensor) for tensor in tensors if tensor.dim() > 0}
    if len(found) < 2 and not _written_from_elsewhere(name, args, found):
        scalars = {device_of(tensor) for tensor in tensors}
        if len(scalars - {None}) < 2:
            return
        found = scalars
    if _in_backward():
        return  # the engine's own gradients carry no tag
    names = sorted((str(on.device if on else CPU) for on in found), reverse=True)
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{names[0]} and {names[-1] if len(names) > 1 else CPU}!"
    )


def _written_from_elsewhere(name: str, args: Any, found: set[Any]) -> bool:
    """A CPU scalar may be read beside device tensors, but not written from them."""
    in_place = name.endswith("_") and not name.endswith("__")
    in_place = in_place or (name.startswith("__i") and name not in ("__index__", "__invert__"))
    target = args[0] if args else None
    return (
        in_place
        and isinstance(target, torch.Tensor)
        and target.dim() == 0
        and device_of(target) is None
        and bool(found - {None})
    )


def _in_backward() -> bool:
    return int(torch._C._current_graph_task_id()) != -1
