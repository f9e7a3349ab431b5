"""The pickler of both sides, and what it does for types that hold memory, code or a namespace."""

from __future__ import annotations

import contextvars
import copyreg
import enum
import io
import mmap
import types
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import Any, Protocol

import cloudpickle

from zerokernel import emulation
from zerokernel.crossing import (
    arrays,
    buffers,
    classes,
    exceptions,
    frames,
    functions,
    placement,
    reducers,
    stand_ins,
    tensors,
    travel,
    variables,
)
from zerokernel.crossing.adapters import adapter_for
from zerokernel.crossing.contents import Contents, Labels
from zerokernel.crossing.device_memory import holding
from zerokernel.crossing.file_windows import FileWindows
from zerokernel.crossing.kinds import attribute_getter, default_reduce
from zerokernel.crossing.mapped_files import Part
from zerokernel.crossing.memory_map import MemoryMap
from zerokernel.crossing.shared_dicts import ALONE, set_dict
from zerokernel.crossing.tensor_columns import LiveGraph
from zerokernel.crossing.tokens import Order

Reduced = Any


class Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles by value. The first dump of a session needs nothing more.

    Large buffers are set aside in ``buffers`` and ``specs``; with `labelled_by` the labels of all
    are kept in ``labels``, by address of the owner. What shows a file travels as the file's name
    if ``by_file``. Names of the namespace that notebook
    functions read are collected in ``wanted``.
    """

    def __init__(self, stream: io.BytesIO, namespace: dict[str, Any], in_worker: bool) -> None:
        super().__init__(stream, protocol=5)
        self._namespace = namespace
        self.in_worker = in_worker
        self.buffers: list[memoryview] = []
        self.owners: list[Any] = []
        self.specs: list[Any] = []
        self.wanted: set[str] = set()
        self.met: dict[int, Any] = {}
        self.placed: list[Any] = []
        self.shared_dicts: set[int] = set()  # attributes that travel as the very dict
        self._worlds: dict[int, functions.World] = {}
        self._memory = MemoryMap()
        self._mapped = 0
        self.known_buffers: Callable[[], Iterable[Any]] = tuple
        self.contents: Contents | None = None
        self.windows = FileWindows()
        self.by_file = True
        self.labels: dict[int, Labels] = {}

    def labelled_by(self, contents: Contents) -> None:
        """Has buffers labelled as they travel; files are looked at anew."""
        contents.windows.begin()
        self.contents, self.windows = contents, contents.windows

    @property
    def dispatch_table(self) -> dict[type, Any]:
        """What cloudpickle's own is, as a dict: it is looked at for each instance."""
        return {**copyreg.dispatch_table, **cloudpickle.Pickler._dispatch_table}

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
        self.note(owner)
        return self.set_aside_view(buffers.readable_view(owner), spec)

    def note(self, owner: Any) -> None:
        """Labels the bytes of a buffer, before they are read: what is written later is news."""
        self.owners.append(owner)
        if self.contents is not None:
            self.labels[id(owner)] = self.contents.labels_by_value(owner)

    def set_aside_view(self, view: memoryview, spec: list[Any]) -> int:
        """Keeps bytes out of the payload; returns their index."""
        self.buffers.append(view)
        self.specs.append(spec)
        return len(self.buffers) - 1

    def set_aside_file(self, owner: Any, part: Part) -> int:
        """Sends a part of a file instead of its bytes; returns its index."""
        self.owners.append(owner)
        if self.contents is not None:
            self.labels[id(owner)] = self.contents.labels_by_file(owner)
        return self.set_aside_view(memoryview(b""), [buffers.OF_FILE, *part.spec()])

    def cut(self, item: Any, runs: Sequence[tuple[int, int]]) -> list[Any]:
        """Byte ranges of a buffer, as they are written into its counterpart."""
        view = buffers.readable_view(item)
        pieces: list[Any] = []
        for start, stop in runs:
            if stop - start < buffers.IN_BAND:
                pieces.append((start, stop, bytes(view[start:stop]), None))
            else:
                index = self.set_aside_view(view[start:stop], ["bytes", stop - start])
                pieces.append((start, stop, None, index))
        return pieces

    def reduce_function(self, obj: types.FunctionType) -> Reduced:
        """A function that cannot be imported by code, cells, globals and attributes."""
        if path := emulation.path_of(obj):
            return (reducers.attribute, path)
        if functions.is_importable(obj):
            return self.standard(obj)
        looked_up: dict[str, Any] = {}
        world: Any = None
        names = functions.global_names(obj.__code__) & obj.__globals__.keys()
        if functions.lives_in(obj, self._namespace):
            self.wanted |= names
            light = ((name, self._namespace[name]) for name in sorted(names))
            looked_up = {name: item for name, item in light if functions.travels_by_name(item)}
        else:
            world = functions.module_of(obj)
            if world is None:
                world = self._worlds.setdefault(
                    id(obj.__globals__), functions.World(obj.__globals__)
                )
                looked_up = {name: obj.__globals__[name] for name in sorted(names)}
        made = functions.recipe(obj, world)
        state = functions.finish_state(obj, looked_up)
        finish = stand_ins.finish_function if world is None else stand_ins.finish_foreign_function
        return (stand_ins.make_function, made, state, None, None, finish)

    def reduce_world(self, obj: functions.World) -> Reduced:
        """Globals of functions that were made outside of the notebook and of any module."""
        return (functions.make_world, (obj.names,))

    def reduce_class(self, obj: type) -> Reduced:
        """A notebook class by its attributes; others as cloudpickle does."""
        if path := emulation.path_of(obj):
            return (reducers.attribute, path)
        if not classes.can_rebuild(obj):
            return self.standard(obj)
        return (
            stand_ins.make_class,
            classes.recipe(obj),
            classes.state(obj),
            None,
            None,
            stand_ins.fill_class,
        )

    def reduce_member(self, obj: Any) -> Reduced:
        """A member of a notebook's enumeration as the instance that it is."""
        if not classes.is_member(obj):
            return NotImplemented
        made = classes.member_recipe(obj)
        return (classes.make_member, made, vars(obj), None, None, classes.fill_member)

    def reduce_array(self, obj: Any) -> Reduced:
        """An owner's bytes, a view's recipe, or the references of an object array."""
        plan = arrays.plan(obj)
        if plan is arrays.OBJECTS:
            order = arrays.order_of(obj)
            state = (arrays.OBJECTS.parts[0].read(obj), obj.flags.writeable)
            made = (obj.shape, order)
            return (arrays.make_object_array, made, state, None, None, arrays.fill_object_array)
        if plan.content == "opaque":
            return NotImplemented
        attributes = arrays.attributes(obj)
        if plan.content != "buffer":
            made = arrays.view_recipe(obj)
            reduced: Any = (arrays.make_view, made if attributes is None else (*made, type(obj)))
        else:
            reduced = self._reduce_owner(obj)
        if attributes is None:
            return reduced
        return (*reduced, attributes, None, None, arrays.set_attributes)

    def _reduce_owner(self, obj: Any) -> Reduced:
        kind = () if arrays.is_plain(obj) else (type(obj),)
        if arrays.in_band(obj):
            self.note(obj)
            return (arrays.make_small, (*arrays.small_recipe(obj), *kind))
        index = self.set_aside(obj, arrays.spec(obj))
        taken = (index, obj.dtype, obj.flags.writeable)
        if not kind:
            return (stand_ins.take_array, taken)
        return (stand_ins.take_subclass, (*taken, obj.shape, arrays.order_of(obj), *kind))

    def sharing(self, obj: Any, attributes: dict[str, Any], made: Reduced) -> Reduced:
        """What else refers to an instance's ``__dict__`` gets the same one at the other side."""
        if made is NotImplemented:
            made = obj.__reduce_ex__(4)
        if made[2] is not attributes and (made[2] is not None or attributes):  # slots beside it
            return made
        self.shared_dicts.add(id(attributes))
        return (*made[:2], attributes, *made[3:5], set_dict)

    def reduce_frame(self, obj: Any) -> Reduced:
        """The inside of a pandas frame, with who shares the values."""
        return frames.recipe(obj)

    def reduce_storage(self, obj: Any) -> Reduced:
        """A storage's bytes, or where they lie in what owns them; and its place."""
        place = placement.place_of(obj)
        reduced = self._reduce_bytes(obj)
        if place is None:
            return reduced
        self.placed.append(obj)
        make, recipe, *rest = reduced
        return (stand_ins.placed, (place, make, *recipe), *rest)

    def _reduce_bytes(self, obj: Any) -> Reduced:
        if holding(obj) is None:
            if not self._mapped:
                self._memory.add(self.known_buffers())
            self._memory.add(self.owners[self._mapped :])
            self._mapped = len(self.owners)
            under = self._memory.find(obj.data_ptr(), obj.nbytes())
            if under is not None and under[0] is not obj:
                self.note(obj)
                return (tensors.storage_over, (*under, obj.nbytes()))
        shown = self._shown_file(obj)
        if shown is not None:
            return shown
        if tensors.storage_in_band(obj):
            self.note(obj)
            return (tensors.small_storage, (buffers.small_bytes(obj),))
        return (stand_ins.take, (self.set_aside(obj, ["storage", obj.nbytes()]),))

    def _shown_file(self, obj: Any) -> Reduced | None:
        """A storage that shows a file, by the file and what was written to its memory."""
        self.windows.check(obj)
        if not self.by_file or tensors.storage_in_band(obj):
            return None
        found = self.windows.sendable(obj)
        if found is None:
            return None
        window, runs = found
        index = self.set_aside_file(obj, window.part())
        made = (stand_ins.take_storage, (index,))
        return (*made, self.cut(obj, runs), None, None, stand_ins.put_pieces) if runs else made

    def reduce_mapping(self, obj: mmap.mmap) -> Reduced:
        """A mapped file by the file, the position, and what was written to private memory."""
        window = self.windows.mapping(obj, self.by_file)
        runs = window.runs()
        index = self.set_aside_file(obj, window.part(of_its_own=True))
        made = (stand_ins.take_mapping, (index, obj.tell()))
        return (*made, self.cut(obj, runs), None, None, stand_ins.put_pieces) if runs else made

    def reduce_tensor(self, obj: Any) -> Reduced:
        """A tensor's geometry over its storage; of a graph only that there is one."""
        if not tensors.is_plain(obj):
            return NotImplemented
        if not self.in_worker:
            tensors.refuse_live_graph(obj)
        extras = tensors.extras(obj)
        recipe = tensors.tensor_recipe(obj)
        if extras[0] is None and not extras[1] and not extras[2]:
            return (tensors.make_tensor, recipe)
        self.shared_dicts.add(id(extras[2]))
        return (tensors.make_tensor, recipe, extras, None, None, tensors.set_extras)

    def reduce_exception(self, obj: BaseException) -> Reduced:
        """An exception with its cause, context and notes, without its traceback."""
        kind: Any = type(obj)
        plain = kind.__reduce__ is BaseException.__reduce__
        return exceptions.recipe(obj, None if plain else obj.__reduce_ex__(4))


