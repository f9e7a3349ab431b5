"""Items by key, the least first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_SLACK = 16


class Ranking(Generic[T]):
    """A heap in which items get new keys: what is outdated stays in it and is skipped.

    Each operation takes O(log n), shared over many.
    """

    def __init__(self) -> None:
        # Entries are a key's parts, a serial number and the item: compared faster than nested.
        self._entries: dict[T, tuple[Any, ...]] = {}
        self._heap: list[tuple[Any, ...]] = []
        # Equal keys: who got it first; and items need not be comparable.
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: T) -> bool:
        return item in self._entries

    def put(self, item: T, key: tuple[Any, ...]) -> None:
        """Puts an item in, or gives it another key; all keys are of one length."""
        known = self._entries.get(item)
        if known is not None and known[:-2] == key:
            return
        self._serial += 1
        entry = self._entries[item] = (*key, self._serial, item)
        heapq.heappush(self._heap, entry)
        self._tidy()

    def drop(self, item: T) -> None:
        """Takes an item out, if it is in."""
        if self._entries.pop(item, None) is not None:
            self._tidy()

    def first(self) -> T | None:
        """Gives the item of the least key."""
        while self._heap:
            entry = self._heap[0]
            item: T = entry[-1]
            if self._entries.get(item) is entry:
                return item
            heapq.heappop(self._heap)
        return None

    def items(self) -> Iterator[T]:
        """Gives the items in order, each when it is asked for: the first cost little.

        Nothing may be put in or dropped meanwhile.
        """
        self.first()  # outdated ones before it need not be gone through again and again
        heap = self._heap
        ahead = [(heap[0], 0)] if heap else []
        while ahead:
            entry, index = heapq.heappop(ahead)
            if self._entries.get(entry[-1]) is entry:
                yield entry[-1]
            for child in (2 * index + 1, 2 * index + 2):
                if child < len(heap):
                    heapq.heappush(ahead, (heap[child], child))

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
