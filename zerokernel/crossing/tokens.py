"""The table of one side: which objects the other side holds, under which token.

A token is ``base + memo index``: the memos of the C pickler and of the C unpickler run in
parallel, so both sides number a shipment's objects alike without naming them.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from operator import call, gt, is_, not_, or_
from typing import Any

from zerokernel.crossing import cycles

_SHIPMENTS = 16
"""Cycles are looked for after this many shipments, if the table has grown by half."""

_ROUNDS = 20  # a long chain of weakly held links is let go over several calls

SPACE = 1 << 40
"""How many tokens belong to one shipment."""


class Holdings:
    """The worker's table: everything is held until the kernel lets it go."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._tokens: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def add(self, tokens: Iterable[int], objects: list[Any]) -> None:
        """Takes in the objects of one shipment."""
        tokens = list(tokens)
        self._objects.update(zip(tokens, objects, strict=True))
        self._tokens.update(zip(map(id, objects), tokens, strict=True))

    def find(self, item: Any) -> int | None:
        """The token of an object, or None."""
        return self._tokens.get(id(item))

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
        for token in tokens:
            item = self._objects.pop(token, None)
            if item is not None and self._tokens.get(id(item)) == token:
                del self._tokens[id(item)]

    def items(self) -> Iterator[tuple[int, Any]]:
        """All tokens and objects."""
        return iter(self._objects.items())


class Ledger:
    """The kernel's table: weak where Python allows it, pruned where it does not.

    While a cell is under way, `hold` keeps all of it, because the worker may name any of it.
    """

    def __init__(self) -> None:
        self._strong: dict[int, Any] = {}
        self._weak: dict[int, weakref.ref[Any]] = {}
        self._tokens: dict[int, int] = {}
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
        return len(self._tokens)

    def add(self, tokens: Iterable[int], objects: list[Any], skip: set[int]) -> list[bool]:
        """Takes in the objects of one shipment, but not those whose id is in ``skip``.

        What nobody but ``objects`` holds was made by pickle itself. It is kept until
        `release`, because the worker may name it, and then it is gone.
        """
        self._shipments += 1
        ids = list(map(id, objects))
        aside = list(map(_ALONE.__ge__, map(sys.getrefcount, objects)))
        if skip or self._tokens:
            known = {number for number in self._tokens.keys() & ids if self._lives_at(number)}
            known |= skip
            aside = list(map(or_, aside, map(known.__contains__, ids)))
        tokens = list(tokens)
        self._limbo.update(zip(compress(tokens, aside), compress(objects, aside), strict=True))
        kinds = list(map(type, objects))
        weakly = {kind for kind in set(kinds) if kind.__weakrefoffset__}
        weak = list(map(gt, map(weakly.__contains__, kinds), aside))  # and not aside
        strong = list(map(not_, map(or_, aside, weak)))
        hard = list(compress(tokens, strong))
        self._strong.update(zip(hard, compress(objects, strong), strict=True))
        self._tokens.update(zip(compress(ids, strong), hard, strict=True))
        soft, soft_ids = list(compress(tokens, weak)), list(compress(ids, weak))
        watched = map(weakref.ref, compress(objects, weak), repeat(self._died.append))
        self._weak.update(zip(soft, watched, strict=True))
        self._tokens.update(zip(soft_ids, soft, strict=True))
        self._weak_ids.update(zip(soft, soft_ids, strict=True))
        return list(map(not_, aside))

    def _lives_at(self, number: int) -> bool:
        item = self.peek(self._tokens[number])
        return item is not None and id(item) == number

    def find(self, item: Any) -> int | None:
        """The token of an object, or None."""
        token = self._tokens.get(id(item))
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
        if any(map(is_, found, repeat(None))):
            peek = self.peek
            references: list[Any] = list(map(self._weak.get, tokens))
            if not any(map(is_, references, repeat(None))):
                return [*map(call, references)]
            found = [
                peek(token) if item is None else item
                for token, item in zip(tokens, found, strict=True)
            ]
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
        tokens = self._tokens
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
        if self._shipments >= _SHIPMENTS:
            self._prune_cycles()
        for _ in range(_ROUNDS):
            self.bury()
            tokens = _only_ours(self._strong)
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

    def _only_ours_below(self, tokens: list[int]) -> list[int]:
        """Forgets objects; returns those of their children that now only this table holds."""
        dropped = [self._strong[token] for token in tokens]
        self._forget(tokens)
        near = set(map(id, gc.get_referents(*dropped)))
        del dropped
        below = [self._tokens[number] for number in near if number in self._tokens]
        return _only_ours({t: self._strong[t] for t in below if t in self._strong}, 1)

    def _forget(self, tokens: list[int]) -> None:
        for token in tokens:
            if token in self._weak:
                del self._weak[token]
                number = self._weak_ids.pop(token)
            else:
                number = id(self._strong.pop(token))
            self.gone.add(token)
            self.gone_ids.add(number)
            if self._tokens.get(number) == token:
                del self._tokens[number]

    def take_gone(self) -> list[int]:
        """The tokens that died since the last call."""
        gone = sorted(self.gone)
        self.gone = set()
        return gone


def _only_ours(table: dict[int, Any], more: int = 0) -> list[int]:
    if min(map(sys.getrefcount, table.values()), default=_ALONE + more + 1) > _ALONE + more:
        return []  # the usual case, at the speed of C
    counts = map(sys.getrefcount, table.values())
    return [token for token, count in zip(table, counts, strict=True) if count <= _ALONE + more]


def _baseline() -> int:
    table: dict[int, Any] = {0: [object()]}
    return max(map(sys.getrefcount, table.values()))


_ALONE = _baseline()