class Table(Protocol):
    """The objects that both sides know: the tokens by address, and what is under a token."""

    by_address: dict[int, int]
    order: Order

    def find(self, item: Any) -> int | None:
        """The token of an object, or None."""

    def peek(self, token: int) -> Any:
        """The object of a token, or None."""


class CuttingPacker(Packer):
    """Cuts at objects that the other side holds; these travel as their token."""

    def __init__(
        self,
        stream: io.BytesIO,
        namespace: dict[str, Any],
        in_worker: bool,
        table: Table,
    ) -> None:
        super().__init__(stream, namespace, in_worker)
        self._whole: list[Any] = []
        # Not a method, and nothing in it refers to this object: a cycle would keep its memo.
        self._spelled: set[type] = set()
        self._until: list[tuple[int, ...]] = []
        self.persistent_id = _cutter(table, self.met, self._whole, self._spelled, self._until)

    def send_whole(self, obj: Any) -> None:
        """Lets the next dump send one known object by value, cutting at all others."""
        self._whole[:] = [obj]

    def spell_out(self, kinds: frozenset[type]) -> None:
        """Writes objects of some types by value, also those that the other side holds."""
        self._spelled.update(kinds)

    def cut_only_until(self, last: tuple[int, ...]) -> None:
        """Writes by value what came with a later shipment than these."""
        self._until[:] = [last]

    def dump_whole(self, obj: Any) -> None:
        """Pickles one known object by value, cutting at all others."""
        self.send_whole(obj)
        self.dump(obj)
        self._whole.clear()


