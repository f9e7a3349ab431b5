# ruff: noqa: D102 - the methods are those of Part, documented there
"""NumPy arrays: owners of memory are buffers, views are geometry over an owner."""

from __future__ import annotations

import array
import mmap
import warnings
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

from zerokernel.crossing.buffers import IN_BAND, byte_array
from zerokernel.crossing.parts import BUFFERS, LISTS, OPAQUE, Lane, ObjectArrayItems, Part, Plan
from zerokernel.errors import CannotTravel


class Geometry(Part):
    """Shape, strides, dtype and the writeable flag of an array that owns its memory."""

    rank = LISTS

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return [self.read(item) for item in objects]

    def read(self, item: Any) -> Any:
        return (item.shape, item.strides, item.dtype, item.flags.writeable)

    def write(self, item: Any, state: Any) -> None:
        shape, strides, dtype, writeable = state
        if self.read(item) == state:
            return
        item.flags.writeable = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            size = dtype.itemsize
            for extent in shape:
                size *= extent
            if item.nbytes != size:
                item.resize(size // max(1, item.dtype.itemsize), refcheck=False)
            if item.dtype != dtype:
                item.shape = (-1,)
                item.dtype = dtype
            item.shape = shape
            if item.strides != strides:
                item.strides = strides
        item.flags.writeable = writeable


class ViewGeometry(Part):
    """A view: the owner of the memory, and which part of it is seen how."""

    rank = LISTS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [(repeat(1, len(objects)), chain.from_iterable([(root_of(o),) for o in objects]))]

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return [view_recipe(item)[1:] for item in objects]

    def read(self, item: Any) -> Any:
        return view_recipe(item)

    def write(self, item: Any, state: Any) -> None:
        if view_recipe(item)[1:] == state[1:]:
            return
        _, dtype, shape, strides, _, writeable = state
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if item.dtype != dtype:
                item.dtype = dtype
            item.shape = shape
            if item.strides != strides:
                item.strides = strides
        item.flags.writeable = writeable


OWNER = Plan((Geometry(),), content="buffer", rank=BUFFERS)
VIEW = Plan((ViewGeometry(),), rank=LISTS)
OBJECTS = Plan((ObjectArrayItems(),), rank=LISTS)


def chooser(kind: type) -> Callable[[Any], Plan] | None:
    """The function that tells an array's plan, for the exact type ``numpy.ndarray``."""
    if kind.__module__ == "numpy" and kind.__qualname__ == "ndarray":
        return plan
    return None


def plan(item: Any) -> Plan:
    """Whether an array owns its memory, is a view, or holds references."""
    owner = owns_memory(item)
    if item.dtype.hasobject:
        return OBJECTS if owner and item.dtype == object and item.flags.forc else OPAQUE
    return OWNER if owner else VIEW


def owns_memory(item: Any) -> bool:
    """Whether nothing that could travel lies below the array."""
    return root_of(item) is item


def root_of(item: Any) -> Any:
    """The object whose memory an array shows: an array, a storage, bytes; itself if none."""
    import numpy as np

    current, base = item, item.base
    while base is not None:
        if isinstance(base, np.ndarray):
            current, base = base, base.base
        elif type(base).__name__ == "DummyArray":  # as_strided and sliding windows
            base = base.base
        elif isinstance(base, memoryview):
            base = base.obj
        elif isinstance(base, bytes | bytearray | array.array):
            return base
        elif isinstance(base, mmap.mmap):
            raise CannotTravel("is memory of a mapped file; take a copy with numpy.array(...)")
        else:
            return _torch_root(base, current)
    return current


def _torch_root(base: Any, current: Any) -> Any:
    if type(base).__module__.startswith("torch") and hasattr(base, "untyped_storage"):
        return base.untyped_storage()
    return current


def address_of(root: Any) -> int:
    """Where a root's memory starts."""
    address: int = byte_array(root).__array_interface__["data"][0]
    return address


def view_recipe(item: Any) -> tuple[Any, ...]:
    """Root, dtype, shape, strides, offset in bytes, writeable."""
    root = root_of(item)
    offset = item.__array_interface__["data"][0] - address_of(root) if item.size else 0
    return (root, item.dtype, item.shape, item.strides, offset, item.flags.writeable)


def make_view(root: Any, dtype: Any, shape: Any, strides: Any, offset: int, writeable: bool) -> Any:
    """Builds a view over a root that is already here."""
    import numpy as np

    if 0 in shape:
        return np.empty(shape, dtype)
    view: Any = np.ndarray(shape, dtype, byte_array(root), offset, strides)
    if view.flags.writeable and not writeable:
        view.flags.writeable = False
    return view


def order_of(item: Any) -> str | None:
    """The memory order of a contiguous array; None where it is neither C nor Fortran."""
    if item.flags.c_contiguous:
        return "C"
    return "F" if item.flags.f_contiguous else None


def in_band(item: Any) -> bool:
    """Whether an owner's bytes travel inside the payload."""
    return bool(item.nbytes < IN_BAND) or order_of(item) is None


def small_recipe(item: Any) -> tuple[Any, ...]:
    """Bytes, dtype, shape, order, writeable."""
    order = order_of(item)
    data = item.tobytes("A" if order else "C")
    return (data, item.dtype, item.shape, order or "C", item.flags.writeable)


def make_small(data: bytes, dtype: Any, shape: Any, order: str, writeable: bool) -> Any:
    """Builds an owner from bytes in the payload."""
    import numpy as np

    made: Any = np.empty(shape, dtype, order)  # type: ignore[call-overload]
    if made.nbytes:
        byte_array(made)[:] = np.frombuffer(data, np.uint8)
    if not writeable:
        made.flags.writeable = False
    return made


def spec(item: Any) -> list[Any]:
    """How the receiver allocates an owner; structured dtypes travel as void and are set later."""
    simple = item.dtype.str if item.dtype.names is None and not item.dtype.subdtype else None
    return ["array", simple or f"V{item.dtype.itemsize}", list(item.shape), order_of(item)]


def dress(owner: Any, dtype: Any, writeable: bool) -> Any:
    """Finishes an allocated owner: its full dtype and its flag."""
    if owner.dtype != dtype or owner.dtype.metadata != dtype.metadata:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            owner.dtype = dtype
    if not writeable:
        owner.flags.writeable = False
    return owner


def make_object_array(shape: Any, order: str) -> Any:
    """An array of references, still all None."""
    import numpy as np

    return np.empty(shape, object, order)  # type: ignore[call-overload]


def fill_object_array(item: Any, state: Any) -> None:
    """Sets the references of a new object array, and its flag."""
    items, writeable = state
    OBJECTS.parts[0].write(item, items)
    item.flags.writeable = writeable
