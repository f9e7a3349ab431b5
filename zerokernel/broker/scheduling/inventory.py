"""The slices that there are: which came, went, or cannot be used for now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling.records import SliceRecord
from zerokernel.lifecycle import Cause

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import SlicesChanged, SliceSetAside
    from zerokernel.broker.scheduling.state import SchedulerState


def slices_changed(state: SchedulerState, event: SlicesChanged, now: float) -> None:
    """Takes in which slices there are now."""
    present = {one.id: one for one in event.slices}
    for record in list(state.slices.values()):
        record.removed = record.slice.id not in present
        if record.removed and record.occupant is not None and record.lease is None:
            state.stop(record.occupant, "evicted: its slice was removed", now)
    for one in event.slices:
        # Of one that was not here a moment ago nobody knows what it holds.
        unknown = SliceRecord(one, last_user="" if one.is_cleaned else None)
        state.slices.setdefault(one.id, unknown).slice = one
    state.removed = {name: one for name, one in state.slices.items() if one.removed}
    state.recount_slices()
    state.drop_removed()
    state.out.setback = "the slices changed"
    state.requeue_from_unusable()
    _refuse_missing_sizes(state)


def set_aside(state: SchedulerState, event: SliceSetAside, now: float) -> None:
    """Has a slice not leased any more, or again; ends its worker if its device is lost."""
    if record := state.slices.get(event.slice):
        record.reason = event.reason
        state.lookout.touch_slice(record)
        state.queue.changed.add(record.slice.size)
        state.out.setback = f"{record.slice.name} was set aside" if event.reason else ""
        state.requeue_from_unusable()
        lease = record.lease
        if event.spoils and lease is not None:
            lease.spoiled = lease.spoiled or event.reason
        if event.lost and lease is not None and lease.granted_at is not None:
            state.cut_short(lease, f"{Cause.DEVICE_LOST}: {event.reason}", now)
        elif event.lost and record.occupant is not None:
            state.stop(record.occupant, f"{Cause.DEVICE_LOST}: {event.reason}", now)


def _refuse_missing_sizes(state: SchedulerState) -> None:
    there = state.sizes()
    for size in state.queue.sizes():
        for request in [] if size in there else state.queue.in_order(size):
            state.queue.remove(request)
            why = f"The last slice of size {size!r} was removed."
            state.out.refuse(request.session, request.id, "UnknownSize", why)
