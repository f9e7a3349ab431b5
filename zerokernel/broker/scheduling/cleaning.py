"""What happens between two sessions on one slice: its memory is verified free, and scrubbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import BrokerBegan, SliceCleaned
    from zerokernel.broker.scheduling.records import Lease, SliceRecord
    from zerokernel.broker.scheduling.state import SchedulerState


def begin(state: SchedulerState, record: SliceRecord, user: str) -> None:
    """A session has left the slice: has it looked after at once, whoever comes next."""
    if record.slice.is_cleaned:
        record.last_user = user
        _clean(state, record, scrub=state.policy.scrub == "always")


def began(state: SchedulerState, event: BrokerBegan, now: float) -> None:
    """Has all slices looked after that hold no adopted worker: whose memory is there is unknown."""
    for record in state.slices.values():
        if record.slice.is_cleaned and record.occupant is None and not record.cleaning:
            record.last_user = ""
            _clean(state, record, scrub=state.policy.scrub != "never")


def is_clean(state: SchedulerState, lease: Lease) -> bool:
    """Whether the lease's session may have the slice; has it scrubbed where it may not yet."""
    record, before = lease.slice, lease.slice.last_user
    if record.cleaning:
        return False
    strange = before is not None and before != lease.session.user
    if strange and state.policy.scrub == "between users":
        _clean(state, record, scrub=True)
        return False
    return True


def _clean(state: SchedulerState, record: SliceRecord, scrub: bool) -> None:
    record.cleaning = True
    state.lookout.touch_slice(record)
    state.out.clean(record.slice.id, scrub)


def cleaned(state: SchedulerState, event: SliceCleaned, now: float) -> None:
    """A slice was looked after."""
    record = state.slices.get(event.slice)
    if record is None:
        return
    record.cleaning = False
    if event.scrubbed:
        record.last_user = None
    if event.reason:
        record.reason = event.reason
        state.out.setback = f"{record.slice.name} was set aside"
        state.requeue_from_unusable()
    state.lookout.touch_slice(record)
    state.queue.changed.add(record.slice.size)
    state.drop_removed()
