"""The order of names and attributes: it tells which were deleted and bound again."""

from __future__ import annotations

from collections import deque
from itertools import chain, takewhile
from typing import Any

_MARK = "__doc__"  # the namespace of every module has it, and it never crosses


def arrange(space: dict[str, Any], names: dict[str, Any]) -> None:
    """Brings names of the namespace into their order, as the last ones, and marks the end."""
    if [name for name in list(space) if name in names] != list(names):
        _move_to_end(space, names)
    mark(space)


def _move_to_end(space: dict[str, Any], names: dict[str, Any]) -> None:
    # In one call, so that no other thread misses one meanwhile.
    steps = chain(map(space.pop, names), map(space.__setitem__, names.keys(), names.values()))
    deque(steps, maxlen=0)


def sort_attributes(attributes: dict[str, Any], names: list[str]) -> None:
    """Brings attributes into the order of their names, as the last ones."""
    wanted = dict.fromkeys(names)
    present = [name for name in list(attributes) if name in wanted]
    ordered = [name for name in names if name in attributes]
    if present != ordered:
        _move_to_end(attributes, {name: attributes[name] for name in ordered})


def mark(space: dict[str, Any]) -> None:
    """Ends the namespace with a name that stays, so that what is bound from now on is seen."""
    space[_MARK] = space.pop(_MARK, None)


def after_mark(space: dict[str, Any]) -> set[str]:
    """The names bound since `mark`, also those that were deleted before."""
    return set(takewhile(_MARK.__ne__, reversed(space)))
