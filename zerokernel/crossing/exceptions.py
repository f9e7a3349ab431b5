"""Exceptions: made again by their ``args``, with what pickle leaves out of them."""

from __future__ import annotations

import functools
import types
from typing import Any

_ATOMS = frozenset({int, float, bool, str, bytes})
_HEAP = 1 << 9


def recipe(item: Any, reduced: Any) -> Any:
    """What makes an exception, and the state that `finish` then gives it.

    Args:
        item: The exception.
        reduced: What its own ``__reduce_ex__`` gives, where its class has one; else None.
    """
    kind: Any = type(item)
    bare = _holds_itself(item) and (reduced is None or not _in_python(kind.__reduce__))
    if bare:
        made: Any = (make_bare, (kind,))
    elif reduced is None:
        made = (make, (kind, item.args))
    else:
        made = reduced
    custom = made[2] if len(made) > 2 and not isinstance(made[2], dict) else None
    args = item.args if bare else None
    fields = _fields(item, whole=bare)
    flags = (item.__cause__, item.__context__, item.__suppress_context__)
    return (*made[:2], (*flags, dict(item.__dict__), custom, args, fields), None, None, finish)


def make(kind: Any, args: tuple[Any, ...]) -> BaseException:
    """An exception by its ``args``, past an ``__init__`` that may want other arguments."""
    made: BaseException = kind.__new__(kind, *args)
    builtin = _builtin(kind)
    try:
        builtin.__init__(made, *args)
    except Exception:
        BaseException.__init__(made, *args)
    if made.args == args and made.args is not args:
        made.args = args  # the tuple that others may hold too
    return made


def make_bare(kind: Any) -> BaseException:
    """An exception without its ``args``, which lead back to it."""
    made: BaseException = kind.__new__(kind)
    return made


def finish(item: BaseException, state: tuple[Any, ...]) -> None:
    """Sets cause, context, attributes and fields of a new exception."""
    cause, context, suppress, attributes, custom, args, fields = state
    if custom is not None and hasattr(item, "__setstate__"):
        item.__setstate__(custom)
    if args is not None:
        item.args = args
    kind: Any = type(item)
    members = {member.__name__: member for member in members_of(kind)}
    for name, value in fields.items():
        members[name].__set__(item, value)
    item.__dict__.update(attributes)
    item.__cause__ = cause
    item.__context__ = context
    item.__suppress_context__ = suppress


@functools.cache
def members_of(kind: Any) -> tuple[Any, ...]:
    """What the built-in base of an exception's class has beside ``args``, such as ``errno``.

    Not the object of which an AttributeError asked an attribute: it may be anything.
    """
    builtin = _builtin(kind)
    if issubclass(builtin, BaseExceptionGroup):  # these cannot be set
        return ()
    return tuple(
        member
        for base in builtin.__mro__
        if base not in (BaseException, object)
        for name, member in sorted(vars(base).items())  # alike on both sides
        if isinstance(member, types.MemberDescriptorType) and name != "obj"
    )


def _builtin(kind: Any) -> Any:
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP)


def _in_python(method: Any) -> bool:
    return isinstance(method, types.FunctionType)


def _fields(item: Any, *, whole: bool) -> dict[str, Any]:
    """The fields that are plain values; those that are not follow from ``args``."""
    kind: Any = type(item)
    values = {member.__name__: member.__get__(item) for member in members_of(kind)}
    return {
        name: value for name, value in values.items() if type(value) in _ATOMS or (whole and value)
    }


def _holds_itself(item: BaseException) -> bool:
    """Whether ``args`` lead back to the exception through tuples and exceptions alone."""
    if isinstance(item, BaseExceptionGroup):  # it cannot be made before what it holds
        return False
    todo: list[Any] = [item.args]
    seen: set[int] = set()
    while todo:
        inner = todo.pop()
        if inner is item:
            return True
        if isinstance(inner, tuple | BaseException) and id(inner) not in seen:
            seen.add(id(inner))
            todo.extend(inner.args if isinstance(inner, BaseException) else tuple.__iter__(inner))
    return False
