"""The table of one side: which objects the other side holds, under which token.

A token is ``base + memo index``: the memos of the C pickler and of the C unpickler run in
parallel, so both sides number a shipment's objects alike without naming them.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from operator import call, is_, not_, or_
from typing import Any

from zerokernel.crossing import cycles

_SHIPMENTS = 16
"""Cycles are looked for after this many shipments, if the table has grown by half."""

_PER_SHIPMENT = 20_000  # objects for which a shipment more is waited: looking takes 2 µs for each

_ROUNDS = 20  # a long chain of weakly held links is let go over several calls

SPACE = 1 << 40
"""How many tokens belong to one shipment."""


class Order:
    """The order in which shipments were taken in, of which each token names one.

    The mutable state: the number of the last shipment of each side. The kernel's are even, the
    worker's odd, and each side counts up.
    """

    def __init__(self) -> None:
        self._last = [0, 0]

    def note(self, tokens: Sequence[int]) -> None:
        """The objects of a shipment are taken in."""
        if tokens:
            number = tokens[0] // SPACE
            self._last[number % 2] = max(self._last[number % 2], number)

    def now(self) -> tuple[int, ...]:
        """The last shipment of either side."""
        return tuple(self._last)

    def is_later(self, token: int, then: tuple[int, ...]) -> bool:
        """Whether an object was taken in with a shipment after those that were the last then."""
        number = token // SPACE
        return number > then[number % 2]


class Holdings:
    """The worker's table: everything is held until the kernel lets it go.

    Attributes:
        by_address: The token of the object at each address.
        order: Of the shipments.
    """

    def __init__(self) -> None:
        self.order = Order()
        self._objects: dict[int, Any] = {}
        self.by_address: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, tokens: Iterable[int], objects: list[Any]) -> None:
        """Takes in the objects of one shipment."""
        tokens = list(tokens)
        self.order.note(tokens)
        self._objects.update(zip(tokens, objects, strict=True))
        self.by_address.update(zip(map(id, objects), tokens, strict=True))

    def find(self, item: Any) -> int | None:
        """The token of an object, or None."""
        return self.by_address.get(id(item))

    def get(self, token: int) -> Any:
        """The object of a token; KeyError where there is none."""
        return self._objects[token]

    def peek(self, token: int) -> Any:
        """The object of a token, or None."""
        return self._objects.get(token)

    def at_tokens(self, tokens: Iterable[int]) -> list[Any]:
        """The objects of many tokens, None for those that are gone."""
        return list(map(self._objects.get, tokens))

    def drop(self, tokens: Iterable[int]) -> None:
        """Lets go of objects."""
        tokens = list(tokens)
        items = list(map(self._objects.pop, tokens, repeat(None)))
        _take_out(self.by_address, list(map(id, items)), tokens)

    def items(self) -> Iterator[tuple[int, Any]]:
        """All tokens and objects."""
        return iter(self._objects.items())


class Ledger:
    """The kernel's table: weak where Python allows it, pruned where it does not.

    While a cell is under way, `hold` keeps all of it, because the worker may name any of it.

    Attributes:
        by_address: The token of the object that is, or was, at each address.
        order: Of the shipments.
    """

    def __init__(self) -> None:
        self.order = Order()
        self._strong: dict[int, Any] = {}
        self._weak: dict[int, weakref.ref[Any]] = {}
        self.by_address: dict[int, int] = {}
        self._weak_ids: dict[int, int] = {}
        self._limbo: dict[int, Any] = {}
        self._held: list[Any] = []
        self._shipments = 0  # since cycles were looked for
        self._without_cycles = 0  # the size of the table then
        self._died: list[Any] = []  # a weak reference whose object died
        self.holding = False
        self.gone: set[int] = set()
        self.gone_ids: set[int] = set()

    def __len__(self) -> int:
        return len(self.by_address)

    def add(self, tokens: Iterable[int], objects: list[Any], skip: set[int]) -> list[bool]:
        """Takes in the objects of one shipment, but not those whose id is in ``skip``.

        What nobody but ``objects`` holds was made by pickle itself. It is kept until
        `release`, because the worker may name it, and then it is gone.
        """
        self._shipments += 1
        tokens, ids = list(tokens), list(map(id, objects))
        self.order.note(tokens)
        taken = [True] * len(objects)
        aside = self._aside(ids, objects, skip)
        if any(aside):
            self._limbo.update(zip(compress(tokens, aside), compress(objects, aside), strict=True))
            taken = list(map(not_, aside))
            tokens, ids = list(compress(tokens, taken)), list(compress(ids, taken))
            objects = list(compress(objects, taken))
        self.by_address.update(zip(ids, tokens, strict=True))
        weakly = {kind for kind in set(map(type, objects)) if kind.__weakrefoffset__}
        if not weakly:
            self._strong.update(zip(tokens, objects, strict=True))
            return taken
        weak = list(map(weakly.__contains__, map(type, objects)))
        strong = list(map(not_, weak))
        self._strong.update(zip(compress(tokens, strong), compress(objects, strong), strict=True))
        soft = list(compress(tokens, weak))
        watched = map(weakref.ref, compress(objects, weak), repeat(self._died.append))
        self._weak.update(zip(soft, watched, strict=True))
        self._weak_ids.update(zip(soft, compress(ids, weak), strict=True))
        return taken

    def _aside(self, ids: list[int], objects: list[Any], skip: set[int]) -> list[bool]:
        """Which objects are not taken in."""
        known = skip
        if not self.by_address.keys().isdisjoint(ids):
            known = skip | {one for one in self.by_address.keys() & ids if self._lives_at(one)}
        alone = list(map(_ALONE.__ge__, map(sys.getrefcount, objects)))
        return list(map(or_, alone, map(known.__contains__, ids))) if known else alone

    def _lives_at(self, number: int) -> bool:
        item = self.peek(self.by_address[number])
        return item is not None and id(item) == number

    def find(self, item: Any) -> int | None:
        """The token of an object, or None."""
        token = self.by_address.get(id(item))
        if token is None:
            return None
        return token if self.peek(token) is item else None

    def peek(self, token: int) -> Any:
        """The object of a token, or None where it is gone."""
        item = self._strong.get(token)
        if item is None:
            reference = self._weak.get(token)
            if reference is not None:
                return reference()
            return self._limbo.get(token)
        return item

    def at_tokens(self, tokens: Sequence[int]) -> list[Any]:
        """The objects of many tokens, None for those that are gone."""
        found: list[Any] = list(map(self._strong.get, tokens))
        missing = list(map(is_, found, repeat(None)))
        if any(missing):
            tokens = list(compress(tokens, missing))
            references: list[Any] = list(map(self._weak.get, tokens, repeat(_dead)))
            others: Iterable[Any] = map(call, references)
            if self._limbo:
                others = map(self._limbo.get, tokens, others)
            if len(tokens) == len(found):
                return list(others)
            for place, item in zip(compress(range(len(found)), missing), others, strict=True):
                found[place] = item
        return found

    def get(self, token: int) -> Any:
        """The object of a token; KeyError where it is gone."""
        item = self.peek(token)
        if item is None:
            raise KeyError(token)
        return item

    def items(self) -> Iterator[tuple[int, Any]]:
        """All tokens and living objects."""
        yield from list(self._strong.items())
        for token, reference in list(self._weak.items()):
            item = reference()
            if item is not None:
                yield token, item

    def at(self, ids: Iterable[int]) -> set[int]:
        """The tokens of the known objects among addresses of living ones."""
        tokens = self.by_address
        return {tokens[number] for number in tokens.keys() & ids}

    def hold(self) -> None:
        """Keeps everything alive until `release`."""
        self._held = list(map(call, self._weak.values()))
        self.holding = True

    def release(self) -> None:
        """Ends `hold`."""
        self._held = []
        self.holding = False
        self.gone.update(self._limbo)
        self._limbo = {}

    def forget(self, tokens: Iterable[int]) -> None:
        """Lets go of objects that the worker has replaced."""
        self._forget([t for t in tokens if t in self._strong or t in self._weak])

    def prune(self) -> None:
        """Lets go of what only this table holds, and notices what died."""
        if self._shipments >= _SHIPMENTS + len(self._strong) // _PER_SHIPMENT:
            self._prune_cycles()
        for _ in range(_ROUNDS):
            self.bury()
            tokens = self._only_ours()
            if not tokens:
                return
            while tokens:
                tokens = self._only_ours_below(tokens)

    def bury(self) -> None:
        """Notices what died."""
        if self._died:
            self._died.clear()
            self._forget([token for token, ref in self._weak.items() if ref() is None])

    def _prune_cycles(self) -> None:
        self._shipments = 0
        if len(self._strong) * 2 > self._without_cycles * 3:
            # Not a list, which would hold them.
            living = (item for item in map(call, self._weak.values()) if item is not None)
            self._forget(cycles.unreachable(self._strong, living, _ALONE))
            self._without_cycles = len(self._strong)

    def _only_ours(self) -> list[int]:
        if min(map(sys.getrefcount, self._strong.values()), default=_ALONE + 1) > _ALONE:
            return []  # the usual case
        counts = map(sys.getrefcount, self._strong.values())
        return list(compress(self._strong, map(_ALONE.__ge__, counts)))

    def _only_ours_below(self, tokens: list[int]) -> list[int]:
        """Forgets objects; returns those of their children that now only this table holds."""
        dropped = list(map(self._strong.__getitem__, tokens))
        self._forget(tokens)
        near: Any = map(self.by_address.get, map(id, gc.get_referents(*dropped)))
        below = list(filter(self._strong.__contains__, dict.fromkeys(near)))
        dropped.clear()
        items = list(map(self._strong.__getitem__, below))
        return list(compress(below, map((_ALONE + 1).__ge__, map(sys.getrefcount, items))))

    def _forget(self, tokens: list[int]) -> None:
        weakly = list(map(self._weak.__contains__, tokens))
        if any(weakly):
            soft = list(compress(tokens, weakly))
            deque(map(self._weak.pop, soft), 0)
            self._note_gone(soft, list(map(self._weak_ids.pop, soft)))
            tokens = list(compress(tokens, map(not_, weakly)))
        items = list(map(self._strong.pop, tokens))
        self._note_gone(tokens, list(map(id, items)))

    def _note_gone(self, tokens: list[int], ids: list[int]) -> None:
        self.gone.update(tokens)
        self.gone_ids.update(ids)
        _take_out(self.by_address, ids, tokens)

    def take_gone(self) -> list[int]:
        """The tokens that died since the last call."""
        gone = sorted(self.gone)
        self.gone = set()
        return gone


def _dead() -> None:
    """What a weak reference says of an object that died."""


def _take_out(table: dict[int, int], ids: list[int], tokens: list[int]) -> None:
    """Removes addresses under which these tokens are found, but not those of later owners."""
    found = list(map(table.pop, ids, repeat(None)))
    if found != tokens:
        others = zip(ids, found, tokens, strict=True)
        table.update((at, now) for at, now, token in others if now is not None and now != token)


def _baseline() -> int:
    table: dict[int, Any] = {0: [object()]}
    return max(map(sys.getrefcount, table.values()))


_ALONE = _baseline()
