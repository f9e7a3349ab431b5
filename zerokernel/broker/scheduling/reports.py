"""What supervisors report of the life of workers and of their tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerokernel.broker.scheduling.records import Account, Session, Worker
from zerokernel.lifecycle import Cause

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.state import SchedulerState
    from zerokernel.messages import TaskEnded, TaskReturning, TaskStarted, WorkerEnded, WorkerForked


def forked(state: SchedulerState, event: WorkerForked, now: float) -> None:
    """A worker is there."""
    session = state.sessions.get(event.session)
    if session is None:
        # It closed while its worker was forked. Kept, so that if it comes back it does
        # not get a lease for the worker that is told to end here.
        session = Session(event.session, "", Account(""), connected=False, closed=True)
        state.sessions[session.id] = session
    if session.worker is None:
        session.worker = Worker(event.process)
    else:
        # Its notebook saw the old one die before its end was reported.
        session.worker.successor = Worker(event.process)
    if session.closed:
        state.stop(session, Cause.KERNEL_LOST, now)


def started(state: SchedulerState, event: TaskStarted, now: float) -> None:
    """A task's first line runs."""
    if (lease := state.live(event.session, event.lease)) and lease.started_at is None:
        lease.started_at = now


def returning(state: SchedulerState, event: TaskReturning, now: float) -> None:
    """A task's last line is over; its results are on their way."""
    if (lease := state.live(event.session, event.lease)) and lease.ended_after is None:
        lease.ended_at, lease.ended_after = now, max(0.0, event.ran)


def ended(state: SchedulerState, event: TaskEnded, now: float) -> None:
    """The results of a task are home: its lease ends."""
    if lease := state.live(event.session, event.lease):
        # The report is about a worker, even if that of its fork was lost.
        session = lease.session
        session.worker = session.worker or Worker(0)
        session.failed_starts = 0
        state.end(lease, Cause.FINISHED, event.ran, now)


def worker_ended(state: SchedulerState, event: WorkerEnded, now: float) -> None:
    """A worker is gone, and with it the lease of the task that it ran."""
    session = state.sessions.get(event.session)
    if session is None:
        return
    known = session.worker
    session.worker = known.successor if known is not None else None
    lease = state.live(event.session, event.lease)
    if lease is not None:
        state.end(lease, event.cause, event.ran, now)
    # A lease that is bound while the worker was not (it was parked) waits for the next one.
    if session.lease is None or session.lease.granted_at is None:
        state.vacate(session)
    if known is not None or lease is not None:
        state.out.gone(session, event)
    if session.closed and session.worker is not None:
        state.stop(session, Cause.KERNEL_LOST, now)
    state.forget_if_over(session)