def _cutter(
    table: Table,
    met: dict[int, Any],
    whole: list[Any],
    spelled: set[type],
    until: list[tuple[int, ...]],
) -> Callable[[Any], int | None]:
    """What tells the token of an object that the other side holds, and notes it in ``met``."""
    token_at = table.by_address.get
    peek = table.peek
    is_later = table.order.is_later

    def cut(token: int, obj: Any) -> int | None:
        if peek(token) is not obj or id(obj) in stand_ins.IDS or type(obj) in spelled:
            return None
        if until and is_later(token, until[0]):
            return None
        if whole and obj is whole[0]:
            whole.clear()
            return None
        met[token] = obj
        return token

    # Called for each object, most of which the other side does not know.
    def persistent_id(obj: Any) -> int | None:
        token = token_at(id(obj))
        return None if token is None else cut(token, obj)

    return persistent_id


def _default(packer: Packer, obj: Any) -> Reduced:
    return NotImplemented


def _of_instances(
    kind: Any, reduce: Callable[[Packer, Any], Reduced]
) -> Callable[[Packer, Any], Reduced]:
    """The reducer of a class, for instances that share their ``__dict__`` too.

    One that takes its state in by a method of its own is left to it.
    """
    getter = attribute_getter(kind)
    if getter is None or hasattr(kind, "__setstate__"):
        return reduce
    as_pickle_does = reduce is _default

    def reduced(packer: Packer, obj: Any) -> Reduced:
        if getrefcount(getter(obj)) <= ALONE:  # called for each instance
            return NotImplemented if as_pickle_does else reduce(packer, obj)
        return packer.sharing(obj, getter(obj), reduce(packer, obj))

    return reduced


