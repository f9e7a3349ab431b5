"""Between the assignment of a slice and its grant: the lease is entered in the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling.allowance import review

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import BooksClosed, LeaseBooked
    from zerokernel.broker.scheduling.records import Lease
    from zerokernel.broker.scheduling.state import SchedulerState

_NOT_GRANTED = "not granted"


def enter(state: SchedulerState, lease: Lease) -> None:
    """Has the books set a lease's limit aside, once; it is granted when they have.

    The limit shrinks to what is left of the quota. Where too little is left by now, the request
    goes back to wait behind those within quota.
    """
    if lease.entered:
        return
    request, time = lease.request, state.queue.standings.time
    if not request.beyond_quota and state.quotas.is_beyond(request, time):
        state.queue.add(state.take_back(lease))
        review(state, lease.session.user)
        return
    lease.entered, lease.limit = True, request.duration
    if not request.beyond_quota:
        lease.limit = state.quotas.affordable(
            lease.session.account, request.size, request.duration, time
        )
    state.unbooked[lease.id] = lease
    reserve(state, lease)


def reserve(state: SchedulerState, lease: Lease) -> None:
    """Holds a lease's limit, against its user's quota and in the books."""
    time = state.queue.standings.time
    hold = state.quotas.hold(lease.id, lease.request, lease.limit, time)
    state.out.reserve(lease, hold)
    review(state, lease.session.user)


def settle(state: SchedulerState, lease: Lease, charged: float, held: float, cause: str) -> None:
    """Replaces what a lease holds by the seconds that it is charged."""
    user = lease.session.user
    state.quotas.settle(lease.id, user, charged, state.queue.standings.time)
    state.out.settle(lease, charged, held, cause)
    review(state, user)


def strike(state: SchedulerState, lease: Lease) -> None:
    """Has what was set aside for a lease given back that is not granted after all."""
    if lease.entered:
        state.unbooked.pop(lease.id, None)
        settle(state, lease, 0.0, 0.0, _NOT_GRANTED)
        # The books know that id now: what the request gets next is another lease.
        state.arrivals += 1
        lease.request.number = state.arrivals


def booked(state: SchedulerState, event: LeaseBooked, now: float) -> None:
    """The books have a lease."""
    if lease := state.unbooked.pop(event.lease, None):
        lease.booked = True


def closed(state: SchedulerState, event: BooksClosed, now: float) -> None:
    """The books cannot be written, or can be again: who was about to be served waits on."""
    if event.reason == state.books_closed:
        return
    state.books_closed = event.reason
    state.out.setback = "the ledger could not be written" if event.reason else ""
    for lease in list(state.unbooked.values()):
        state.queue.add(state.take_back(lease))
    state.queue.changed.update(state.queue.sizes())
