"""Operators that are written in Python: what they do inside happens on the device as well.

torch's dispatcher calls them in the middle of an operation, where our mode is set aside.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.library

from zerokernel.emulation.mode import InMode
from zerokernel.emulation.patches import Patch

_Library: Any = torch.library.Library
_impl_before = _Library.impl

_COMPUTING = frozenset({"CPU", "CUDA", "CompositeImplicitAutograd", "CompositeExplicitAutograd"})
"""The dispatch keys under which an operator computes; others describe it, or lead on to these."""


def _impl(self: Any, op_name: Any, fn: Any, dispatch_key: str = "", **how: Any) -> Any:
    """`Library.impl`, by which each such operator is registered, also by `custom_op`."""
    if (dispatch_key or self.dispatch_key) in _COMPUTING and not _is_torchs(fn):
        fn = _in_mode(fn)
    return _impl_before(self, op_name, fn, dispatch_key, **how)


def _is_torchs(function: Any) -> bool:
    """Whether it is one of torch's own, but not what torch puts around a user's."""
    module = str(getattr(function, "__module__", ""))
    own = module == "torch" or module.startswith("torch.")
    return own and not module.startswith("torch._library")


def _in_mode(function: Any) -> Any:
    call = InMode(function)

    @functools.wraps(function)
    def kernel(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return kernel


def patches() -> list[Patch]:
    """What is replaced so that operators written in Python know the device."""
    return [Patch(_Library, "impl", _impl)]
