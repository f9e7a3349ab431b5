"""Notebook classes: rebuilt with the same attributes in the same order, running no user code.

A class is made by ``type.__new__`` alone: the metaclass, ``__init_subclass__`` and
``__set_name__`` ran where the class statement did, and their effects are in the attributes.
"""

from __future__ import annotations

import abc
import copyreg
import enum
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cloudpickle.cloudpickle import (
    _get_or_create_tracker_id,
    _lookup_class_or_track,
    _should_pickle_by_reference,
)

_HEAP = 1 << 9
_SET_AT_ONCE = ("__module__", "__dict__", "__weakref__")  # cannot be set on a class that exists
_DERIVED = frozenset({"__slotnames__", "__annotations_cache__"})


def can_rebuild(kind: type) -> bool:
    """Whether a class is of the notebook and its metaclass keeps nothing outside of Python."""
    builtin = next(base for base in _ancestors(type(kind)) if not base.__flags__ & _HEAP)
    made_in_python = bool(kind.__flags__ & _HEAP) and builtin is type
    return made_in_python and not _should_pickle_by_reference(kind)


def _ancestors(kind: Any) -> tuple[type, ...]:
    return type.__dict__["__mro__"].__get__(kind)  # type: ignore[no-any-return]


def recipe(kind: Any) -> tuple[Any, ...]:
    """What must be there before the class can be: metaclass, name, bases and the names in it."""
    early, _ = _names(kind)
    at_once = {name: vars(kind)[name] for name in early if name in _SET_AT_ONCE}
    if "__slots__" in vars(kind):
        at_once["__slots__"] = _slots(kind)
    tracker = _get_or_create_tracker_id(kind)
    return (type(kind), kind.__name__, kind.__qualname__, kind.__bases__, early, at_once, tracker)


class Methods:
    """Stands for the methods of a class, which are set before its other attributes are loaded.

    These may hold instances of the class itself, hashed as keys of a dict for example.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        early, _ = _names(kind)
        contents = vars(kind)
        self.found = {
            name: contents[name]
            for name in early
            if isinstance(contents[name], _METHODS) or name == "__hash__"
        }


_METHODS = (types.FunctionType, staticmethod, classmethod, property)


def set_methods(kind: Any, methods: dict[str, Any]) -> None:
    """Sets the methods of a class that `make` made."""
    for name, value in methods.items():
        type.__setattr__(kind, name, value)


def is_plain_instance(kind: Any) -> bool:
    """Whether a class has a ``__new__`` that copying must not call, and no other hook."""
    return (
        isinstance(kind.__new__, types.FunctionType)
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and kind not in copyreg.dispatch_table
    )


def is_pythons(kind: type) -> bool:
    """Whether a class was made by Python code."""
    return bool(kind.__flags__ & _HEAP)


def answers_for_all(kind: Any) -> bool:
    """Whether a plain class has a ``__getattr__``, which pickle would ask before it can answer."""
    return (
        isinstance(getattr(kind, "__getattr__", None), types.FunctionType)
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind not in copyreg.dispatch_table
        and not hasattr(kind, "__setstate__")
        and next(base for base in kind.__mro__ if not base.__flags__ & _HEAP) is object
    )


def set_state(item: Any, state: Any) -> None:
    """What pickle does with a state, past any ``__getattr__`` and ``__setattr__``."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        object.__getattribute__(item, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(item, name, value)


def make_instance(kind: Any) -> Any:
    """An instance without contents, past any ``__new__`` of Python."""
    builtin: Any = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP)
    return builtin.__new__(kind)


def state(kind: Any) -> tuple[Methods, dict[str, Any], Any]:
    """The methods, the attributes in order, and the virtual subclasses of an abstract class."""
    early, late = _names(kind)
    attributes = {
        name: None if name == "_abc_impl" else vars(kind)[name]
        for name in (*early, *late)
        if name not in _SET_AT_ONCE
    }
    registered = None
    if isinstance(kind, abc.ABCMeta):
        references = abc._get_dump(kind)[0]  # type: ignore[attr-defined]
        registered = [alive for reference in references if (alive := reference()) is not None]
    return Methods(kind), attributes, registered


