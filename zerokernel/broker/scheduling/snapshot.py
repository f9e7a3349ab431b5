"""The state as plain data: what `%gpu`, `zerokernel status`, the log and tests read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zerokernel.broker.scheduling.records import Session, SliceRecord
from zerokernel.broker.scheduling.sizes import describe
from zerokernel.broker.scheduling.waiting import expected_starts, remaining

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.state import SchedulerState


def snapshot(state: SchedulerState, now: float) -> dict[str, Any]:
    """Gives slices, queue and sessions, JSON-able. Times are seconds, memory bytes."""
    return {
        "books_closed": state.books_closed,
        "sizes": list(state.sizes()),
        "offers": [describe(one) for one in state.offers()],
        "slices": [_slice(record, now) for record in state.slices.values()],
        "queue": _queue(state, now),
        "sessions": [_session(session, now) for session in state.sessions.values()],
    }


def _slice(record: SliceRecord, now: float) -> dict[str, Any]:
    lease, one = record.lease, record.slice
    who = lease.session if lease is not None else record.occupant
    return {
        "name": one.name,
        "display": one.display,
        "size": one.size,
        "memory": one.memory,
        "simulated": one.simulated,
        "kind": one.kind,
        "capability": list(one.capability),
        "limits": dict(one.limits),
        "state": _slice_state(record),
        "reason": record.set_aside,
        "session": who.id if who is not None else "",
        "session_name": who.name if who is not None else "",
        "remaining": remaining(lease, now) if lease is not None else None,
    }


def _slice_state(record: SliceRecord) -> str:
    if record.lease is not None and not record.cleaning:
        return "leased"
    if record.set_aside:
        return "set aside"
    if record.cleaning:
        return "cleaning"
    worker = record.occupant.worker if record.occupant is not None else None
    if worker is None:
        return "free"
    return "parked" if worker.stopping_at is None else "ending"


def _queue(state: SchedulerState, now: float) -> list[dict[str, Any]]:
    rows = []
    for size in state.queue.sizes():
        requests = state.queue.in_order(size)
        free_in = state.lookout.free_in(size, len(requests), now)
        starts = expected_starts(requests, free_in)
        for place, (request, start) in enumerate(zip(requests, starts, strict=True), 1):
            rows.append(
                {
                    "request": request.id,
                    "session": request.session.id,
                    "session_name": request.session.name,
                    "size": size,
                    "duration": request.duration,
                    "place": place,
                    "starts_in": start,
                    "waited": now - request.arrived_at,
                    "reason": request.reason,
                }
            )
    return rows


def _session(session: Session, now: float) -> dict[str, Any]:
    worker, lease = session.worker, session.lease
    return {
        "session": session.id,
        "name": session.name,
        "user": session.user,
        "group": session.account.group,
        "tier": session.account.tier,
        "connected": session.connected,
        "lease": lease.id if lease is not None else "",
        "slice": lease.slice.slice.name if lease is not None else "",
        "waiting": session.waiting,
        "worker": None
        if worker is None
        else {
            "process": worker.process,
            "state": _worker_state(session),
            "parked_for": None if worker.parked_at is None else now - worker.parked_at,
        },
    }


def _worker_state(session: Session) -> str:
    worker = session.worker
    if worker is None:
        return "none"
    if worker.stopping_at is not None:
        return "ending"
    if session.lease is not None and session.lease.granted_at is not None:
        return "bound"
    return "parked" if worker.parked_at is not None else "forked"
