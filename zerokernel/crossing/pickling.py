"""The pickler and unpickler of both sides, and what they do for special types."""

from __future__ import annotations

import io
import marshal
import pickle
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

from zerokernel.crossing import arrays, buffers, functions, tensors, travel

_HERE = __name__
_SKELETON = 6  # arguments of cloudpickle's skeleton of a class; an enum's are others

Reduced = Any


class Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles by value. The first dump of a session needs nothing more.

    Large buffers are set aside in ``buffers`` and ``specs``. Names of the namespace that
    notebook functions read are collected in ``wanted``.
    """

    def __init__(self, stream: io.BytesIO, namespace: dict[str, Any], in_worker: bool) -> None:
        super().__init__(stream, protocol=5)
        self._namespace = namespace
        self._in_worker = in_worker
        self.buffers: list[memoryview] = []
        self.owners: list[Any] = []
        self.specs: list[Any] = []
        self.wanted: set[str] = set()
        self.notes: list[Any] = []

    def reducer_override(self, obj: Any) -> Reduced:
        """How to pickle an object of any type but the builtin containers and atoms."""
        reduce = _REDUCERS.get(type(obj))
        if reduce is None:
            reduce = _REDUCERS[type(obj)] = _find_reducer(type(obj))
        if reduce is _default:
            return NotImplemented
        return reduce(self, obj)

    def standard(self, obj: Any) -> Reduced:
        """What cloudpickle does."""
        return super().reducer_override(obj)

    def set_aside(self, owner: Any, spec: list[Any]) -> int:
        """Keeps a buffer out of the payload; returns its index."""
        self.owners.append(owner)
        return self.set_aside_view(buffers.readable_view(owner), spec)

    def set_aside_view(self, view: memoryview, spec: list[Any]) -> int:
        """Keeps bytes out of the payload; returns their index."""
        self.buffers.append(view)
        self.specs.append(spec)
        return len(self.buffers) - 1

    def reduce_function(self, obj: types.FunctionType) -> Reduced:
        """A notebook function by code, cells and attributes; others as cloudpickle does."""
        if not functions.lives_in(obj, self._namespace):
            return self.standard(obj)
        names = functions.global_names(obj.__code__)
        self.wanted |= names & self._namespace.keys()
        state = functions.finish_state(obj)
        return (
            make_function,
            functions.recipe(obj),
            state,
            None,
            None,
            functions.finish_function,
        )

    def reduce_class(self, obj: type) -> Reduced:
        """A notebook class as cloudpickle does, but with its slots as slots."""
        reduced = self.standard(obj)
        if not isinstance(reduced, tuple) or "__slots__" not in vars(obj):
            return reduced
        make, made, (attributes, rest), *others = reduced
        if len(made) != _SKELETON:
            return reduced
        options = {**made[3], "__slots__": obj.__slots__}  # type: ignore[attr-defined]
        attributes = {
            name: value
            for name, value in attributes.items()
            if not isinstance(value, types.MemberDescriptorType) and name != "__slots__"
        }
        return (make, (*made[:3], options, *made[4:]), (attributes, rest), *others)

    def reduce_array(self, obj: Any) -> Reduced:
        """An owner's bytes, a view's recipe, or the references of an object array."""
        plan = arrays.plan(obj)
        if plan is arrays.VIEW:
            return (arrays.make_view, arrays.view_recipe(obj))
        if plan is arrays.OBJECTS:
            order = arrays.order_of(obj)
            state = (arrays.OBJECTS.parts[0].read(obj), obj.flags.writeable)
            made = (obj.shape, order)
            return (arrays.make_object_array, made, state, None, None, arrays.fill_object_array)
        if plan is not arrays.OWNER:
            return NotImplemented
        if arrays.in_band(obj):
            self.owners.append(obj)
            return (arrays.make_small, arrays.small_recipe(obj))
        return (take_array, (self.set_aside(obj, arrays.spec(obj)), obj.dtype, obj.flags.writeable))

    def reduce_storage(self, obj: Any) -> Reduced:
        """A storage's bytes."""
        if obj.device.type != "cpu":
            self.notes.append(obj)
        if tensors.storage_in_band(obj):
            self.owners.append(obj)
            return (tensors.small_storage, (buffers.byte_array(obj).tobytes(),))
        return (take, (self.set_aside(obj, ["storage", obj.nbytes()]),))

    def reduce_tensor(self, obj: Any) -> Reduced:
        """A tensor's geometry over its storage; a result with a graph keeps its exact value."""
        if not tensors.is_plain(obj):
            return NotImplemented
        make: Any = tensors.make_tensor
        if tensors.has_live_graph(obj):
            if not self._in_worker:
                tensors.refuse_live_graph(obj)
            make = tensors.make_result
        extras = (tensors.gradient(obj), obj._backward_hooks, obj.__dict__)
        recipe = tensors.tensor_recipe(obj)
        if extras[0] is None and not extras[1] and not extras[2]:
            return (make, recipe)
        return (make, recipe, extras, None, None, tensors.set_extras)

    def reduce_exception(self, obj: BaseException) -> Reduced:
        """An exception with its cause, context and notes, without its traceback."""
        kind: Any = type(obj)
        if kind.__reduce__ is BaseException.__reduce__:
            made: Any = (functions.make_exception, (kind, obj.args))
        else:
            made = obj.__reduce_ex__(4)
        custom = made[2] if len(made) > 2 and not isinstance(made[2], dict) else None
        state = (*functions.exception_recipe(obj), custom)
        return (made[0], made[1], state, None, None, functions.finish_exception)


