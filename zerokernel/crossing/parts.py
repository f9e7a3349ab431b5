# ruff: noqa: D102 - the methods are those of Part, documented there
"""The parts that an object's mutable state consists of, read and written by base operations.

A *part* answers for many objects at once, because change detection must not cost a Python
call per object: ``lanes`` are the references that the objects hold, flattened; ``facts``
are the few values that are compared by equality instead (a tensor's geometry).
"""

from __future__ import annotations

import types
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, TypeAlias

import xxhash

Lane: TypeAlias = tuple[Iterable[int], Iterable[Any]]
"""How many references each object holds, and all of these references in order."""

# The order in which a commit writes.
CLASSES, CELLS, FUNCTIONS, INSTANCES, LISTS, BUFFERS, MAPPINGS = range(7)


class Missing:
    """Stands for an attribute that is not set; the class itself is the mark."""


class Part:
    """One part of the state of all objects of a kind."""

    rank = INSTANCES

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        """References held by the objects, as lanes of equal length."""
        return []

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        """Values compared by equality, one per object; empty where there are none."""
        return []

    def read(self, item: Any) -> Any:
        """The part's present state, shallow and picklable."""
        raise NotImplementedError

    def write(self, item: Any, state: Any) -> None:
        """Puts a state into the live object."""
        raise NotImplementedError


class ListItems(Part):
    """The items of a list or of a subclass, whatever the subclass overrides."""

    rank = LISTS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [
            (map(list.__len__, objects), chain.from_iterable(map(list.__iter__, objects))),
        ]

    def read(self, item: Any) -> Any:
        return list.__getitem__(item, slice(None))

    def write(self, item: Any, state: Any) -> None:
        list.__setitem__(item, slice(None), state)


class DequeItems(Part):
    """The items of a deque."""

    rank = LISTS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [
            (map(deque.__len__, objects), chain.from_iterable(map(deque.__iter__, objects))),
        ]

    def read(self, item: Any) -> Any:
        return list(deque.__iter__(item))

    def write(self, item: Any, state: Any) -> None:
        deque.clear(item)
        deque.extend(item, state)


class DictItems(Part):
    """Keys and values of a dict, in the order of ``base`` (an OrderedDict has its own)."""

    rank = MAPPINGS

    def __init__(self, base: type[dict[Any, Any]] = dict) -> None:
        self._base = base

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        lengths = list(map(dict.__len__, objects))
        values = map(self._base.values, objects)
        return [
            (lengths, chain.from_iterable(map(self._base.__iter__, objects))),
            (lengths, chain.from_iterable(values)),
        ]

    def read(self, item: Any) -> Any:
        return dict(zip(self._base.__iter__(item), self._base.values(item), strict=True))

    def write(self, item: Any, state: Any) -> None:
        if self._base is dict:
            dict.clear(item)
            dict.update(item, state)
        else:
            _write_ordered(self._base, item, state)


def _write_ordered(base: Any, item: Any, state: dict[Any, Any]) -> None:
    """Writes an OrderedDict by what differs: the dict below it has an order of its own."""
    kept = set(map(id, state))
    for key in [key for key in base.__iter__(item) if id(key) not in kept]:
        base.__delitem__(item, key)
    for key, value in state.items():
        if dict.get(item, key, Missing) is not value:
            base.__setitem__(item, key, value)
    if list(base.__iter__(item)) != list(state):
        for key in state:
            base.move_to_end(item, key)


class SetItems(Part):
    """The members of a set."""

    rank = MAPPINGS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [(map(set.__len__, objects), chain.from_iterable(map(set.__iter__, objects)))]

    def read(self, item: Any) -> Any:
        return set(set.__iter__(item))

    def write(self, item: Any, state: Any) -> None:
        set.clear(item)
        set.update(item, state)


