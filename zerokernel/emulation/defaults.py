"""The default device: `set_default_device`, `with torch.device(…)`, the default tensor type.

torch keeps it in a mode at the bottom of the stack. Ours goes below it: it would otherwise be
asked at each look that we take at a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _device

from zerokernel.emulation.mode import here
from zerokernel.emulation.patches import Patch

_C: Any = torch._C
_Context: Any = _device.DeviceContext
_enter_before, _exit_before = _Context.__enter__, _Context.__exit__
_set_type_before: Any = torch.set_default_tensor_type


def _taken_apart() -> list[Any]:
    """Empties the stack of modes; the first is the one that was at the bottom."""
    return [_C._pop_torch_function_stack() for _ in range(_C._len_torch_function_stack())][::-1]


def _order(*first: Any) -> None:
    """Puts the modes given at the bottom, in this order; the others stay as they were."""
    modes = _taken_apart()
    lowest = [one for one in first if any(one is mode for mode in modes)]
    for mode in (*lowest, *(one for one in modes if all(one is not low for low in lowest))):
        _C._push_on_torch_function_stack(mode)


def _enter(self: Any) -> Any:
    result = _enter_before(self)
    if here.mode is not None:
        _order(here.mode)
    return result


def _exit(self: Any, *exception: Any) -> Any:
    if here.mode is None:
        return _exit_before(self, *exception)
    _order(self)  # where torch looks for it
    result = _exit_before(self, *exception)
    _order(here.mode)
    return result


def _set_default_tensor_type(kind: Any) -> None:
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
    if name.startswith("torch.cuda."):
        _set_type_before(name.replace("torch.cuda.", "torch."))
        torch.set_default_device("cuda")
        return
    _set_type_before(kind)
    torch.set_default_device(None)


def patches() -> list[Patch]:
    """What is replaced of the default device."""
    return [
        Patch(_Context, "__enter__", _enter),
        Patch(_Context, "__exit__", _exit),
        Patch(torch, "set_default_tensor_type", _set_default_tensor_type),
    ]
