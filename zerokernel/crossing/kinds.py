"""Which kind an object is: by its type, decided once per type."""

from __future__ import annotations

import array
import contextvars
import copyreg
import enum
import functools
import logging
import mmap
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import is_
from typing import Any

from cloudpickle.cloudpickle import _should_pickle_by_reference

from zerokernel.crossing import arrays, tensors
from zerokernel.crossing.adapters import adapter_for
from zerokernel.crossing.adapters.plain import module_plan
from zerokernel.crossing.exceptions import members_of
from zerokernel.crossing.mappings import MAPPING
from zerokernel.crossing.parts import (
    ATOM,
    BUFFERS,
    CELLS,
    CLASSES,
    FUNCTIONS,
    LISTS,
    MAPPINGS,
    OPAQUE,
    ArrayItems,
    Attributes,
    CellContents,
    ClassAttributes,
    DequeItems,
    Descriptors,
    ExceptionFlags,
    FrozenItems,
    FunctionFields,
    InstanceClass,
    ListItems,
    MethodEnds,
    Part,
    Plan,
    SetItems,
    ordered_items,
    plain_items,
)
from zerokernel.crossing.restorers import restorer_for
from zerokernel.crossing.unpickling import Receiver

_LIST = Plan((ListItems(),), rank=LISTS)
_DICT = Plan((plain_items,), rank=MAPPINGS)
_SET = Plan((SetItems(),), rank=MAPPINGS)
_TUPLE = Plan((FrozenItems(tuple),), mutable=False)
_FROZENSET = Plan((FrozenItems(frozenset),), mutable=False)
_CELL = Plan((CellContents(),), rank=CELLS)
_FUNCTION = Plan((FunctionFields(),), rank=FUNCTIONS)
_CLASS = Plan((ClassAttributes(),), rank=CLASSES)
_METHOD = Plan((MethodEnds(),), mutable=False)
_BYTES = Plan((ArrayItems(),), rank=BUFFERS)

_PLANS: dict[type, Plan] = {
    **dict.fromkeys((int, float, complex, bool, str, bytes, type(None)), ATOM),
    **dict.fromkeys((type(...), type(NotImplemented), range, slice), ATOM),
    **dict.fromkeys((types.BuiltinFunctionType, types.CodeType, types.MethodWrapperType), ATOM),
    **dict.fromkeys((types.WrapperDescriptorType, types.MethodDescriptorType), ATOM),
    **dict.fromkeys((types.MemberDescriptorType, types.GetSetDescriptorType), ATOM),
    contextvars.ContextVar: ATOM,
    Receiver: ATOM,
    list: _LIST,
    dict: _DICT,
    set: _SET,
    tuple: _TUPLE,
    frozenset: _FROZENSET,
    types.CellType: _CELL,
    types.MethodType: _METHOD,
    bytearray: _BYTES,
    array.array: _BYTES,
    mmap.mmap: MAPPING,
}

_BY_OBJECT: dict[type, Callable[[Any], Plan]] = {}
"""Types whose objects are of several kinds; filled by `plan_of` as types are met."""

_VALUE_TYPES = frozenset(
    {
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        ("uuid", "UUID"),
        ("re", "Pattern"),
        ("zoneinfo", "ZoneInfo"),
        ("pandas._libs.internals", "BlockValuesRefs"),  # told apart by identity alone
        ("torch", "dtype"),
        ("torch", "device"),
        ("torch", "layout"),
        ("torch", "memory_format"),
        ("torch", "Size"),
    }
)
_VALUE_BASES = ("pathlib.PurePath", "numpy.generic", "numpy.dtype", "numpy.ufunc")


def plan_of(item: Any) -> Plan:
    """How an object is tracked."""
    kind = type(item)
    plan = _PLANS.get(kind)
    if plan is not None:
        return plan
    chooser = _BY_OBJECT.get(kind)
    if chooser is not None:
        return chooser(item)
    chooser = _chooser(kind)
    if chooser is not None:
        _BY_OBJECT[kind] = chooser
        return chooser(item)
    plan = _PLANS[kind] = _classify(kind)
    return plan


def plans_of(kind: type, items: Sequence[Any]) -> dict[Plan, list[bool]]:
    """How objects of one type are tracked: for each plan which of them have it."""
    plan_of(items[0])  # so that `uniform` knows the type
    plan = uniform(kind)
    if plan is not None:
        return {plan: [True] * len(items)}
    each = tensors.plans(kind, items) or list(map(plan_of, items))
    return {one: list(map(is_, each, repeat(one))) for one in set(each)}


def uniform(kind: type) -> Plan | None:
    """The plan of every object of a type, or None where it depends on the object."""
    return _PLANS.get(kind)


def _chooser(kind: type) -> Callable[[Any], Plan] | None:
    if issubclass(kind, type):
        return _class_plan
    if kind is types.ModuleType:
        return module_plan
    if kind is types.FunctionType:
        return _function_plan
    return arrays.chooser(kind) or tensors.chooser(kind)


