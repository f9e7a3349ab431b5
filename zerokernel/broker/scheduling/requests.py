"""What notebooks ask for: a lease, to have a request withdrawn, or a worker ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling import allowance
from zerokernel.broker.scheduling.admission import refusal
from zerokernel.broker.scheduling.records import Lease, Request, Session
from zerokernel.broker.scheduling.sizes import choose
from zerokernel.lifecycle import Cause
from zerokernel.messages import CancelRequest, EndWorker, RequestLease

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import NotebookSaid
    from zerokernel.broker.scheduling.state import SchedulerState


def said(state: SchedulerState, event: NotebookSaid, now: float) -> None:
    """Takes in what a notebook asks for, unless it is over."""
    session = state.sessions.get(event.session)
    if session is None or session.closed:
        return
    match event.message:
        case RequestLease() as message:
            _requested(state, session, message, now)
        case CancelRequest(request):
            _cancelled(state, session, request, now)
        case EndWorker(target, cause):
            ignored = cause == Cause.INTERRUPTED
            _end_worker(
                state, session, target, Cause.INTERRUPTED if ignored else Cause.RESTART, now
            )


def _requested(state: SchedulerState, session: Session, message: RequestLease, now: float) -> None:
    if _repeated(state, session, message.request):
        return
    there = state.offers()
    size = choose(message, there)
    overfull = state.queue.standings.overfull(session.account)
    refused = refusal(session, message, size, there, state.policy, overfull)
    if refused is None and state.find_request(message.request) is not None:
        refused = "RequestRefused", "Another notebook uses this request's id."
    if refused is not None:
        state.out.refuse(session, message.request, *refused)
        return
    state.arrivals += 1
    asked = Request(
        message.request, session, size, message.duration, state.arrivals, now, message.firm
    )
    if state.quotas.is_beyond(asked, state.queue.standings.time):
        asked.beyond_quota = True
        if state.policy.over_quota == allowance.REFUSE:
            reason = allowance.used_up(state, asked)
            state.out.refuse(session, asked.id, "QuotaExceeded", reason)
            return
    state.queue.add(asked)
    if asked.beyond_quota:
        allowance.review(state, session.user)


def _repeated(state: SchedulerState, session: Session, request: str) -> bool:
    """Answers a request that was made before."""
    if state.out.repeat(session, request):
        return True
    if session.lease is not None and session.lease.request.id == request:
        session.lease.release_at = None
        if session.lease.granted_at is not None:
            state.out.granted(session.lease)
        return True
    waiting = state.queue.find(request)
    if waiting is None or waiting.session is not session:
        return False
    state.queue.tell_again(waiting)
    return True


def _cancelled(state: SchedulerState, session: Session, request: str, now: float) -> None:
    waiting = state.queue.find(request)
    if waiting is not None and waiting.session is session:
        state.queue.remove(waiting)
    elif session.lease is not None and session.lease.request.id == request:
        release(state, session.lease, now)
        return
    # Also where it is not known: the cancel may have overtaken its request.
    if request not in session.answers:
        state.out.refuse(session, request, "RequestCancelled", "The request was cancelled.")


def release(state: SchedulerState, lease: Lease, now: float) -> None:
    """Ends a lease whose notebook gave up, unless its task is just reporting its end."""
    session = lease.session
    if lease.granted_at is None:
        request = state.take_back(lease).id
        state.out.refuse(session, request, "RequestCancelled", "The request was cancelled.")
    elif session.worker is None:
        state.cut_short(lease, Cause.CANCELLED, now)
    elif lease.release_at is None:
        lease.release_at = now + state.policy.release_grace


def _end_worker(
    state: SchedulerState, session: Session, target: str, cause: Cause, now: float
) -> None:
    other = state.sessions.get(target)
    if other is None or other.user != session.user:
        return
    other.failed_starts = 0
    if other.lease is not None and other.lease.granted_at is not None:
        state.cut_short(other.lease, cause, now)
    elif other.worker is not None:
        state.stop(other, cause, now)
