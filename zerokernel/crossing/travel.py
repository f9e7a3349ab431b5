"""What cannot travel: which types, where inside an object, and what to do about it."""

from __future__ import annotations

import queue
import socket
import sqlite3
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from zerokernel.crossing.adapters import refusal
from zerokernel.errors import CannotTravel

_REMEDY = "leave it out of what the cell uses, or make it inside the cell"

_STAYS: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (types.GeneratorType, types.AsyncGeneratorType),
        "is a generator; turn it into a list, or make it in the cell",
    ),
    ((types.CoroutineType,), "is a coroutine; await it, or make it in the cell"),
    ((types.FrameType, types.TracebackType), f"is a frame or traceback; {_REMEDY}"),
    ((threading.Thread,), f"is a thread of this process; {_REMEDY}"),
    ((queue.SimpleQueue,), f"is a queue between threads; {_REMEDY}, or use a queue.Queue"),
    ((socket.socket,), "is a socket; open it inside the cell"),
    ((sqlite3.Cursor,), "is a database cursor; make it in the cell, from its connection"),
    ((memoryview,), "is a memoryview; pass the object under it, or a copy: bytes(...)"),
)


def stays(kind: type) -> bool:
    """Whether objects of a type never travel."""
    return _reason(kind) is not None


def refuse(item: Any) -> None:
    """Raises for an object that never travels."""
    raise CannotTravel(_reason(type(item)))


def _reason(kind: type) -> str | None:
    for types_, reason in _STAYS:
        if issubclass(kind, types_):
            return reason
    return None


def explain(name: str, item: Any, error: BaseException, fits: Callable[[Any], bool]) -> str:
    """Names the innermost object that cannot travel by its path from a name.

    Args:
        name: What the notebook calls the root.
        item: The root.
        error: What pickling the root raised.
        fits: Whether an object can be pickled by itself.
    """
    if isinstance(error, RecursionError) or "recursion" in str(error):
        return (
            f"`{name}` cannot travel: it is a chain of references too long for pickle "
            f"(sys.getrecursionlimit() is {sys.getrecursionlimit()}); keep its parts in a list, "
            "or make it in the cell"
        )
    path, culprit = _descend(name, item, fits)
    reason = _reason(type(culprit)) or refusal(culprit)
    if reason is None and isinstance(error, CannotTravel):
        reason = str(error)
    if reason is None:
        reason = f"cannot be pickled ({type(error).__name__}: {error}); {_REMEDY}"
    if path == name:
        return f"`{name}` cannot travel: it {reason}"
    return f"`{name}` cannot travel: `{path}` {reason}"


def _descend(path: str, item: Any, fits: Callable[[Any], bool]) -> tuple[str, Any]:
    seen = {id(item)}
    while refusal(item) is None:
        for step, child in _children(item):
            if id(child) in seen:
                continue
            seen.add(id(child))
            if not fits(child):
                path, item = path + step, child
                break
        else:
            break
    return path, item


def path_to(name: str, root: Any, target: Any, limit: int = 10_000) -> str | None:
    """The path from a name to an object; None where it is not found within a limit of steps."""
    queue_ = [(name, root)]
    seen = {id(root)}
    for path, item in queue_:
        if item is target:
            return path
        if len(seen) > limit:
            return None
        for step, child in _children(item):
            if id(child) not in seen:
                seen.add(id(child))
                queue_.append((path + step, child))
    return None


def _children(item: Any) -> Iterator[tuple[str, Any]]:
    if _reason(type(item)) is not None or isinstance(item, type | types.ModuleType):
        return
    if isinstance(item, dict):
        for key, value in list(dict.items(item)):
            yield f"[{key!r}]", value
            yield f".keys()[{key!r}]", key
    elif isinstance(item, list | tuple | set | frozenset):
        for index, value in enumerate(list(item)):
            yield f"[{index}]", value
    elif isinstance(item, types.FunctionType):
        for name, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
            try:
                yield f".__closure__[{name!r}]", cell.cell_contents
            except ValueError:
                continue
        for index, value in enumerate(item.__defaults__ or ()):
            yield f".__defaults__[{index}]", value
    elif isinstance(item, types.MethodType):
        yield ".__self__", item.__self__
        yield ".__func__", item.__func__
    elif type(item).__module__.startswith("torch") and hasattr(item, "untyped_storage"):
        yield "", item.untyped_storage()
    try:
        attributes = object.__getattribute__(item, "__dict__")
    except AttributeError:
        attributes = None
    if isinstance(attributes, dict):
        for key, value in list(attributes.items()):
            yield f".{key}", value
    for base in type(item).__mro__:
        for key, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and base.__flags__ & (1 << 9):
                try:
                    yield f".{key}", member.__get__(item)
                except AttributeError:
                    continue
