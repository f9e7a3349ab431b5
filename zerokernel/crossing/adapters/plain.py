"""Plain objects of the standard library that pickle refuses or copies in part."""

from __future__ import annotations

import functools
import random
import sys
import threading
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

from zerokernel.crossing import positions
from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import ATOM, Attributes, InstanceClass, Plan
from zerokernel.errors import CannotTravel

_HELD = "is a lock that is held; release it first, or leave it out of what the cell uses"


def _lock(item: Any, in_worker: bool) -> Any:
    """A lock that nobody holds is as good as a new one."""
    if item.locked():
        raise CannotTravel(_HELD)
    return (threading.Lock, ())


def _reentrant_lock(item: Any, in_worker: bool) -> Any:
    if item._is_owned() or not item.acquire(blocking=False):
        raise CannotTravel(_HELD)
    item.release()
    return (threading.RLock, ())


def _match(item: Any, in_worker: bool) -> Any:
    """A match by searching again, which must find the same."""
    recipe = (item.re, item.string, item.pos, item.endpos, item.regs)
    try:
        match_again(*recipe)
    except LookupError as error:
        raise CannotTravel("is a match that cannot be found again; use its groups()") from error
    return (match_again, recipe)


def match_again(pattern: Any, string: Any, start: int, end: int, regions: Any) -> Any:
    """The match of a pattern that has these regions.

    Raises:
        LookupError: There is none.
    """
    for found in _candidates(pattern, string, start, end):
        if found is not None and found.regs == regions:
            return found
    raise LookupError(pattern)


def _candidates(pattern: Any, string: Any, start: int, end: int) -> Iterator[Any]:
    yield pattern.match(string, start, end)
    yield pattern.fullmatch(string, start, end)
    yield from pattern.finditer(string, start, end)


def _cached_property(item: Any, in_worker: bool) -> Any:
    """Without the lock that it has up to Python 3.11: it guards nothing but one computation."""
    attributes = {name: value for name, value in vars(item).items() if name != "lock"}
    return (make_cached_property, (item.func,), attributes, None, None, set_attributes)


def make_cached_property(function: Any) -> Any:
    """A cached property that has its own lock."""
    return functools.cached_property(function)


def set_attributes(item: Any, attributes: dict[str, Any]) -> None:
    """Sets attributes beside those that are there."""
    vars(item).update(attributes)


def _random(item: Any, in_worker: bool) -> Any:
    """A subclass of Random with its attributes, which ``Random.__reduce__`` leaves out."""
    state = (random.Random.getstate(item), dict(vars(item)))
    return (make_random, (type(item),), state, None, None, set_random)


def make_random(kind: Any) -> Any:
    """A generator without a state, past any ``__init__``."""
    return kind.__new__(kind)


def set_random(item: Any, state: Any) -> None:
    """Gives a new generator its state."""
    numbers, attributes = state
    random.Random.setstate(item, numbers)
    vars(item).update(attributes)


def _element(item: Any, in_worker: bool) -> Any:
    """With its own dict of attributes: what pickle takes is a new one where there are none yet."""
    state = (item.tag, item.attrib, item.text, item.tail, list(item))
    return (ElementTree.Element, (item.tag,), state, None, None, set_element)


def set_element(item: Any, state: Any) -> None:
    """Gives a new element its contents."""
    tag, attributes, text, tail, children = state
    item.tag, item.attrib, item.text, item.tail = tag, attributes, text, tail
    item.extend(children)


def _module(item: types.ModuleType, in_worker: bool) -> Any:
    """A module that was made by hand, of which there is no file to import, by its attributes."""
    if not _is_made_by_hand(item):
        return NotImplemented
    return (types.ModuleType, (item.__name__,), dict(vars(item)), None, None, set_attributes)


_STRUCTURAL = Plan((InstanceClass(), Attributes(vars)))

_MODULE = Plan((Attributes(vars),))


def module_plan(item: types.ModuleType) -> Plan:
    """A module that was made by hand has its attributes; any other is but a name."""
    return _MODULE if _is_made_by_hand(item) else ATOM


def _is_made_by_hand(item: types.ModuleType) -> bool:
    return "__builtins__" not in vars(item) and sys.modules.get(item.__name__) is not item


ADAPTERS: dict[str, Adapter] = {
    "_thread.lock": Adapter(_lock),
    "_thread.RLock": Adapter(_reentrant_lock),
    "re.Match": Adapter(_match, plan=ATOM),
    "_struct.Struct": Adapter(lambda item, in_worker: (type(item), (item.format,)), plan=ATOM),
    "functools.cached_property": Adapter(_cached_property, plan=_STRUCTURAL),
    f"{random.Random.__module__}.Random": Adapter(_random, subclasses=True),
    "builtins.module": Adapter(_module),
    "random.SystemRandom": Adapter(lambda item, in_worker: (type(item), ()), plan=ATOM),
    "xml.etree.ElementTree.Element": Adapter(_element),
    **dict.fromkeys(positions.OVER_SEQUENCES, Adapter(positions.reduce_iterator)),
}
