"""Memory and libraries of C code, as ctypes gives them."""

from __future__ import annotations

import ctypes
import operator
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import ATOM
from zerokernel.crossing.restorer import Restorer, put_attributes
from zerokernel.errors import CannotTravel

_LIBRARY = "is of a C library that is loaded into this process; load it inside the cell"
_TYPE = "is a ctypes type of your own; define it inside the cell"
_SHOWN = "shows memory of something else; make it inside the cell, or use a copy"


def _array_type(item: Any, in_worker: bool) -> Any:
    """``c_int * 3``, of which ctypes keeps one in each process."""
    if item is ctypes.Array:
        return NotImplemented
    if item._type_ * item._length_ is item:
        return (operator.mul, (item._type_, item._length_))
    raise CannotTravel(_TYPE)


def _function_type(item: Any, in_worker: bool) -> Any:
    raise CannotTravel(_LIBRARY)


def _data(item: Any, in_worker: bool) -> Any:
    """Numbers and arrays with memory of their own; those that hold pointers refuse it."""
    if item._b_base_ is not None or not item._b_needsfree_:
        raise CannotTravel(_SHOWN)
    return NotImplemented


def _bytes(item: Any) -> Any:
    _, (_, state) = item.__reduce__()
    return state


def _put_bytes(item: Any, state: Any) -> None:
    attributes, data = state
    ctypes.memmove(ctypes.addressof(item), data, len(data))
    put_attributes(item, attributes)


ADAPTERS: dict[str, Adapter] = {
    "_ctypes.PyCArrayType": Adapter(_array_type, plan=ATOM),
    "_ctypes.PyCFuncPtrType": Adapter(_function_type, plan=ATOM),
    "_ctypes.Array": Adapter(_data, subclasses=True),
    "_ctypes._SimpleCData": Adapter(_data, subclasses=True),
    "ctypes.CDLL": Adapter(_function_type, subclasses=True),
}

RESTORERS: dict[str, Restorer] = {
    "_ctypes.Array": Restorer(_bytes, _put_bytes),
    "_ctypes._SimpleCData": Restorer(_bytes, _put_bytes),
}