def _adapted(reduce: Callable[[Any, bool], Reduced]) -> Callable[[Packer, Any], Reduced]:
    """The reducer of a type that has an adapter; where that declines, cloudpickle's own."""

    def reduced(packer: Packer, obj: Any) -> Reduced:
        found = reduce(obj, packer.in_worker)
        return packer.standard(obj) if found is NotImplemented else found

    return reduced


def _refuse(packer: Packer, obj: Any) -> Reduced:
    travel.refuse(obj)
    return NotImplemented


_REDUCERS: dict[type, Callable[[Packer, Any], Reduced]] = {
    Counter: reducers.reduce_counter,
    types.FunctionType: Packer.reduce_function,
    types.CodeType: reducers.reduce_code,
    types.MappingProxyType: reducers.reduce_proxy,
    types.CellType: reducers.reduce_cell,
    functions.World: Packer.reduce_world,
    contextvars.ContextVar: variables.reduce_variable,
    classes.Methods: reducers.reduce_methods,
    mmap.mmap: Packer.reduce_mapping,
}


def _find_reducer(kind: type) -> Callable[[Packer, Any], Reduced]:
    if travel.stays(kind):
        return _refuse
    if (kind.__module__, kind.__qualname__) in reducers.TORCH_GENERATORS:
        return reducers.reduce_torch_generator
    if (kind.__module__, kind.__qualname__) in reducers.GENERATORS:
        return reducers.reduce_generator
    adapter = adapter_for(kind)
    if adapter is not None:
        return _adapted(adapter.reduce)
    if issubclass(kind, type):
        return Packer.reduce_class
    if issubclass(kind, enum.Enum):
        return Packer.reduce_member
    if kind is not types.ModuleType and issubclass(kind, types.ModuleType):
        return reducers.reduce_module
    if kind is LiveGraph:
        return tensors.reduce_live_graph
    if kind.__module__ == "dataclasses":
        return reducers.reduce_sentinel
    if arrays.chooser(kind):
        return Packer.reduce_array
    if tensors.uniform(kind) is not None:
        return Packer.reduce_storage
    if tensors.chooser(kind):
        return Packer.reduce_tensor
    if issubclass(kind, BaseException):
        return Packer.reduce_exception
    if frames.part_of_frame(kind):
        return Packer.reduce_frame
    if kind.__qualname__ == "_lru_cache_wrapper":
        return reducers.reduce_cached
    if classes.answers_for_all(kind):
        return _of_instances(kind, reducers.reduce_answering)
    if classes.is_plain_instance(kind):
        return _of_instances(kind, reducers.reduce_instance)
    if classes.is_pythons(kind) and default_reduce(kind):
        return _of_instances(kind, _default)
    return _default
