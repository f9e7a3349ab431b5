"""When notebooks are told their places, and which."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from zerokernel.broker.scheduling import allowance
from zerokernel.broker.scheduling.explaining import explain, far_back, next_free
from zerokernel.broker.scheduling.waiting import expected_starts

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.line import Place
    from zerokernel.broker.scheduling.records import Request
    from zerokernel.broker.scheduling.state import SchedulerState

# Of those farther back only the number ahead is told, for each of them has all to look at.
_EXPLAINED = 20


class Teller:
    """Tells places as they change: at once while few wait, else now and then, and not to all.

    Attributes:
        due: When a `Tick` is needed for what was not told yet; inf where there is nothing.
    """

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._last = -math.inf
        self._setback = ""
        self.due = math.inf

    def tell(self, now: float) -> None:
        """Tells what changed, unless it is too soon."""
        state = self._state
        if not state.queue.changed:
            self.due = math.inf
            return
        state.out.setback = self._setback = state.out.setback or self._setback
        few = len(state.queue) <= state.policy.places_at_once
        next_time = self._last + state.policy.places_seconds
        # A clock that jumped back makes nobody wait.
        if not few and self._last <= now < next_time:
            self.due = next_time
            return
        self._last, self.due, self._setback = now, math.inf, ""
        for size in sorted(state.queue.changed):
            self._tell_size(size, now)
        self._tell_new()
        state.queue.changed.clear()

    def why(self, name: str, now: float) -> str:
        """Says why a waiting request waits where it does; see `SchedulerState.why`."""
        state = self._state
        request = state.queue.find(name)
        if request is None:
            return ""
        places = list(_up_to(state.queue.places(request.size), request))
        held_back, supply = self._held_back(request), state.lookout.supply(request.size)
        reason = explain(places, supply, state.policy, held_back)
        reason = allowance.beyond(state, request) + reason
        slices = state.of_size(request.size)
        return "; ".join(filter(None, (reason, next_free(slices, now))))

    def _tell_size(self, size: str, now: float) -> None:
        state = self._state
        if not state.queue.waiting_for(size):
            return
        places = list(islice(state.queue.places(size), state.policy.places_told))
        there = state.lookout.supply(size)
        free_in = state.lookout.free_in(size, len(places), now)
        starts = expected_starts([one.request for one in places], free_in)
        for number, (place, start) in enumerate(zip(places, starts, strict=True), 1):
            reason = far_back(_EXPLAINED)
            if number <= _EXPLAINED:
                held_back = self._held_back(place.request)
                reason = explain(places[:number], there, state.policy, held_back)
            reason = allowance.beyond(state, place.request) + reason
            state.out.place(place.request, number, start, reason)
            state.queue.untold.pop(place.request.id, None)

    def _held_back(self, request: Request) -> str:
        """Says what keeps a request from a slice whoever is ahead, "" where nothing does."""
        if closed := self._state.books_closed:
            return f"nothing can be granted while the ledger cannot be written: {closed}"
        return self._state.queue.standings.held_back(request.session.account)

    def _tell_new(self) -> None:
        """Tells who is too far back for a place how many wait: they are told more in time."""
        queue, told = self._state.queue, self._state.policy.places_told
        for request in queue.untold.values():
            count = queue.waiting_for(request.size)
            reason = allowance.beyond(self._state, request) + far_back(told)
            self._state.out.place(request, count, None, reason)
        queue.untold.clear()


def _up_to(places: Iterable[Place], request: Request) -> Iterator[Place]:
    """Gives places up to that of a request, and that."""
    for place in places:
        yield place
        if place.request is request:
            return
