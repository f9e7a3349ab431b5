"""What is reachable from some objects, a level at a time, at the speed of the collector's walk."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from itertools import chain, compress, repeat
from operator import is_, not_
from typing import Any

from zerokernel.crossing.kinds import plan_of, plans_of, uniform
from zerokernel.crossing.parts import ATOM, InstanceClass
from zerokernel.crossing.restorers import restorer_for

_LEAVES = frozenset({int, float, complex, bool, str, bytes, type(None), range})
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})

Below = Callable[[Any], Iterable[Any]]


def walk(start: Iterable[Any], seen: dict[int, Any], below: Below) -> None:
    """Adds all that is reachable to ``seen``, by address.

    Args:
        start: Where to begin.
        seen: What was reached before; it is not walked again.
        below: What an object refers to whose state is not its references alone.
    """
    level = _fresh(start, seen)
    while level:
        seen.update(level)
        level = _fresh(_children(list(level.values()), below), seen)


def _fresh(items: Iterable[Any], seen: dict[int, Any]) -> dict[int, Any]:
    items = list(items)
    inner = list(compress(items, map(not_, map(_LEAVES.__contains__, map(type, items)))))
    found = dict(zip(map(id, inner), inner, strict=True))
    for number in found.keys() & seen.keys():
        del found[number]
    return found


def _children(items: list[Any], below: Below) -> list[Any]:
    kinds: list[Any] = list(map(type, items))
    found: list[Any] = []
    for kind in set(kinds):
        members = list(compress(items, map(is_, kinds, repeat(kind))))
        if kind in _CONTAINERS or _is_instance(kind, members[0]):
            found.extend(gc.get_referents(*members))
            continue
        for plan, such in plans_of(kind, members).items():
            if plan is ATOM:
                continue
            chosen = list(compress(members, such))
            for _, lane in plan.lanes(chosen):
                found.extend(lane)
            if plan.content:
                found.extend(chain.from_iterable(map(below, chosen)))
                if (restorer := restorer_for(kind)) is not None:
                    found.extend(chain.from_iterable(map(restorer.refers, chosen)))
    return found


def _is_instance(kind: type, sample: Any) -> bool:
    """Whether objects of a type refer to exactly what Python's collector sees."""
    plan_of(sample)
    plan = uniform(kind)
    return plan is not None and bool(plan.parts) and isinstance(plan.parts[0], InstanceClass)
