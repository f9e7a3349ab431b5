"""Objects of the standard library whose state lies in C, or outside of what pickle sees."""

from __future__ import annotations

import random
from typing import Any

from zerokernel.crossing.parts import Missing
from zerokernel.crossing.restorer import Restorer, attributes_of, put_attributes


def _buffer_state(item: Any) -> Any:
    """Content, position and attributes of a stream in memory; None where it is closed.

    The attributes are asked for as pickle does: ``__dict__`` itself would make one.
    """
    if item.closed:
        return None
    value, *_, attributes = item.__getstate__()
    return (value, item.tell(), attributes)


def _put_buffer(item: Any, state: Any) -> None:
    if state is None:
        item.close()
        return
    value, position, attributes = state
    item.seek(0)
    item.truncate()
    item.write(value)
    item.seek(position)
    if attributes or item.__getstate__()[-1]:
        put_attributes(item, attributes or {})


def _put_text(item: Any, state: Any) -> None:
    """By its own ``__setstate__``, as ``write`` would translate the ends of lines again."""
    if state is None:
        item.close()
        return
    value, position, attributes = state
    newline = item.__getstate__()[1]
    own = item.__getstate__()[-1]
    item.__setstate__((value, newline, position, None))
    if attributes or own:
        put_attributes(item, attributes or {})


def _random_state(item: Any) -> Any:
    return (random.Random.getstate(item), dict(vars(item)))


def _put_random(item: Any, state: Any) -> None:
    numbers, attributes = state
    random.Random.setstate(item, numbers)
    put_attributes(item, {**attributes, "gauss_next": item.gauss_next})


def _context_state(item: Any) -> Any:
    """Settings of a decimal context, its flags and traps."""
    return (item.__reduce__()[1], attributes_of(item))


def _put_context(item: Any, state: Any) -> None:
    (*settings, flags, traps), attributes = state
    for name, value in zip(_CONTEXT, settings, strict=True):
        if getattr(item, name) != value:
            setattr(item, name, value)
    for mapping, chosen in ((item.flags, flags), (item.traps, traps)):
        for signal in mapping:
            mapping[signal] = signal in chosen
    put_attributes(item, attributes)


_CONTEXT = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _partial_state(item: Any) -> Any:
    return item.__reduce__()[2]


def _element_state(item: Any) -> Any:
    return (item.tag, item.attrib, item.text, item.tail, list(item))


def _put_element(item: Any, state: Any) -> None:
    tag, attributes, text, tail, children = state
    item[:] = children
    item.tag, item.text, item.tail = tag, text, tail
    if item.attrib is not attributes:
        item.attrib = attributes


def _weak_values(item: Any) -> Any:
    return list(item.items())


def _put_weak_mapping(item: Any, state: Any) -> None:
    """By what differs, so that the references that are inside stay the same."""
    live = {id(key): (key, value) for key, value in item.items()}
    wanted = {id(key) for key, _ in state}
    for number, (key, _) in live.items():
        if number not in wanted:
            del item[key]
    for key, value in state:
        if live.get(id(key), (None, Missing))[1] is not value:
            item[key] = value


def _put_weak_set(item: Any, state: Any) -> None:
    item.intersection_update(state)
    item.update(state)


RESTORERS: dict[str, Restorer] = {
    f"{random.Random.__module__}.Random": Restorer(_random_state, _put_random),
    "_io.BytesIO": Restorer(_buffer_state, _put_buffer),
    "_io.StringIO": Restorer(_buffer_state, _put_text),
    "decimal.Context": Restorer(_context_state, _put_context),
    "functools.partial": Restorer(_partial_state, lambda item, state: item.__setstate__(state)),
    "xml.etree.ElementTree.Element": Restorer(_element_state, _put_element),
    "weakref.WeakValueDictionary": Restorer(_weak_values, _put_weak_mapping),
    "weakref.WeakKeyDictionary": Restorer(_weak_values, _put_weak_mapping),
    "_weakrefset.WeakSet": Restorer(list, _put_weak_set),
}
