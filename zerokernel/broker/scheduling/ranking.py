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
        self._keys: dict[T, tuple[Any, ...]] = {}
        self._heap: list[tuple[tuple[Any, ...], int, T]] = []
        # Equal keys: who got it first; and items need not be comparable.
        self._serial = 0

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, item: T, key: tuple[Any, ...]) -> None:
        """Puts an item in, or gives it another key."""
        if self._keys.get(item) == key:
            return
        self._keys[item] = key
        self._serial += 1
        heapq.heappush(self._heap, (key, self._serial, item))
        self._tidy()

    def drop(self, item: T) -> None:
        """Takes an item out, if it is in."""
        if self._keys.pop(item, None) is not None:
            self._tidy()

    def first(self) -> T | None:
        """Gives the item of the least key."""
        while self._heap:
            key, _, item = self._heap[0]
            if self._keys.get(item) is key:
                return item
            heapq.heappop(self._heap)
        return None

    def items(self) -> Iterator[tuple[tuple[Any, ...], T]]:
        """Gives keys and items in order, each when it is asked for: the first cost little.

        Nothing may be put in or dropped meanwhile.
        """
        heap = self._heap
        ahead = [(heap[0], 0)] if heap else []
        while ahead:
            (key, _, item), index = heapq.heappop(ahead)
            if self._keys.get(item) is key:
                yield key, item
            for child in (2 * index + 1, 2 * index + 2):
                if child < len(heap):
                    heapq.heappush(ahead, (heap[child], child))

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._keys) + _SLACK:
            self._heap = [entry for entry in self._heap if self._keys.get(entry[2]) is entry[0]]
            heapq.heapify(self._heap)
