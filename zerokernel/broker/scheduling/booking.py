"""Between the assignment of a slice and its grant: the lease is entered in the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import BooksClosed, LeaseBooked
    from zerokernel.broker.scheduling.records import Lease
    from zerokernel.broker.scheduling.state import SchedulerState

_NOT_GRANTED = "not granted"


def enter(state: SchedulerState, lease: Lease) -> None:
    """Has the books set a lease's limit aside, once; it is granted when they have."""
    if not lease.entered:
        lease.entered, lease.limit = True, lease.request.duration
        state.unbooked[lease.id] = lease
        state.out.reserve(lease)


def strike(state: SchedulerState, lease: Lease) -> None:
    """Has what was set aside for a lease given back that is not granted after all."""
    if lease.entered:
        state.unbooked.pop(lease.id, None)
        state.out.settle(lease, 0.0, 0.0, _NOT_GRANTED)
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
