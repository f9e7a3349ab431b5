"""Which of the known objects changed: their references compared with those of before.

The whole mutable state of a structural object is its references, and what is referred to
is either known itself, or immutable and kept alive here, or its death is told: so equal
addresses mean equal references. A false "changed" costs time only.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, repeat
from operator import is_, not_
from typing import Any

from zerokernel.crossing.addresses import addresses
from zerokernel.crossing.kinds import plan_of, plans_of, uniform
from zerokernel.crossing.parts import InstanceClass, Plan

_MANY = 40  # segments
_FEW = 16  # rows

_UNTABLED = frozenset({int, float, complex})
"""Types whose objects pickle does not number, so that no table keeps or watches them."""

_ATOMS = _UNTABLED | {bool, type(None)}
"""Types whose objects are small and refer to nothing: a lane of these alone is kept as it is."""

Digest = Callable[[Any, Plan, Any], Any]
"""Digests an object of a plan; to be compared with an earlier digest, if that is not None."""
Find = Callable[[list[int]], list[Any]]


@dataclass
class Segment:
    """The objects of one plan: per lane the number of references of each, and all of them."""

    plan: Plan
    tokens: list[int]
    lengths: list[list[int]] = field(default_factory=list)
    ids: list[array[int]] = field(default_factory=list)
    facts: list[list[Any]] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)

    def fill(self, objects: Sequence[Any]) -> None:
        """Notes the present references of the objects."""
        for lengths, references in self.plan.lanes(objects):
            present = tuple(references)
            self.lengths.append(list(lengths))
            self.ids.append(addresses(present))
            kinds = set(map(type, present))
            if kinds <= _ATOMS:
                self.kept.append(present)
            elif not kinds.isdisjoint(_UNTABLED):
                untabled = map(_UNTABLED.__contains__, map(type, present))
                self.kept.append(list(compress(present, untabled)))
        self.facts = _facts(self.plan, objects)

    def changed(self, objects: Sequence[Any], gone: set[int]) -> set[int]:
        """The tokens of objects whose references or facts are not what they were."""
        changed: set[int] = set()
        for index, (lengths, references) in enumerate(self.plan.lanes(objects)):
            now_lengths, now = list(lengths), addresses(tuple(references))
            before = self.ids[index]
            stale = bool(gone) and not gone.isdisjoint(before)
            if stale or now_lengths != self.lengths[index] or now != before:
                changed |= self._compare(index, now_lengths, now, gone)
                if index == 0 and changed and isinstance(self.plan.parts[0], InstanceClass):
                    return changed | self._without_changed(changed, objects, gone)
        for was, facts in zip(self.facts, _facts(self.plan, objects), strict=True):
            pairs = zip(self.tokens, was, facts, strict=True)
            changed.update(token for token, old, new in pairs if old != new)
        return changed

    def _without_changed(
        self, changed: set[int], objects: Sequence[Any], gone: set[int]
    ) -> set[int]:
        """Looks at the rest: the attributes of an object of another class lie elsewhere."""
        same = [token not in changed for token in self.tokens]
        rest = Segment(self.plan, list(self.tokens), kept=self.kept)
        rest.lengths = [list(lengths) for lengths in self.lengths]
        rest.ids = [array("Q", ids) for ids in self.ids]
        rest.facts = [list(facts) for facts in self.facts]
        return rest._only(same).changed(list(compress(objects, same)), gone)

    def _compare(self, lane: int, lengths: list[int], now: array[int], gone: set[int]) -> set[int]:
        changed = set()
        old, before = self.lengths[lane], self.ids[lane]
        starts = zip(accumulate(old, initial=0), accumulate(lengths, initial=0), strict=True)
        for token, was, size, (start, begin) in zip(
            self.tokens, old, lengths, starts, strict=False
        ):
            part = before[start : start + was]
            if was != size or part != now[begin : begin + size] or not gone.isdisjoint(part):
                changed.add(token)
        return changed

    def _cut_out(self, left_out: list[int]) -> Segment:
        """Takes out a few rows, at the cost of moving memory."""
        for index in reversed(left_out):
            del self.tokens[index]
            for lengths, ids in zip(self.lengths, self.ids, strict=True):
                start = sum(lengths[:index])
                del ids[start : start + lengths[index]]
                del lengths[index]
            for facts in self.facts:
                del facts[index]
        return self

    def _nothing(self) -> Segment:
        lanes, facts = range(len(self.ids)), range(len(self.facts))
        return Segment(
            self.plan, [], [[] for _ in lanes], [array("Q") for _ in lanes], [[] for _ in facts]
        )

    def join(self, other: Segment) -> None:
        """Takes over the objects of another segment of the same plan."""
        self.tokens += other.tokens
        for mine, theirs in zip(self.lengths, other.lengths, strict=True):
            mine += theirs
        for ids, more in zip(self.ids, other.ids, strict=True):
            ids += more
        for facts, further in zip(self.facts, other.facts, strict=True):
            facts += further
        self.kept += other.kept

    def without_dead(self, objects: Sequence[Any]) -> tuple[Segment, list[Any]]:
        """The same without objects that died."""
        alive = [item is not None for item in objects]
        return self._only(alive), list(compress(objects, alive))

    def without(self, tokens: set[int]) -> Segment:
        """The same without some objects; itself where it has none of them."""
        if tokens.isdisjoint(self.tokens):
            return self
        return self._only(list(map(not_, map(tokens.__contains__, self.tokens))))

    def _only(self, chosen: list[bool]) -> Segment:
        if not any(chosen):
            return self._nothing()
        left_out = [index for index, keep in enumerate(chosen) if not keep]
        if len(left_out) <= _FEW:
            return self._cut_out(left_out)
        made = Segment(self.plan, list(compress(self.tokens, chosen)), kept=self.kept)
        for lengths, ids in zip(self.lengths, self.ids, strict=True):
            each = chain.from_iterable(map(repeat, chosen, lengths))
            made.lengths.append(list(compress(lengths, chosen)))
            made.ids.append(array("Q", compress(ids, each)))
        made.facts = [list(compress(facts, chosen)) for facts in self.facts]
        return made


def _facts(plan: Plan, objects: Sequence[Any]) -> list[list[Any]]:
    found = [part.facts(objects) for part in plan.parts]
    return [facts for facts in found if facts]


class Snapshot:
    """What the objects of a table referred to when both sides last agreed on them.

    Args:
        digest: Gives the digest of an object whose state is not its references alone.
    """

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._segments: list[Segment] = []
        self.buffers: set[int] = set()
        self.digests: dict[int, Any] = {}

    def take(self, tokens: Sequence[int], objects: Sequence[Any]) -> None:
        """Notes the present state of objects, new ones or known ones."""
        if self._segments:
            known = set(tokens)
            self._segments = [segment.without(known) for segment in self._segments]
        for plan, (members, items) in _by_plan(tokens, objects).items():
            self._add(plan, members, items)
        self._join_small()

    def _add(self, plan: Plan, tokens: list[int], objects: list[Any]) -> None:
        if plan.content == "buffer":
            self.buffers.update(tokens)
        elif plan.content in ("opaque", "getstate"):
            for token, item in zip(tokens, objects, strict=True):
                self.digests[token] = self._digest(item, plan, None)
        segment = Segment(plan, tokens)
        segment.fill(objects)
        self._segments.append(segment)

    def _join_small(self) -> None:
        """Keeps the segments few: each cell adds some, and each costs a fixed time to verify."""
        if len(self._segments) <= _MANY:
            return
        joined: dict[Plan, Segment] = {}
        for segment in self._segments:
            first = joined.setdefault(segment.plan, segment)
            if first is not segment:
                first.join(segment)
        self._segments = [segment for segment in joined.values() if segment.tokens]

    def forget(self, tokens: Iterable[int]) -> None:
        """Objects that the other side no longer holds."""
        gone = set(tokens)
        self._segments = [segment.without(gone) for segment in self._segments]
        self.bury(gone)

    def bury(self, gone: set[int]) -> None:
        """Objects that died; of those with references `changed` notices it by itself."""
        self.buffers -= gone
        for token in gone & self.digests.keys():
            del self.digests[token]

    def changed(self, find: Find, gone: set[int]) -> set[int]:
        """The tokens of the living objects that changed since; buffers are not looked at.

        Args:
            find: Gives the objects of tokens, None for those that died.
            gone: Addresses of known objects that died since: they may be used again.
        """
        changed: set[int] = set()
        for index, segment in enumerate(self._segments):
            objects = find(segment.tokens)
            if any(map(is_, objects, repeat(None))):
                segment, objects = segment.without_dead(objects)
                self._segments[index] = segment
            if segment.plan.parts and objects:
                changed |= segment.changed(objects, gone)
        items = find(list(self.digests))
        for (token, before), item in zip(self.digests.items(), items, strict=True):
            if item is not None and self._digest(item, plan_of(item), before) != before:
                changed.add(token)
        return changed

    def holders(self, tokens: Iterable[int]) -> set[int]:
        """Those whose digest names one of the tokens: a new token of it is no change of theirs."""
        gone = set(tokens)
        if not gone:
            return set()
        return {token for token, found in self.digests.items() if not gone.isdisjoint(found.holds)}

    def tokens(self) -> set[int]:
        """The tokens of all mutable objects."""
        return {token for segment in self._segments for token in segment.tokens}


Groups = dict[Plan, tuple[list[int], list[Any]]]


def _by_plan(tokens: Sequence[int], objects: Sequence[Any]) -> Groups:
    """The mutable ones among the objects, by plan."""
    groups: Groups = {}
    kinds = list(map(type, objects))
    if len(set(kinds)) >= _MANY:
        for token, item in zip(tokens, objects, strict=True):
            _put_into(groups, plan_of(item), [token], [item])
        return groups
    for kind, sample in dict(zip(kinds, objects, strict=True)).items():
        plan_of(sample)  # so that `uniform` knows the type
        plan = uniform(kind)
        if plan is not None and not plan.mutable:
            continue
        chosen = list(map(is_, kinds, repeat(kind)))
        members, items = list(compress(tokens, chosen)), list(compress(objects, chosen))
        for each, such in plans_of(kind, items).items():
            _put_into(groups, each, compress(members, such), compress(items, such))
    return groups


def _put_into(groups: Groups, plan: Plan, tokens: Iterable[int], objects: Iterable[Any]) -> None:
    if plan.mutable:
        members, items = groups.setdefault(plan, ([], []))
        members.extend(tokens)
        items.extend(objects)