class CuttingPacker(Packer):
    """Cuts at objects that the other side holds; these travel as their token."""

    def __init__(
        self,
        stream: io.BytesIO,
        namespace: dict[str, Any],
        in_worker: bool,
        find: Callable[[Any], int | None],
    ) -> None:
        super().__init__(stream, namespace, in_worker)
        self._find = find
        self.whole: Any = None
        self.met: dict[int, Any] = {}

    def persistent_id(self, obj: Any) -> int | None:
        """The token of an object that the other side holds."""
        token = self._find(obj)
        if token is None:
            return None
        if obj is self.whole:
            self.whole = None
            return None
        self.met[token] = obj
        return token

    def dump_whole(self, obj: Any) -> None:
        """Pickles one known object by value, cutting at all others."""
        self.whole = obj
        self.dump(obj)
        self.whole = None


class Unpacker(pickle.Unpickler):
    """Loads what a `Packer` wrote."""

    def __init__(
        self,
        stream: io.BytesIO,
        namespace: dict[str, Any],
        owners: Any,
        held: Callable[[int], Any],
    ) -> None:
        super().__init__(stream)
        self._held = held
        self._bound = {
            "make_function": lambda *recipe: functions.make_function(namespace, *recipe),
            "take": lambda index: owners[index],
            "take_array": lambda index, *dress: arrays.dress(owners[index], *dress),
        }

    def persistent_load(self, token: int) -> Any:
        """The object that a token names."""
        return self._held(token)

    def find_class(self, module: str, name: str) -> Any:
        """Binds this module's stand-ins to this side's namespace and buffers."""
        if module == _HERE:
            return self._bound[name]
        return super().find_class(module, name)


def make_function(*recipe: Any) -> Any:
    """Stands in the payload for `functions.make_function` with the receiver's namespace."""
    raise NotImplementedError("bound while unpickling")


def take(index: int) -> Any:
    """Stands in the payload for the owner of a buffer."""
    raise NotImplementedError("bound while unpickling")


def take_array(index: int, dtype: Any, writeable: bool) -> Any:
    """Stands in the payload for an array that owns a buffer."""
    raise NotImplementedError("bound while unpickling")


def _default(packer: Packer, obj: Any) -> Reduced:
    return NotImplemented


def _reduce_code(packer: Packer, obj: types.CodeType) -> Reduced:
    return (marshal.loads, (marshal.dumps(obj),))


def _reduce_cell(packer: Packer, obj: types.CellType) -> Reduced:
    # Filled by the functions that close over it: their state comes after they are made.
    return (functions.make_cell, ())


def _reduce_cached(packer: Packer, obj: Any) -> Reduced:
    return (functions.make_cached, functions.cached_recipe(obj))


def _refuse(packer: Packer, obj: Any) -> Reduced:
    travel.refuse(obj)
    return NotImplemented


_REDUCERS: dict[type, Callable[[Packer, Any], Reduced]] = {
    types.FunctionType: Packer.reduce_function,
    types.CodeType: _reduce_code,
    types.CellType: _reduce_cell,
}


def _find_reducer(kind: type) -> Callable[[Packer, Any], Reduced]:
    if travel.stays(kind):
        return _refuse
    if issubclass(kind, type):
        return Packer.reduce_class
    if arrays.chooser(kind):
        return Packer.reduce_array
    if kind.__module__ == "torch.storage" and kind.__qualname__ == "UntypedStorage":
        return Packer.reduce_storage
    if tensors.chooser(kind):
        return Packer.reduce_tensor
    if issubclass(kind, BaseException):
        return Packer.reduce_exception
    if kind.__qualname__ == "_lru_cache_wrapper":
        return _reduce_cached
    return _default
