# ruff: noqa: D102 - the methods are those of Part, documented there
"""NumPy arrays: owners of memory are buffers, views are geometry over an owner."""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import math
import mmap
import warnings
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

from zerokernel.crossing.buffers import IN_BAND, Window, byte_array
from zerokernel.crossing.parts import (
    BUFFERS,
    LISTS,
    OPAQUE,
    Attributes,
    Lane,
    ObjectArrayItems,
    Part,
    Plan,
)


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
        change = functools.partial(_change, item)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            size = dtype.itemsize
            for extent in shape:
                size *= extent
            if item.nbytes != size:
                item.resize(size // max(1, item.dtype.itemsize), refcheck=False)
            if item.dtype != dtype:
                change("shape", (-1,))
                change("dtype", dtype)
            change("shape", shape)
            if item.strides != strides:
                change("strides", strides)
        item.flags.writeable = writeable


class ViewGeometry(Part):
    """A view: the owner of the memory, and which part of it is seen how."""

    rank = LISTS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [
            (repeat(1, len(objects)), chain.from_iterable([(root_of_view(o),) for o in objects]))
        ]

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return [view_recipe(item)[1:] for item in objects]

    def read(self, item: Any) -> Any:
        return view_recipe(item)

    def write(self, item: Any, state: Any) -> None:
        if view_recipe(item)[1:] == state[1:]:
            return
        _, dtype, shape, strides, _, writeable, _ = state
        change = functools.partial(_change, item)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if item.dtype != dtype:
                change("dtype", dtype)
            change("shape", shape)
            if item.strides != strides:
                change("strides", strides)
        if item.flags.writeable != writeable:  # NumPy cannot unlock what shows a tensor's memory
            item.flags.writeable = writeable


def _change(item: Any, name: str, value: Any) -> None:
    """Sets an attribute of the array, whatever a subclass makes of it."""
    import numpy as np

    getattr(np.ndarray, name).__set__(item, value)


OWNER = Plan((Geometry(),), content="buffer", rank=BUFFERS)
VIEW = Plan((ViewGeometry(),), rank=LISTS)
OBJECTS = Plan((ObjectArrayItems(),), rank=LISTS)


def chooser(kind: type) -> Callable[[Any], Plan] | None:
    """The function that tells an array's plan, for ``numpy.ndarray`` and its subclasses."""
    return plan if any(map(_is_ndarray, kind.__mro__)) else None


def _is_ndarray(kind: type) -> bool:
    return kind.__module__ == "numpy" and kind.__qualname__ == "ndarray"


def is_plain(item: Any) -> bool:
    """Whether an array is of no subclass."""
    return _is_ndarray(type(item))


def plan(item: Any) -> Plan:
    """Whether an array owns its memory, is a view, or holds references."""
    owner = owns_memory(item)
    plain = is_plain(item)
    if item.dtype.hasobject:
        if not plain or not _of_references(item):
            return OPAQUE
        if owner:
            return OBJECTS if item.flags.forc else OPAQUE
        root: Any = root_of(item)
        return VIEW if _of_references(root) and plan(root) is OBJECTS else OPAQUE
    if plain:
        return OWNER if owner else VIEW
    kind: Any = type(item)
    return _plan_of_subclass(kind, owner)


@functools.cache
def _plan_of_subclass(kind: Any, owner: bool) -> Plan:
    """The same with the attributes that an instance has beside the array."""
    base = OWNER if owner else VIEW
    if not kind.__dictoffset__:
        return base
    return Plan((*base.parts, Attributes(_attributes)), content=base.content, rank=base.rank)


def _attributes(item: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(item, "__dict__")
    return found


def attributes(item: Any) -> dict[str, Any] | None:
    """What an instance of a subclass has beside the array; None where it has nothing."""
    return _attributes(item) if type(item).__dictoffset__ else None


def set_attributes(item: Any, state: dict[str, Any]) -> None:
    """Sets exactly these: making the array may have set others."""
    live = _attributes(item)
    live.clear()
    live.update(state)


def owns_memory(item: Any) -> bool:
    """Whether nothing that could travel lies below the array."""
    return root_of(item) is item


_MEMORY: Any = (bytes, bytearray, array.array, ctypes.Array, mmap.mmap)
"""What holds memory that an array can show, besides arrays and storages."""


def root_of(item: Any) -> Any:
    """The object whose memory an array shows: an array, a storage, bytes; itself if none."""
    import numpy as np

    current, base = item, item.base
    while base is not None:
        if isinstance(base, np.ndarray):
            current, base = base, base.base
        elif type(base).__name__ == "DummyArray":  # as_strided and sliding windows
            base = base.base
        elif isinstance(base, Window):
            return base.storage
        elif isinstance(base, memoryview):
            base = base.obj
        elif isinstance(base, _MEMORY):
            return base
        else:
            return _torch_root(base, current)
    return current


def root_of_view(item: Any) -> Any:
    """The same; for an instance of a subclass the nearest array, as NumPy keeps it as base."""
    base = item.base
    if not is_plain(item) and hasattr(base, "flags") and base.flags.c_contiguous:
        inside = base.__array_interface__["data"][0], item.__array_interface__["data"][0]
        if 0 <= inside[1] - inside[0] <= base.nbytes - item.itemsize:
            return base
    return root_of(item)


def _torch_root(base: Any, current: Any) -> Any:
    if type(base).__module__.startswith("torch") and hasattr(base, "untyped_storage"):
        return base.untyped_storage()
    return current


def _of_references(root: Any) -> bool:
    """Whether it is an array of references and nothing else."""
    return getattr(getattr(root, "dtype", None), "char", "") == "O"


def address_of(root: Any) -> int:
    """Where a root's memory starts."""
    memory = root if _of_references(root) else byte_array(root)
    address: int = memory.__array_interface__["data"][0]
    return address


def view_recipe(item: Any) -> tuple[Any, ...]:
    """Root, dtype, shape, strides, offset in bytes, writeable, class of a stand-in base."""
    root = root_of_view(item)
    offset = item.__array_interface__["data"][0] - address_of(root) if item.size else 0
    stand_in = type(item.base) if type(item.base).__name__ == _STAND_IN else None
    return (root, item.dtype, item.shape, item.strides, offset, item.flags.writeable, stand_in)


_STAND_IN = "DummyArray"
"""What ``as_strided`` puts between a view and its base."""


def make_view(
    root: Any,
    dtype: Any,
    shape: Any,
    strides: Any,
    offset: int,
    writeable: bool,
    stand_in: Any,
    kind: Any = None,
) -> Any:
    """Builds a view over a root that is already here.

    A view may be writeable whose root was locked after it was made.
    """
    import numpy as np

    if writeable and isinstance(root, np.ndarray) and not root.flags.writeable:
        with contextlib.suppress(ValueError):  # its memory is nobody's to write to
            root.flags.writeable = True
            try:
                return make_view(root, dtype, shape, strides, offset, True, stand_in, kind)
            finally:
                root.flags.writeable = False
    view: Any
    if kind is not None:
        direct = isinstance(root, mmap.mmap) or (
            isinstance(root, np.ndarray) and root.flags.c_contiguous
        )
        memory = root if direct else byte_array(root)
        view = np.ndarray.__new__(kind, shape, dtype, memory, offset, strides)
    elif _of_references(root):
        view = _view_of_objects(root, shape, strides, offset)
    elif stand_in is not None:
        plain: Any = np.ndarray(shape, dtype, byte_array(root), offset, strides)
        view = np.asarray(stand_in(plain.__array_interface__, base=root))
        _change(view, "dtype", dtype)
    elif type(root).__name__ == "UntypedStorage":
        view = _view_of_storage(root, dtype, shape, strides, offset)
    else:
        memory = root if isinstance(root, mmap.mmap) else byte_array(root)
        view = np.ndarray(shape, dtype, memory, offset, strides)
    if view.flags.writeable and not writeable:
        view.flags.writeable = False
    return view


def _view_of_objects(root: Any, shape: Any, strides: Any, offset: int) -> Any:
    """A view of references, which NumPy makes of no bare memory: by slices where these do."""
    import numpy as np

    flat = root.reshape(-1) if root.flags.c_contiguous else root.T.reshape(-1)
    size, start = root.itemsize, offset // root.itemsize
    if len(shape) == 1 and strides[0]:
        step = strides[0] // size
        stop = start + step * shape[0]
        return flat[start : None if stop < 0 else stop : step]
    count = math.prod(shape)
    part = flat[start : start + count]
    whole = part.size == count > 0
    for shaped in (part.reshape(shape), part.reshape(shape[::-1]).T) if whole else ():
        if shaped.strides == strides:
            return shaped
    stand_in: Any = type(np.lib.stride_tricks.as_strided(flat, (0,)).base)
    start_address = root.__array_interface__["data"][0] + offset
    geometry = {"shape": shape, "strides": strides, "data": (start_address, False)}
    return np.asarray(stand_in({**flat.__array_interface__, **geometry}, base=root))


def _view_of_storage(root: Any, dtype: Any, shape: Any, strides: Any, offset: int) -> Any:
    """As ``tensor.numpy()`` makes it, where torch has the dtype and the strides."""
    import numpy as np
    import torch

    size = dtype.itemsize
    try:
        of = torch.from_numpy(np.empty(0, dtype)).dtype
    except TypeError:
        return np.ndarray(shape, dtype, byte_array(root), offset, strides)
    tensor = torch.empty(0, dtype=of)
    if all(s >= 0 and s % size == 0 for s in (*strides, offset)):
        tensor.set_(root, offset // size, tuple(shape), tuple(s // size for s in strides))
        return tensor.numpy()
    tensor.set_(root, 0, (root.nbytes() // size,), (1,))
    return np.ndarray(shape, dtype, tensor.numpy(), offset, strides)


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


def make_small(
    data: Any, dtype: Any, shape: Any, order: str, writeable: bool, kind: Any = None
) -> Any:
    """Builds an owner from bytes in the payload, or from an array whose bytes are copied."""
    import numpy as np

    made: Any = np.ndarray.__new__(kind or np.ndarray, shape, dtype, order=order)  # type: ignore[arg-type]
    if made.nbytes and isinstance(data, np.ndarray):
        byte_array(made)[:] = byte_array(data)
    elif made.nbytes:
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