class FrozenItems(Part):
    """What a tuple or frozenset holds: it is walked, never written."""

    def __init__(self, base: type[tuple[Any, ...]] | type[frozenset[Any]]) -> None:
        self._base: Any = base

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [
            (
                map(self._base.__len__, objects),
                chain.from_iterable(map(self._base.__iter__, objects)),
            )
        ]


class Attributes(Part):
    """The instance ``__dict__``, reached past any ``__getattribute__`` of the class."""

    def __init__(self, getter: Callable[[Any], dict[str, Any]]) -> None:
        self._getter = getter

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        dicts = list(map(self._getter, objects))
        lengths = list(map(dict.__len__, dicts))
        return [
            (lengths, chain.from_iterable(dicts)),
            (lengths, chain.from_iterable(map(dict.values, dicts))),
        ]

    def read(self, item: Any) -> Any:
        return dict(self._getter(item))

    def write(self, item: Any, state: Any) -> None:
        live = self._getter(item)
        if live.keys() == state.keys():
            changed = {key: new for key, new in state.items() if live[key] is not new}
            dict.update(live, changed)
            if list(live) == list(state):
                return
        dict.clear(live)
        dict.update(live, state)


class Descriptors(Part):
    """Attributes kept outside ``__dict__``: slots, and members of C types."""

    def __init__(self, members: Sequence[Any]) -> None:
        self._members = tuple(members)

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        columns = [map(_reader(member), objects) for member in self._members]
        return [(repeat(len(columns), len(objects)), chain.from_iterable(zip(*columns)))]  # noqa: B905 - equal by construction

    def read(self, item: Any) -> Any:
        return [_reader(member)(item) for member in self._members]

    def write(self, item: Any, state: Any) -> None:
        for member, value in zip(self._members, state, strict=True):
            if _reader(member)(item) is value:
                continue
            if value is Missing:
                member.__delete__(item)
            else:
                member.__set__(item, value)


def _reader(member: Any) -> Callable[[Any], Any]:
    def read(item: Any) -> Any:
        try:
            return member.__get__(item)
        except AttributeError:
            return Missing

    return read


class ExceptionFlags(Part):
    """``__suppress_context__``: a bool computed from C state, so compared by value."""

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return [bool(item.__suppress_context__) for item in objects]

    def read(self, item: Any) -> Any:
        return bool(item.__suppress_context__)

    def write(self, item: Any, state: Any) -> None:
        BaseException.__suppress_context__.__set__(item, state)  # type: ignore[attr-defined]


class InstanceClass(Part):
    """The class of an instance, which ``__class__ =`` may change."""

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [(repeat(1, len(objects)), map(type, objects))]

    def read(self, item: Any) -> Any:
        return type(item)

    def write(self, item: Any, state: Any) -> None:
        if type(item) is not state:
            object.__setattr__(item, "__class__", state)


class CellContents(Part):
    """What a closure cell holds."""

    rank = CELLS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [(repeat(1, len(objects)), map(self.read, objects))]

    def read(self, item: Any) -> Any:
        try:
            return item.cell_contents
        except ValueError:
            return Missing

    def write(self, item: types.CellType, state: Any) -> None:
        if state is not Missing:
            item.cell_contents = state
        elif self.read(item) is not Missing:
            del item.cell_contents


FUNCTION_FIELDS = (
    "__code__",
    "__defaults__",
    "__kwdefaults__",
    "__dict__",
    "__annotations__",
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
)


class FunctionFields(Part):
    """Everything of a notebook function that can be assigned."""

    rank = FUNCTIONS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        width = len(FUNCTION_FIELDS) + 1
        return [
            (repeat(width, len(objects)), chain.from_iterable(map(self._all, objects))),
        ]

    @staticmethod
    def _all(item: Any) -> list[Any]:
        return [*(getattr(item, field) for field in FUNCTION_FIELDS), item.__closure__]

    def read(self, item: Any) -> Any:
        return [getattr(item, field) for field in FUNCTION_FIELDS]

    def write(self, item: Any, state: Any) -> None:
        for field, value in zip(FUNCTION_FIELDS, state, strict=True):
            if getattr(item, field) is not value:
                setattr(item, field, value)