def _function_plan(item: Any) -> Plan:
    return ATOM if _should_pickle_by_reference(item) else _FUNCTION


def _class_plan(item: Any) -> Plan:
    return ATOM if _should_pickle_by_reference(item) else _CLASS


def _classify(kind: Any) -> Plan:
    adapter = adapter_for(kind)
    if adapter is not None:
        return adapter.plan
    if _is_value(kind):
        return ATOM
    if (storage := tensors.uniform(kind)) is not None:
        return storage
    if restorer_for(kind) is not None:
        return OPAQUE
    special = _container(kind)
    if special is not None:
        return Plan((*special, *_instance_parts(kind)), rank=special[0].rank)
    if issubclass(kind, BaseException):
        return Plan((_exception_fields(kind), ExceptionFlags(), *_instance_parts(kind)))
    if issubclass(kind, tuple | frozenset):
        base = tuple if issubclass(kind, tuple) else frozenset
        parts = _instance_parts(kind)
        return Plan((FrozenItems(base), *parts), mutable=bool(parts), content="fixed")
    if not default_reduce(kind):
        return OPAQUE
    if kind.__flags__ & (1 << 9) == 0 and not _instance_parts(kind):  # a C type, no attributes
        return OPAQUE
    if _has_getstate(kind):
        return Plan(content="getstate") if _getstate_in_python(kind) else OPAQUE
    return Plan((InstanceClass(), *_instance_parts(kind)))


_NAMESPACE: Any = types.SimpleNamespace


def default_reduce(kind: type) -> bool:
    """Whether pickle treats the type's objects as plain instances."""
    unbound: Any = kind
    return (
        unbound.__reduce_ex__ is object.__reduce_ex__
        and unbound.__reduce__ in (object.__reduce__, _NAMESPACE.__reduce__)
        and kind not in copyreg.dispatch_table
    )


def _has_getstate(kind: type) -> bool:
    base = getattr(object, "__getstate__", None)
    return getattr(kind, "__getstate__", None) is not base


def _getstate_in_python(kind: type) -> bool:
    found = getattr(kind, "__getstate__", None)
    return isinstance(found, types.FunctionType) and bool(kind.__dictoffset__)


def _is_value(kind: type) -> bool:
    if (kind.__module__, kind.__qualname__) in _VALUE_TYPES:
        return True
    if issubclass(kind, enum.Enum | logging.Logger | types.ModuleType):
        return True
    if kind.__name__ == "cython_function_or_method":  # of as many types as modules; by name
        return True
    names = {f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__}
    names |= {f"{base.__module__.partition('.')[0]}.{base.__qualname__}" for base in kind.__mro__}
    return not names.isdisjoint(_VALUE_BASES)


_CONTAINER_REDUCES: tuple[Any, ...] = tuple(
    base.__reduce__ for base in (OrderedDict, defaultdict, Counter, deque, set, object)
)


def _container(kind: type) -> tuple[Part, ...] | None:
    """The part of a mutable container's subclass that holds its items."""
    unbound: Any = kind
    if unbound.__reduce__ not in _CONTAINER_REDUCES or kind in copyreg.dispatch_table:
        return None
    if unbound.__reduce_ex__ is not object.__reduce_ex__ or _has_getstate(kind):
        return None
    if issubclass(kind, defaultdict):
        factory: Any = vars(defaultdict)["default_factory"]
        return (plain_items, Descriptors([factory]))
    if issubclass(kind, dict):
        return (ordered_items if issubclass(kind, OrderedDict) else plain_items,)
    for base, part in ((list, ListItems), (set, SetItems), (deque, DequeItems)):
        if issubclass(kind, base):
            return (part(),)
    return None


def _exception_fields(kind: type) -> Part:
    base: Any = BaseException
    names = ("args", "__cause__", "__context__")
    return Descriptors([*(vars(base)[name] for name in names), *members_of(kind)])


@functools.cache
def attribute_getter(kind: type) -> Callable[[Any], dict[str, Any]] | None:
    """Gives an instance's own ``__dict__``, past any override; None where there is none."""
    if not kind.__dictoffset__:
        return None
    for base in kind.__mro__:
        found = vars(base).get("__dict__")
        if isinstance(found, types.GetSetDescriptorType):
            return found.__get__
    # A TypeVar of Python 3.12 has room for attributes, and no way to get at them.
    return _own_dict if any("__dict__" in vars(base) for base in kind.__mro__) else None


def _own_dict(item: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(item, "__dict__")
    return found


def _instance_parts(kind: type) -> tuple[Part, ...]:
    parts: list[Part] = []
    getter = attribute_getter(kind)
    if getter is not None:
        parts.append(Attributes(getter))
    slots = [
        member
        for base in kind.__mro__
        if base.__flags__ & (1 << 9)
        for name, member in sorted(vars(base).items())  # alike on both sides
        if isinstance(member, types.MemberDescriptorType)
        and name not in ("__dict__", "__weakref__")
    ]
    if slots:
        parts.append(Descriptors(slots))
    return tuple(parts)
