# ruff: noqa: D102 - the methods are those of Part, documented there
"""Weak references and weak containers: what they refer to travels, and the reference stays weak."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import Lane, Part, Plan
from zerokernel.errors import CannotTravel


class Referent(Part):
    """What a weak reference refers to, and its callback: walked, never written."""

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        pairs = [(item(), item.__callback__) for item in objects]
        return [(repeat(2, len(pairs)), chain.from_iterable(pairs))]


class Dead:
    """Its objects die at once: a weak reference to one stands for one that is dead."""


def _reference(item: Any, in_worker: bool) -> Any:
    found = item()
    if found is None:
        return (dead_reference, ())
    return (weakref.ref, (found, item.__callback__))


def dead_reference() -> weakref.ref[Any]:
    """A weak reference whose object is gone."""
    return weakref.ref(Dead())


class Proxied(Part):
    """What a weak proxy stands for: walked, never written."""

    def lanes(self, objects: Sequence[Any]) -> list[Lane]:
        return [(repeat(1, len(objects)), map(_behind, objects))]


def _behind(item: Any) -> Any:
    """The object of a proxy, None where it is gone: a method that is asked for is bound to it."""
    try:
        return item.__reduce_ex__.__self__
    except ReferenceError:
        return None


def _proxy(item: Any, in_worker: bool) -> Any:
    found = _behind(item)
    if found is None:
        raise CannotTravel("is a weak proxy of an object that is gone")
    return (weakref.proxy, (found,))


def _mapping(item: Any, in_worker: bool) -> Any:
    return (type(item), (), list(item.items()), None, None, fill_mapping)


def fill_mapping(item: Any, pairs: Any) -> None:
    """Fills a new weak mapping."""
    item.update(pairs)


def _set(item: Any, in_worker: bool) -> Any:
    return (type(item), (), list(item), None, None, fill_mapping)


_PROXY = Adapter(_proxy, plan=Plan((Proxied(),), mutable=False))

ADAPTERS: dict[str, Adapter] = {
    "weakref.ReferenceType": Adapter(_reference, plan=Plan((Referent(),), mutable=False)),
    "weakref.ProxyType": _PROXY,
    "weakref.CallableProxyType": _PROXY,
    "weakref.WeakValueDictionary": Adapter(_mapping),
    "weakref.WeakKeyDictionary": Adapter(_mapping),
    "_weakrefset.WeakSet": Adapter(_set),
}