def make(
    meta: type,
    name: str,
    qualname: str,
    bases: tuple[type, ...],
    early: Sequence[str],
    at_once: dict[str, Any],
    tracker: str,
) -> tuple[type, bool]:
    """A class without contents; or the one that is here already, and True."""
    body = dict.fromkeys(early) | at_once | {"__qualname__": qualname}
    with _quiet(bases):
        made: type = type.__new__(meta, name, bases, body)
    found: type = _lookup_class_or_track(tracker, made)
    return found, found is not made


def fill(kind: Any, contents: tuple[Any, dict[str, Any], Any]) -> None:
    """Sets the attributes of a class that `make` made."""
    _, attributes, registered = contents
    for name, value in attributes.items():
        if name == "_abc_impl":
            abc._abc_init(kind)  # type: ignore[attr-defined]
            type.__setattr__(kind, "__abstractmethods__", attributes["__abstractmethods__"])
        elif name != "__slots__":
            type.__setattr__(kind, name, value)
    extra = [name for name in _own_names(kind) if name not in attributes]
    for name in extra:
        if name not in _SET_AT_ONCE:
            type.__delattr__(kind, name)
    for subclass in registered or ():
        abc.ABCMeta.register(kind, subclass)


def _own_names(kind: Any) -> Iterator[str]:
    """The names in a class that Python did not add itself."""
    for name, value in vars(kind).items():
        if name not in _DERIVED and not _is_automatic(kind, value):
            yield name


def _is_automatic(kind: type, value: Any) -> bool:
    descriptors = types.MemberDescriptorType | types.GetSetDescriptorType
    return isinstance(value, descriptors) and value.__objclass__ is kind


def _names(kind: Any) -> tuple[list[str], list[str]]:
    """The names of the class body, and those that were added after it."""
    everything = list(vars(kind).items())
    first = next(
        (at for at, (_, value) in enumerate(everything) if _is_automatic(kind, value)),
        len(everything),
    )
    body = {name for name, _ in everything[:first]}
    slots = _slots(kind) if "__slots__" in vars(kind) else ()
    own = list(_own_names(kind))
    early = [name for name in own if name in body and name not in slots]
    chosen = set(early)
    return early, [name for name in own if name not in chosen]


def _slots(kind: Any) -> Any:
    slots = vars(kind)["__slots__"]
    if isinstance(slots, str | tuple | list | dict):
        return slots
    members = vars(kind).items()
    return tuple(name for name, value in members if isinstance(value, types.MemberDescriptorType))


@contextmanager
def _quiet(bases: tuple[type, ...]) -> Iterator[None]:
    """Keeps the bases from being told about a class that they were told about already."""
    told = [
        (base, vars(base)["__init_subclass__"])
        for base in dict.fromkeys(base for one in bases for base in one.__mro__)
        if "__init_subclass__" in vars(base) and base.__flags__ & _HEAP
    ]
    try:
        for base, _ in told:
            type.__setattr__(base, "__init_subclass__", classmethod(_say_nothing))
        yield
    finally:
        for base, hook in told:
            type.__setattr__(base, "__init_subclass__", hook)


def _say_nothing(kind: type, /, **options: Any) -> None:
    """Stands in for ``__init_subclass__``."""


def is_member(item: Any) -> bool:
    """Whether an object is a member of a notebook's enumeration."""
    return isinstance(item, enum.Enum) and can_rebuild(type(item))


def member_recipe(item: enum.Enum) -> tuple[Any, ...]:
    """The mixed in type, the enumeration and the mixed in type's value."""
    kind: Any = type(item)
    mixed_in: Any = kind._member_type_
    if mixed_in is object:
        return (mixed_in, kind)
    if hasattr(mixed_in, "__getnewargs__"):
        return (mixed_in, kind, *mixed_in.__getnewargs__(item))
    return (mixed_in, kind, *mixed_in.__reduce__(item)[1])


def make_member(mixed_in: Any, kind: Any, *values: Any) -> Any:
    """A member of an enumeration that may not be complete yet."""
    return mixed_in.__new__(kind, *values)


def fill_member(item: Any, attributes: dict[str, Any]) -> None:
    """Sets what a member has."""
    item.__dict__.update(attributes)
