"""Iterators of C whose position nothing sets: the live one takes over what a new one has.

Such an object is a fixed piece of memory that holds references and numbers. A new one with the
wanted state is unpickled, and the two pieces of memory are exchanged: every reference stays
counted once, no code runs, and exchanging them again undoes it. A type is used only after a
sample of it was exchanged here and both went on as they should.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable
from typing import Any

from zerokernel.crossing.adapters.iterators import reduced

_HEAD = object.__basicsize__  # the count of references and the type, which stay

_TEE: Any = getattr(itertools, "_tee_dataobject", None)
"""What the iterators of one ``tee`` have in common."""

_SAMPLES: dict[type, Callable[[], Any]] = {
    enumerate: lambda: enumerate([3, 4, 5]),
    reversed: lambda: reversed((3, 4, 5)),
    itertools.accumulate: lambda: itertools.accumulate([3, 4, 5]),
    itertools.chain: lambda: itertools.chain([3, 4], [5]),
    itertools.combinations: lambda: itertools.combinations([3, 4, 5], 2),
    itertools.combinations_with_replacement: (
        lambda: itertools.combinations_with_replacement([3, 4], 2)
    ),
    itertools.compress: lambda: itertools.compress([3, 4, 5], [1, 1, 1]),
    itertools.cycle: lambda: itertools.cycle([3, 4, 5]),
    itertools.dropwhile: lambda: itertools.dropwhile(_is_three, [3, 4, 5, 6]),
    itertools.islice: lambda: itertools.islice([3, 4, 5, 6], 3),
    itertools.permutations: lambda: itertools.permutations([3, 4, 5], 2),
    itertools.product: lambda: itertools.product([3, 4], [5, 6]),
    itertools.repeat: lambda: itertools.repeat(3, 5),
    itertools.starmap: lambda: itertools.starmap(pow, [(3, 1), (4, 1), (5, 1)]),
    itertools.takewhile: lambda: itertools.takewhile(bool, [3, 4, 5]),
    itertools.zip_longest: lambda: itertools.zip_longest([3, 4, 5], [6]),
}


def _is_three(number: int) -> bool:
    return number == 3


@functools.cache
def can_exchange(kind: type) -> bool:
    """Whether objects of a type can exchange what they have; tried on a sample of it."""
    if kind is _TEE:
        return not _has_more(kind) and _tee_works()
    make = _SAMPLES.get(kind)
    if make is None or _has_more(kind):
        return False
    began, fresh = make(), make()
    expected = _next_two(make())
    first = next(began)
    swap(began, fresh)
    return bool(
        first == expected[0] and _next_two(began) == expected and next(fresh) == expected[1]
    )


def _tee_works() -> bool:
    began, fresh = _TEE(iter([5]), [3, 4], None), _TEE(iter([]), [6], None)
    swap(began, fresh)
    return bool(reduced(began)[1][1] == [6] and reduced(fresh)[1][1] == [3, 4])


def _has_more(kind: Any) -> bool:
    """Whether an object of a type has a varying size, attributes, or is named by weak references.

    The memory of such an object is not all its own.
    """
    return bool(kind.__itemsize__ or kind.__dictoffset__ or kind.__weakrefoffset__)


def _next_two(iterator: Any) -> list[Any]:
    return list(itertools.islice(iterator, 2))


def fits(item: Any) -> bool:
    """Whether an object's counterpart can take over what a pickled copy of it has."""
    kind: Any = type(item)
    return can_exchange(kind) and reduced(item)[0] is kind


def swap(item: Any, other: Any) -> None:
    """Exchanges what two objects of one type have.

    Raises:
        TypeError: They are of different types, or of one that cannot.
    """
    kind: Any = type(item)
    if type(other) is not kind or not (kind is _TEE or kind in _SAMPLES):
        raise TypeError(f"a {kind.__name__} cannot take over a {type(other).__name__}")
    size = kind.__basicsize__ - _HEAD
    mine, theirs = id(item) + _HEAD, id(other) + _HEAD
    kept = ctypes.string_at(mine, size)
    ctypes.memmove(mine, theirs, size)
    ctypes.memmove(theirs, kept, size)
