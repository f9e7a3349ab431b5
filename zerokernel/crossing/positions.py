"""Iterators over what may have shrunk: theirs can be a position beyond its end.

There ``__setstate__`` stops at the end, and the iterator would go on too early when the sequence
has grown again. The position is a number at a fixed place of the iterator's memory; it is
written there, for a type of which a sample was tried here.
"""

from __future__ import annotations

import array
import ctypes
import functools
from collections.abc import Callable
from typing import Any

_HEAD = object.__basicsize__  # the count of references and the type

_MAKERS: tuple[Callable[[], Any], ...] = (
    lambda: iter([3, 4, 5]),
    lambda: reversed([3, 4, 5]),
    lambda: iter(bytearray([3, 4, 5])),
    lambda: iter(array.array("b", [3, 4, 5])),
)
_SAMPLES = {type(make()): make for make in _MAKERS}
_OTHERS: tuple[Callable[[], Any], ...] = (
    lambda: iter((3, 4, 5)),
    lambda: iter("345"),
    lambda: iter("\u00e9"),
    lambda: iter(b"345"),
)


def _named(makers: tuple[Callable[[], Any], ...]) -> dict[str, Callable[[], Any]]:
    kinds = ((type(make()), make) for make in makers)
    return {f"{kind.__module__}.{kind.__qualname__}": make for kind, make in kinds}


OVER_SEQUENCES = _named((*_MAKERS, *_OTHERS))
"""The types that say nothing of their sequence once they are used up, by name."""


def reduce_iterator(item: Any, in_worker: bool) -> Any:
    """An iterator over its sequence, placed by `place`, or one that is used up."""
    made = item.__reduce__()
    if position(item) is None:
        kind: Any = type(item)
        return (used_up, (f"{kind.__module__}.{kind.__qualname__}",))
    return (*made, None, None, place) if type(item) in _SAMPLES else made


def used_up(name: str) -> Any:
    """An iterator of a type that is at its end for good: pickle would make one that is not."""
    made = OVER_SEQUENCES[name]()
    for _ in made:
        pass
    return made


def position(item: Any) -> int | None:
    """Where an iterator is; None where it is used up, and for types that keep none."""
    made = item.__reduce__()
    return made[2] if len(made) > len(("make", "sequence")) else None


def place(item: Any, index: int) -> None:
    """Sets the position of an iterator that is not used up, also beyond the end."""
    kind: Any = type(item)
    item.__setstate__(index)
    if kind in _SAMPLES and position(item) != index and _is_as_known(kind):
        _number(item).value = index


def _number(item: Any) -> ctypes.c_ssize_t:
    return ctypes.c_ssize_t.from_address(id(item) + _HEAD)


@functools.cache
def _is_as_known(kind: Any) -> bool:
    """Whether the position of a type's objects is where it is looked for."""
    *_, last = _SAMPLES[kind]()
    sample = _SAMPLES[kind]()
    next(sample)
    if _number(sample).value != 1:
        return False
    _number(sample).value = 2 if last == 5 else 0
    return bool(next(sample) == last)
