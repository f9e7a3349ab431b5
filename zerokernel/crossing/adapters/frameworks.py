# ruff: noqa: D102 - the methods are those of Part, documented there
"""Objects of the libraries around torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.adapters.libraries import make_instance, set_attributes
from zerokernel.crossing.parts import Attributes, InstanceClass, Lane, Part, Plan

_STRUCTURAL = Plan((InstanceClass(), Attributes(vars)))


class SharedAttributes(Part):
    """The ``__dict__`` that all instances of a class have in common, an object of its own."""

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [(repeat(1, len(objects)), map(vars, objects))]


def _sharing(item: Any, in_worker: bool) -> Any:
    """An object of accelerate that has its attributes in common with all others of its class."""
    return (share_here if in_worker else share_there, (type(item), vars(item)))


def share_there(kind: Any, attributes: dict[str, Any]) -> Any:
    """An object in the worker: all of its class have from now on what the notebook's have."""
    made = object.__new__(kind)
    made.__dict__ = kind._shared_state = attributes
    return made


def share_here(kind: Any, attributes: dict[str, Any]) -> Any:
    """An object in the notebook: what its class has here is kept, if there is anything."""
    return share_there(kind, kind._shared_state or attributes)


def _converting(item: Any, in_worker: bool) -> Any:
    """The forward of a model that computes in mixed precision, which refuses to be pickled.

    It has no name under which it could be found; here functions travel by value.
    """
    return (make_instance, (type(item),), dict(vars(item)), None, None, set_attributes)


_SHARING = Adapter(_sharing, plan=Plan((SharedAttributes(),), mutable=False))

ADAPTERS: dict[str, Adapter] = {
    "accelerate.state.AcceleratorState": _SHARING,
    "accelerate.state.GradientState": _SHARING,
    "accelerate.state.PartialState": _SHARING,
    "accelerate.utils.operations.ConvertOutputsToFp32": Adapter(_converting, plan=_STRUCTURAL),
}