class MethodEnds(Part):
    """The function and the object of a bound method: walked, never written."""

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        pairs = ((item.__func__, item.__self__) for item in objects)
        return [(repeat(2, len(objects)), chain.from_iterable(pairs))]


_CLASS_INTERNALS = frozenset(
    {"__dict__", "__weakref__", "__module__", "_abc_impl", "__slots__", "__firstlineno__"}
    | {"__slotnames__"}
    | {"__static_attributes__", "__annotations_cache__", "__abstractmethods__"}
)


class ClassAttributes(Part):
    """The attributes of a notebook class, written by setattr and delattr on the live class."""

    rank = CLASSES

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        dicts = list(map(self.read, objects))
        lengths = list(map(len, dicts))
        return [
            (lengths, chain.from_iterable(dicts)),
            (lengths, chain.from_iterable(map(dict.values, dicts))),
        ]

    def read(self, item: Any) -> Any:
        return {
            name: value
            for name, value in vars(item).items()
            if name not in _CLASS_INTERNALS and not isinstance(value, _CLASS_MEMBERS)
        }

    def write(self, item: Any, state: Any) -> None:
        live = self.read(item)
        for name in live.keys() - state.keys():
            type.__delattr__(item, name)
        for name, value in state.items():
            if live.get(name, Missing) is not value:
                type.__setattr__(item, name, value)


_CLASS_MEMBERS = (types.MemberDescriptorType, types.GetSetDescriptorType)


class ObjectArrayItems(Part):
    """The references in a NumPy array of dtype object."""

    rank = LISTS

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        lists = list(map(self.read, objects))
        return [(map(len, lists), chain.from_iterable(lists))]

    def read(self, item: Any) -> Any:
        return item.reshape(-1).tolist()

    def write(self, item: Any, state: Any) -> None:
        item.flat = _flat_objects(state)


def _flat_objects(items: list[Any]) -> Any:
    import numpy as np

    flat = np.empty(len(items), dtype=object)
    for index, value in enumerate(items):  # assigning a whole list would unpack nested sequences
        flat[index] = value
    return flat


class ArrayItems(Part):
    """The content of an ``array.array`` and of a ``bytearray``, whose length may change too."""

    rank = BUFFERS

    def facts(self, objects: Sequence[Any]) -> list[Any]:
        return [(len(item), xxhash.xxh3_128_intdigest(item)) for item in objects]

    def read(self, item: Any) -> Any:
        return bytes(memoryview(item).cast("B"))

    def write(self, item: Any, state: Any) -> None:
        if memoryview(item).nbytes == len(state):  # also where an array shows this memory
            memoryview(item).cast("B")[:] = state
        elif isinstance(item, array):
            del item[:]
            array.frombytes(item, state)
        else:
            bytearray.__setitem__(item, slice(None), state)


@dataclass(frozen=True, eq=False)
class Plan:
    """How the objects of one type (or of one kind within a type) are tracked."""

    parts: tuple[Part, ...] = ()
    mutable: bool = True  # False: walked to find what it holds, never written
    content: str = ""  # "buffer": bytes, found by hash; "opaque"/"getstate": found by digest
    rank: int = INSTANCES

    def lanes(self, objects: Sequence[Any]) -> Iterator[Lane]:
        """The lanes of all parts."""
        for part in self.parts:
            yield from part.lanes(objects)

    def read(self, item: Any) -> list[Any]:
        """The state of each part."""
        return [part.read(item) for part in self.parts]

    def write(self, item: Any, states: Sequence[Any]) -> None:
        """Puts the state of each part into the live object."""
        for part, state in zip(self.parts, states, strict=True):
            part.write(item, state)


ATOM = Plan(mutable=False)
OPAQUE = Plan(content="opaque")

ordered_items = DictItems(OrderedDict)
plain_items = DictItems()
