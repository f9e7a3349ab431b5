"""Iterators of `itertools`: pickled as long as Python can, without its notice that it will stop.

Python 3.12 and 3.13 warn whenever one is pickled that 3.14 has no way to. The notebook's own
filters may make an error of that, and the notice would be about nothing that a cell did.
"""

from __future__ import annotations

import itertools
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter

_NOTICE: Any = (
    "ignore",
    re.compile("Pickle, copy, and deepcopy support will be removed from itertools"),
    DeprecationWarning,
    None,
    0,
)
_PROTOCOL = 4
_WARNS = (3, 12) <= sys.version_info < (3, 14)


@contextmanager
def _unnoticed() -> Iterator[None]:
    # `catch_warnings` would have every warning that was shown once be shown again.
    filters: Any = warnings.filters
    if _WARNS:
        filters.insert(0, _NOTICE)
    try:
        yield
    finally:
        if _WARNS:
            filters.remove(_NOTICE)


def reduced(item: Any) -> Any:
    """What an iterator gives to be pickled.

    Raises:
        TypeError: This Python has no way to pickle it.
    """
    with _unnoticed():
        return item.__reduce_ex__(_PROTOCOL)


def set_state(item: Any, state: Any) -> None:
    """Moves an iterator to where another one came."""
    with _unnoticed():
        item.__setstate__(state)


def make(kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """An iterator that is where another one came."""
    made = kind(*arguments)
    set_state(made, state)
    return made


def _reduce(item: Any, in_worker: bool) -> Any:
    kind, arguments, *state = reduced(item)
    if not state or state[0] is None:
        return (kind, arguments)
    return (make, (kind, arguments, state[0]))


def _types() -> list[type]:
    """Those that warn: all of the module that say for themselves how they are pickled."""
    return [
        kind
        for kind in vars(itertools).values()
        if isinstance(kind, type) and "__reduce__" in vars(kind)
    ]


ADAPTERS: dict[str, Adapter] = {
    f"{kind.__module__}.{kind.__qualname__}": Adapter(_reduce) for kind in _types()
}
