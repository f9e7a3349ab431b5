"""torch's Python functions run their own bodies; the mode sees the operations inside.

Such a function asks first whether a mode is there, and if so hands itself over as a whole; what
it calls inside is then hidden. Where the emulation is the only mode, the answer becomes no.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.utils import _device

from zerokernel.emulation.mode import EmulationMode
from zerokernel.emulation.patches import Patch

_C: Any = torch._C
_depth = _C._len_torch_function_stack
_at = _C._get_function_stack_at
_disabled = _C._disabled_torch_function_impl
_unary, _variadic, _many = (
    _C._has_torch_function_unary,
    _C._has_torch_function_variadic,
    _C._has_torch_function,
)
_PLAIN: frozenset[type] = frozenset({torch.Tensor, torch.nn.Parameter, type(None), int, float})
_QUIET = (EmulationMode, _device.DeviceContext)


def _others() -> bool:
    """Whether a mode is there beside the emulation and the default device."""
    return any(not isinstance(_at(level), _QUIET) for level in range(_depth()))


def _overloads(value: Any) -> bool:
    kind = type(value)
    if kind in _PLAIN or not _C._is_torch_function_enabled():
        return False
    return getattr(kind, "__torch_function__", _disabled) is not _disabled


def has_unary(value: Any) -> bool:
    """Whether a function hands itself over, for one argument."""
    if type(value) in _PLAIN and not _others():
        return False
    return bool(_unary(value)) and (_others() or _overloads(value))


def has_variadic(*values: Any) -> bool:
    """Whether a function hands itself over, for any of its arguments."""
    return bool(_variadic(*values)) and (_others() or any(map(_overloads, values)))


def has_any(values: Any) -> bool:
    """Whether a function hands itself over, for any argument of a sequence."""
    return bool(_many(values)) and (_others() or any(map(_overloads, values)))


_REPLACED = {id(_unary): has_unary, id(_variadic): has_variadic, id(_many): has_any}
"""By address: values of modules are compared with them, some of which cannot be compared."""

# Compilers look for the functions themselves.
_LEFT = ("torch.jit", "torch._dynamo", "torch._prims", "torch._C", "torch._refs", "torch._inductor")


class _Looked:
    """The mutable state: modules that were looked at, and where they have one of the questions."""

    modules: dict[str, int] = {}  # noqa: RUF012  # one for the process, as sys.modules
    found: list[tuple[Any, str, Any]] = []  # noqa: RUF012


def look() -> None:
    """Finds the questions in the globals of torch's modules, those not looked at before.

    To be called before a fork: it counts references to all that torch has, for which a fork
    would copy thousands of pages.
    """
    for name, module in list(sys.modules.items()):
        if (not name.startswith("torch.") and name != "torch") or name.startswith(_LEFT):
            continue
        if _Looked.modules.get(name) == id(module):
            continue
        _Looked.modules[name] = id(module)
        attributes = dict(getattr(module, "__dict__", {}))
        # Few modules have one of them, and there are some thousand times as many attributes.
        if _REPLACED.keys().isdisjoint(map(id, attributes.values())):
            continue
        for attribute, value in attributes.items():
            if id(value) in _REPLACED:
                _Looked.found.append((module, attribute, value))


def patches() -> list[Patch]:
    """What is replaced in every module of torch that has the question in its globals."""
    look()
    return [
        Patch(module, attribute, _REPLACED[id(before)])
        for module, attribute, before in _Looked.found
        if vars(module).get(attribute) is before
    ]


look()
