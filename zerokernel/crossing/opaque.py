"""Objects whose state is more than their references: changes of it are found by digest."""

from __future__ import annotations

import functools
import io
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from zerokernel.crossing.buffers import OF_FILE
from zerokernel.crossing.parts import Plan
from zerokernel.crossing.pickling import CuttingPacker, Table
from zerokernel.crossing.restorers import restorer_of


@dataclass(frozen=True)
class Digested:
    """The digest of one object.

    Attributes:
        value: Equal where the object is as it was.
        holds: The tokens of the known objects in it.
        last: The last shipments that were known. What the object refers to may become known
            later, because something else refers to it too: that is no change of it, and not cut.
    """

    value: Any
    holds: frozenset[int]
    last: tuple[int, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digested) or self.value != other.value:
            return False
        # An attribute that was deleted and set again is the last one from then on.
        return not isinstance(self.value, dict) or list(self.value) == list(other.value)

    def __hash__(self) -> int:
        return hash(self.value)


class Digests:
    """Makes digests of the objects of one side.

    Args:
        make_packer: Makes a pickler that cuts at known objects, for a stream.
        table: Of the known objects.
    """

    def __init__(self, make_packer: Callable[[io.BytesIO], CuttingPacker], table: Table) -> None:
        self._make_packer = make_packer
        self._table = table

    def of(self, item: Any, plan: Plan, like: Digested | None = None) -> Digested:
        """Digests the shallow pickle of an object, known objects in it cut to their tokens.

        Where a restorer writes the object, what it takes out is digested instead. An object that
        cannot be pickled has a digest that equals no other, so it is "changed".

        Args:
            item: The object.
            plan: Its plan.
            like: An earlier digest of it, to be compared with.
        """
        one = _Digest(self._make_packer, self._table, like)
        try:
            value = one.of(item, plan)
        except Exception:
            value = object()
        return Digested(value, frozenset(one.holds), one.last)


class _Digest:
    """One digest that is being made."""

    def __init__(
        self,
        make_packer: Callable[[io.BytesIO], CuttingPacker],
        table: Table,
        like: Digested | None,
    ) -> None:
        self._make_packer = make_packer
        self._table = table
        self.holds: set[int] = set()
        self.last = table.order.now() if like is None else like.last

    def of(self, item: Any, plan: Plan) -> Any:
        if plan.content == "getstate":
            values = item.__getstate__()
            if isinstance(values, dict):
                found: dict[Any, Any] = {key: self._of_value(v) for key, v in values.items()}
                found[_CLASS] = self._of_value(type(item))
                return found
        restorer = restorer_of(item)
        if restorer is not None:
            return self._packed((type(item), restorer.take(item)))
        return self._packed(item, whole=True)

    def _of_value(self, value: Any) -> Any:
        """A digest of one attribute; the same as its pickle's, but made without one if it can."""
        kind = type(value)
        if kind in _ATOMS and (kind is not str or len(value) <= _SHORT):
            return kind, value
        token = None if kind in _VALUES else self._table.find(value)
        if token is None or self._table.order.is_later(token, self.last):
            return self._packed(value)
        self.holds.add(token)
        return Known(token)

    def _packed(self, value: Any, whole: bool = False) -> Any:
        stream = io.BytesIO()
        packer = self._make_packer(stream)
        packer.spell_out(_VALUES)
        packer.cut_only_until(self.last)
        if whole:
            packer.dump_whole(value)
        else:
            packer.dump(value)
        self.holds.update(packer.met)
        made = xxhash.xxh3_128()
        made.update(stream.getbuffer())
        for view, spec in zip(packer.buffers, packer.specs, strict=True):
            made.update(repr(spec).encode() if spec[0] == OF_FILE else view)
        return made.intdigest()


class Known(NamedTuple):
    """Stands for a known object among digests."""

    token: int


_VALUES = frozenset({str, bytes, int, float, complex, tuple, frozenset})
"""Types that are digested by value: whether the other side knows such an object may change while
it does not. What an immutable container holds is cut as anywhere."""

_ATOMS = frozenset({type(None), bool, int, str})
"""Types whose objects are their own digests."""

_SHORT = 200  # characters of a string that is kept instead of its hash

_CLASS = object()
"""The key of the class among the digests of what ``__getstate__`` gives."""


def is_by_attribute(found: Digested) -> bool:
    """Whether it is a digest of each thing that ``__getstate__`` gives."""
    return isinstance(found.value, dict)


def changed_state(item: Any, before: Digested | None, now: Digested) -> dict[str, Any]:
    """What ``__getstate__()`` gives otherwise than before."""
    state: dict[str, Any] = item.__getstate__()
    old, new = _digests(before), _digests(now)
    return {key: state[key] for key in state if key not in old or old[key] != new.get(key)}


def delta(
    item: Any, before: Digested | None, changed: dict[str, Any]
) -> tuple[type, dict[str, Any], list[str], list[str] | None, tuple[str, ...]]:
    """How an object with ``__getstate__`` came to be as it is.

    What ``__getstate__`` adds to the attributes is for a ``__setstate__``, which is not called.

    Returns:
        The class, the attributes among what changed, the names of those that went, the order
        of the names, None where it follows from the other three, and all names that there are.
    """
    own = _attributes(item)
    written = {key: value for key, value in changed.items() if key in own}
    names = [key for key in item.__getstate__() if key in own]
    known = [key for key in _digests(before) if key is not _CLASS]
    staying = set(names)
    gone = [key for key in known if key not in staying]
    grown = dict.fromkeys([*(key for key in known if key in staying), *written])
    in_order = None if list(grown) == names else names
    return type(item), written, gone, in_order, tuple(own) if before is None else ()


def is_translated(item: Any, changed: dict[str, Any]) -> bool:
    """Whether only ``__setstate__`` can make attributes of what changed in ``__getstate__()``.

    What it adds to the attributes is derived from them where it gives all of these too.
    """
    if not hasattr(item, "__setstate__"):
        return False
    live = _attributes(item)
    if changed.keys() - live.keys() and live.keys() - item.__getstate__().keys():
        return True
    return any(not _is_same(live[key], changed[key]) for key in changed.keys() & live.keys())


def _is_same(live: Any, value: Any) -> bool:
    """Whether a value is an attribute's, or equals it and can as well be that."""
    if live is value:
        return True
    if type(live) is not type(value) or type(value) not in _VALUES:
        return False
    if isinstance(live, tuple | frozenset):  # not by their elements, which may be the user's
        return list(map(id, live)) == list(map(id, value))
    return bool(live == value)


def _digests(found: Digested | None) -> dict[Any, Any]:
    return found.value if found is not None and isinstance(found.value, dict) else {}


def _attributes(item: Any) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(item, "__dict__")
    return found


@functools.cache
def is_its_dict(kind: Any) -> bool:
    """Whether all that an object of a type has is its ``__dict__``, so that it can be swapped."""
    return bool(kind.__dictoffset__) and all(
        base is object
        or (
            base.__flags__ & _HEAP
            and not any(isinstance(v, types.MemberDescriptorType) for v in vars(base).values())
        )
        for base in kind.__mro__
    )


_HEAP = 1 << 9
