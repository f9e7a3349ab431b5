"""Places in the queue and when each is expected to start."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from zerokernel.broker.scheduling import order
from zerokernel.broker.scheduling.records import Lease, Request, SliceRecord


class Queue:
    """The requests that wait, by size."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}
        self._by_size: dict[str, dict[str, Request]] = {}
        # Sizes whose places may have changed since they were last told.
        self.changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        """Puts a request in."""
        self._requests[request.id] = request
        self._by_size.setdefault(request.size, {})[request.id] = request
        request.session.waiting += 1
        self.changed.add(request.size)

    def remove(self, request: Request) -> None:
        """Takes a request out."""
        del self._requests[request.id]
        del self._by_size[request.size][request.id]
        request.session.waiting -= 1
        self.changed.add(request.size)

    def tell_again(self, request: Request) -> None:
        """Has a request's place told even if it did not change."""
        request.place, request.reason = 0, ""
        self.changed.add(request.size)

    def find(self, request: str) -> Request | None:
        """Gives the waiting request of that id."""
        return self._requests.get(request)

    def of_session(self, session: str) -> list[Request]:
        """Gives what a session has waiting."""
        return [one for one in self._requests.values() if one.session.id == session]

    def of_size(self, size: str) -> list[Request]:
        """Gives those who wait for a size, in no order."""
        return list(self._by_size.get(size, {}).values())

    def sizes(self) -> list[str]:
        """Gives the sizes that somebody waits for."""
        return [size for size, requests in self._by_size.items() if requests]

    def in_order(self, size: str, now: float) -> list[Request]:
        """Gives those who wait for a size, next one first."""
        requests = self._by_size.get(size, {}).values()
        return sorted(requests, key=lambda one: order.key(one, now))


def remaining(lease: Lease, now: float) -> float:
    """Gives the seconds for which a lease may still run by its declared limit."""
    known = (lease.started_at, lease.granted_at, now)
    begun = next(time for time in known if time is not None)
    return max(0.0, begun + (lease.limit or lease.request.duration) - now)


def expected_starts(
    requests: Iterable[Request], slices: Sequence[SliceRecord], now: float
) -> list[float | None]:
    """Gives the seconds to each expected start, from the limits of those before it.

    None where no slice is usable. ``requests`` are in order, ``slices`` all of their size.
    """
    usable = [one for one in slices if not one.set_aside]
    ends = [remaining(one.lease, now) if one.lease else 0.0 for one in usable]
    heapq.heapify(ends)
    starts: list[float | None] = []
    for request in requests:
        if not ends:
            starts.append(None)
            continue
        starts.append(ends[0])
        heapq.heapreplace(ends, ends[0] + request.duration)
    return starts


def explain(request: Request, place: int, slices: Sequence[SliceRecord]) -> str:
    """Says in words for the user why a request waits where it does."""
    usable = [one for one in slices if not one.set_aside]
    if not usable:
        why = "; ".join(sorted({one.set_aside for one in slices}))
        return f"no slice of size {request.size!r} is usable now: {why}"
    if place > 1:
        return f"first come, first served: {place - 1} before you"
    if request.session.lease is not None:
        return "your notebook's previous cell still holds its lease"
    if len(usable) > 1:
        return f"next: all {len(usable)} slices of size {request.size!r} are in use"
    if usable[0].cleaning:
        return f"next: the memory of {usable[0].slice.name} is being verified"
    holder = usable[0].lease
    return f"next: {usable[0].slice.name} is used by {holder.session.name!r}" if holder else "next"
