"""Workers that outlived an earlier broker: their leases go on under this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling import booking
from zerokernel.broker.scheduling.records import Account, Request, Session, SliceRecord, Worker
from zerokernel.lifecycle import Cause

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import WorkerAdopted
    from zerokernel.broker.scheduling.state import SchedulerState

_NAMELESS = "a notebook that has not come back yet"


def adopt(state: SchedulerState, event: WorkerAdopted, now: float) -> None:
    """Takes a worker over, with the slice where it is and the lease that it runs under.

    Its notebook has the grace time to come back. A worker whose slice is not offered any
    more is ended.
    """
    kept, account = event.kept, Account(event.user, event.group, event.tier)
    session = state.sessions.setdefault(
        kept.session,
        Session(kept.session, _NAMELESS, account, connected=False, lost_at=now),
    )
    session.worker = Worker(kept.process)
    state.watch(session)
    if not kept.slice_id:
        return
    record = state.slices.get(kept.slice_id)
    if record is None or record.occupant is not None or record.lease is not None:
        state.stop(session, f"{Cause.EVICTED}: its slice is not offered any more", now)
        return
    record.occupant = session
    if kept.lease:
        _take_lease(state, session, record, event, now)


def _take_lease(
    state: SchedulerState, session: Session, record: SliceRecord, event: WorkerAdopted, now: float
) -> None:
    kept = event.kept
    begun = now - max(0.0, kept.ran)
    # What is charged is bounded by the time held, which began a moment before the first line.
    granted = now - max(0.0, kept.ran, kept.held)
    # The lease keeps its id, which ends with the number that its request once had.
    arrival = int(kept.lease.rpartition(".")[2])
    request = Request(kept.request, session, record.slice.size, kept.limit, arrival, granted)
    request.beyond_quota = not event.weight
    lease = state.assign(request, record)
    lease.granted_at, lease.limit = granted, kept.limit
    lease.entered = lease.booked = True
    lease.started_at = begun if kept.ran >= 0 else None
    booking.reserve(state, lease)
