"""The scheduler itself: `SchedulerState.handle(event, now)` gives the actions to carry out.

It has no clock, socket or thread, so that it can be property-tested and simulated. What
changes in here changes nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from zerokernel.broker.scheduling.actions import Action
from zerokernel.broker.scheduling.admission import STUCK, refusal
from zerokernel.broker.scheduling.adoption import adopt
from zerokernel.broker.scheduling.events import (
    Event,
    NotebookSaid,
    SessionClosed,
    SessionConnected,
    SessionLost,
    SlicesChanged,
    SliceSetAside,
    Tick,
    WorkerAdopted,
)
from zerokernel.broker.scheduling.limits import extend_limit, take_beats, take_parked
from zerokernel.broker.scheduling.outbox import Outbox
from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.records import (
    Lease,
    Request,
    Session,
    Slice,
    SliceRecord,
    Worker,
)
from zerokernel.broker.scheduling.waiting import Queue, expected_starts, explain
from zerokernel.lifecycle import Cause, rule_of
from zerokernel.messages import (
    Bind,
    CancelRequest,
    EndWorker,
    Heartbeat,
    LeaseEnded,
    LimitNear,
    Park,
    RequestLease,
    StopWorker,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
    WorkerParked,
)


class SchedulerState:
    """Who waits, who holds which slice, and whose worker is where.

    Invariants: a slice has at most one lease; a lease is granted only when no other
    session's worker is on its slice and its own session's is nowhere else; each granted
    lease is reserved once and settled once.
    """

    def __init__(
        self, slices: Iterable[Slice] = (), policy: Policy | None = None, arrivals: int = 0
    ) -> None:
        self.policy = policy or Policy()
        # All mutable state: these, and the records in them.
        self.slices: dict[str, SliceRecord] = {s.id: SliceRecord(s) for s in slices}
        self.sessions: dict[str, Session] = {}
        self.queue = Queue()
        self.arrivals = arrivals
        self._forgotten: list[str] = []
        self.out = Outbox(self.policy.answers_per_session)

    def __repr__(self) -> str:
        leased = sum(one.lease is not None for one in self.slices.values())
        return (
            f"<SchedulerState {leased} of {len(self.slices)} slices leased, "
            f"{len(self.queue)} waiting, {len(self.sessions)} sessions>"
        )

    def sizes(self) -> tuple[str, ...]:
        """Gives the sizes that may be asked for, smallest first."""
        least: dict[str, int] = {}
        for record in self.slices.values():
            if not record.removed:
                size, memory = record.slice.size, record.slice.memory
                least[size] = min(memory, least.get(size, memory))
        return tuple(sorted(least, key=lambda size: (least[size], size)))

    def handle(self, event: Event, now: float) -> list[Action]:
        """Takes an event in and gives what must be done, in order."""
        _HANDLERS[type(event)](self, event, now)
        self._advance_leases(now)
        self._assign_free_slices(now)
        self._park_idle_workers(now)
        self._tell_places(now)
        return self.out.take()

    def next_deadline(self) -> float | None:
        """Gives the time at which a `Tick` is needed, None if nothing is due."""
        times = [self.policy.lease_due(r.lease) for r in self.slices.values() if r.lease]
        times += [self.policy.session_due(s) for s in self.sessions.values()]
        return min((t for t in times if t != math.inf), default=None)

    def find_request(self, request: str) -> Session | None:
        """Gives the session that waits with this request or holds its lease."""
        if waiting := self.queue.find(request):
            return waiting.session
        leases = (one.lease for one in self.slices.values())
        return next((x.session for x in leases if x and x.request.id == request), None)

    def take_forgotten(self) -> list[str]:
        """Gives the sessions that are over since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    # --- sessions -----------------------------------------------------------------------

    def _connected(self, event: SessionConnected, now: float) -> None:
        session = self.sessions.get(event.session)
        if session is None:
            self.sessions[event.session] = Session(event.session, event.name, event.user)
            return
        session.name, session.user = event.name, session.user or event.user
        session.connected, session.closed, session.lost_at = True, False, None
        self._withdraw_others(session, event.requests, now)
        if session.lease is not None and session.lease.granted_at is not None:
            self.out.granted(session.lease)
        for request in self.queue.of_session(session.id):
            self.queue.tell_again(request)

    def _withdraw_others(self, session: Session, wanted: tuple[str, ...], now: float) -> None:
        """Withdraws what a notebook that comes back does not want any more."""
        for request in self.queue.of_session(session.id):
            if request.id not in wanted:
                self.queue.remove(request)
        lease = session.lease
        # A task that began ends by itself: it is finished, or its notebook has let go of it.
        if lease is not None and lease.request.id not in wanted and lease.started_at is None:
            self._release(lease, now)

    def _lost(self, event: SessionLost, now: float) -> None:
        session = self.sessions.get(event.session)
        if session is None or not session.connected:
            return
        session.connected, session.lost_at = False, now
        if not self.policy.kernel_grace_seconds:
            self._close(session, now)

    def _closed(self, event: SessionClosed, now: float) -> None:
        if session := self.sessions.get(event.session):
            session.connected = False
            self._close(session, now)

    def _close(self, session: Session, now: float) -> None:
        session.closed, session.lost_at = True, None
        for request in self.queue.of_session(session.id):
            self.queue.remove(request)
        if session.lease is not None:
            self.cut_short(session.lease, Cause.KERNEL_LOST, now)
        if session.worker is not None:
            self.stop(session, Cause.KERNEL_LOST, now)
        self._forget_if_over(session)

    def _forget_if_over(self, session: Session) -> None:
        if session.closed and session.worker is None:
            self.sessions.pop(session.id, None)
            self._forgotten.append(session.id)

    # --- what notebooks ask for ---------------------------------------------------------

    def _said(self, event: NotebookSaid, now: float) -> None:
        session = self.sessions.get(event.session)
        if session is None or session.closed:
            return
        match event.message:
            case RequestLease() as message:
                self._requested(session, message, now)
            case CancelRequest(request):
                self._cancelled(session, request, now)
            case EndWorker(target, cause):
                ignored = cause == Cause.INTERRUPTED
                self._end_worker(
                    session, target, Cause.INTERRUPTED if ignored else Cause.RESTART, now
                )

    def _requested(self, session: Session, message: RequestLease, now: float) -> None:
        if self._repeated(session, message.request):
            return
        size = message.size or next(iter(self.sizes()), "")
        refused = refusal(session, message, size, self.sizes(), self.policy)
        if refused is None and self.find_request(message.request) is not None:
            refused = "RequestRefused", "Another notebook uses this request's id."
        if refused is not None:
            self.out.refuse(session, message.request, *refused)
            return
        self.arrivals += 1
        self.queue.add(
            Request(
                message.request, session, size, message.duration, self.arrivals, now, message.firm
            )
        )

    def _repeated(self, session: Session, request: str) -> bool:
        """Answers a request that was made before."""
        if self.out.repeat(session, request):
            return True
        if session.lease is not None and session.lease.request.id == request:
            session.lease.release_at = None
            if session.lease.granted_at is not None:
                self.out.granted(session.lease)
            return True
        waiting = self.queue.find(request)
        if waiting is None or waiting.session is not session:
            return False
        self.queue.tell_again(waiting)
        return True

    def _cancelled(self, session: Session, request: str, now: float) -> None:
        waiting = self.queue.find(request)
        if waiting is not None and waiting.session is session:
            self.queue.remove(waiting)
        elif session.lease is not None and session.lease.request.id == request:
            self._release(session.lease, now)
            return
        # Also where it is not known: the cancel may have overtaken its request.
        if request not in session.answers:
            self.out.refuse(session, request, "RequestCancelled", "The request was cancelled.")

    def _release(self, lease: Lease, now: float) -> None:
        """Ends a lease whose notebook gave up, unless its task is just reporting its end."""
        session = lease.session
        if lease.granted_at is None:
            request = self._take_back(lease).id
            self.out.refuse(session, request, "RequestCancelled", "The request was cancelled.")
        elif session.worker is None:
            self.cut_short(lease, Cause.CANCELLED, now)
        elif lease.release_at is None:
            lease.release_at = now + self.policy.release_grace

    def _end_worker(self, session: Session, target: str, cause: Cause, now: float) -> None:
        other = self.sessions.get(target)
        if other is None or other.user != session.user:
            return
        other.failed_starts = 0
        if other.lease is not None and other.lease.granted_at is not None:
            self.cut_short(other.lease, cause, now)
        elif other.worker is not None:
            self.stop(other, cause, now)

    # --- what supervisors report --------------------------------------------------------

    def _forked(self, event: WorkerForked, now: float) -> None:
        session = self.sessions.get(event.session)
        if session is None:
            # It closed while its worker was forked. Kept, so that if it comes back it does
            # not get a lease for the worker that is told to end here.
            session = Session(event.session, "", "", connected=False, closed=True)
            self.sessions[session.id] = session
        if session.worker is None:
            session.worker = Worker(event.process)
        else:
            # Its notebook saw the old one die before its end was reported.
            session.worker.successor = Worker(event.process)
        if session.closed:
            self.stop(session, Cause.KERNEL_LOST, now)

    def _started(self, event: TaskStarted, now: float) -> None:
        if (lease := self.live(event.session, event.lease)) and lease.started_at is None:
            lease.started_at = now

    def _returning(self, event: TaskReturning, now: float) -> None:
        if (lease := self.live(event.session, event.lease)) and lease.ended_after is None:
            lease.ended_at, lease.ended_after = now, max(0.0, event.ran)

    def _ended(self, event: TaskEnded, now: float) -> None:
        if lease := self.live(event.session, event.lease):
            # The report is about a worker, even if that of its fork was lost.
            session = lease.session
            session.worker = session.worker or Worker(0)
            session.failed_starts = 0
            self._end(lease, Cause.FINISHED, event.ran, now)

    def _worker_ended(self, event: WorkerEnded, now: float) -> None:
        session = self.sessions.get(event.session)
        if session is None:
            return
        known = session.worker
        session.worker = known.successor if known is not None else None
        lease = self.live(event.session, event.lease)
        if lease is not None:
            self._end(lease, event.cause, event.ran, now)
        # A lease that is bound while the worker was not (it was parked) waits for the next one.
        if session.lease is None or session.lease.granted_at is None:
            self._vacate(session)
        if known is not None or lease is not None:
            self.out.gone(session, event)
        if session.closed and session.worker is not None:
            self.stop(session, Cause.KERNEL_LOST, now)
        self._forget_if_over(session)

    def live(self, session_id: str, lease_id: str) -> Lease | None:
        """Gives a session's granted lease, None where it has another or none."""
        session = self.sessions.get(session_id)
        lease = session.lease if session is not None else None
        granted = lease is not None and lease.granted_at is not None
        return lease if granted and lease is not None and lease.id == lease_id else None

    # --- slices -------------------------------------------------------------------------

    def _slices_changed(self, event: SlicesChanged, now: float) -> None:
        present = {one.id: one for one in event.slices}
        for record in list(self.slices.values()):
            record.removed = record.slice.id not in present
            if record.removed and record.occupant is not None and record.lease is None:
                self.stop(record.occupant, "evicted: its slice was removed", now)
        for one in event.slices:
            self.slices.setdefault(one.id, SliceRecord(one)).slice = one
        self._drop_removed()
        self.out.setback = "the slices changed"
        self._requeue_from_unusable()
        self._refuse_missing_sizes()

    def _set_aside(self, event: SliceSetAside, now: float) -> None:
        if record := self.slices.get(event.slice):
            record.reason = event.reason
            self.queue.changed.add(record.slice.size)
            self.out.setback = f"{record.slice.name} was set aside" if event.reason else ""
            self._requeue_from_unusable()
            lease = record.lease
            if event.lost and lease is not None and lease.granted_at is not None:
                self.cut_short(lease, f"{Cause.DEVICE_LOST}: {event.reason}", now)
            elif event.lost and record.occupant is not None:
                self.stop(record.occupant, f"{Cause.DEVICE_LOST}: {event.reason}", now)

    def _drop_removed(self) -> None:
        for record in list(self.slices.values()):
            if record.removed and record.lease is None and record.occupant is None:
                del self.slices[record.slice.id]

    def _requeue_from_unusable(self) -> None:
        """Takes back leases that are not granted yet from slices that cannot be used now."""
        for record in list(self.slices.values()):
            self.queue.changed.add(record.slice.size)
            if record.lease is not None and record.lease.granted_at is None and record.set_aside:
                self.queue.add(self._take_back(record.lease))
        self._drop_removed()

    def _refuse_missing_sizes(self) -> None:
        there = self.sizes()
        for size in self.queue.sizes():
            for request in [] if size in there else self.queue.in_order(size, 0.0):
                self.queue.remove(request)
                why = f"The last slice of size {size!r} was removed."
                self.out.refuse(request.session, request.id, "UnknownSize", why)

    # --- time ---------------------------------------------------------------------------

    def _tick(self, event: Tick, now: float) -> None:
        for record in list(self.slices.values()):
            if record.lease is not None and now >= self.policy.lease_due(record.lease):
                self.cut_short(record.lease, self.policy.overdue(record.lease), now)
        for session in list(self.sessions.values()):
            while now >= self.policy.session_due(session):
                self._session_is_due(session, now)

    def _session_is_due(self, session: Session, now: float) -> None:
        if session.lost_at is not None and now >= (
            session.lost_at + self.policy.kernel_grace_seconds
        ):
            self._close(session, now)
        elif session.worker is not None and session.worker.stopping_at is not None:
            self._give_up_on(session, session.worker)
        else:
            self.stop(session, Cause.IDLE, now)

    def _give_up_on(self, session: Session, worker: Worker) -> None:
        """Sets aside what a killed worker keeps, until its end is reported after all."""
        worker.stuck = True
        self.out.setback = f"the worker of {session.name!r} was killed and does not end"
        if session.lease is not None and session.lease.granted_at is None:
            request = self._take_back(session.lease)
            self.out.refuse(session, request.id, "WorkerStartFailed", STUCK)
        for request in self.queue.of_session(session.id):
            self.queue.remove(request)
            self.out.refuse(session, request.id, "WorkerStartFailed", STUCK)
        self._requeue_from_unusable()

    # --- the life of a lease ------------------------------------------------------------

    def _assign_free_slices(self, now: float) -> None:
        """The only place where a request gets a slice."""
        for size in self.queue.sizes():
            free = [r for r in self.slices.values() if r.is_free and r.slice.size == size]
            for request in self.queue.in_order(size, now) if free else ():
                session = request.session
                if not session.connected or session.lease is not None:
                    continue
                record = min(free, key=lambda one: one.preference(session))
                free.remove(record)
                self.queue.remove(request)
                record.lease = session.lease = Lease(request, record)
                self._advance(session.lease, now)
                if not free:
                    break

    def _advance_leases(self, now: float) -> None:
        for record in list(self.slices.values()):
            if record.lease is not None and record.lease.granted_at is None:
                self._advance(record.lease, now)

    def _advance(self, lease: Lease, now: float) -> None:
        """Grants the lease once no worker is in the way; ends those that are."""
        session, occupant = lease.session, lease.slice.occupant
        if occupant is not None and occupant is not session:
            self.stop(occupant, Cause.EVICTED, now)
        if any(r.occupant is session for r in self.slices.values() if r is not lease.slice):
            self.stop(session, "evicted: another slice", now)
        if lease.slice.occupant not in (None, session):
            return
        if session.worker is None or session.worker.stopping_at is None:
            self._grant(lease, now)

    def _grant(self, lease: Lease, now: float) -> None:
        session, one, limit = lease.session, lease.slice.slice, lease.request.duration
        lease.granted_at, lease.slice.occupant = now, session
        lease.limit = limit
        if session.worker is not None:
            session.worker.parked_at = None
        self.out.reserve(lease)
        self.out.order(
            session.id,
            Bind(
                session.id,
                lease.id,
                dict(one.environment),
                one.name,
                one.simulated,
                limit,
                self.policy.bind_seconds,
                lease.request.id,
                one.id,
            ),
        )
        self.out.granted(lease)

    def _end(self, lease: Lease, reason: str, ran: float, now: float) -> None:
        """The only place where a granted lease ends: settled, told, remembered."""
        granted_at = lease.granted_at if lease.granted_at is not None else now
        held = max(0.0, now - granted_at)
        # A worker's process is its user's: what it reports is held against our own clock.
        ran = min(max(0.0, ran), held) if math.isfinite(ran) else held
        session = lease.session
        lease.slice.lease = session.lease = None
        if reason == Cause.START_FAILED:
            session.failed_starts += 1
        self.out.settle(lease, ran if rule_of(reason).charged else 0.0, held, reason)
        self.out.answer(session, lease.request.id, LeaseEnded(lease.id, reason, ran, held))
        self.queue.changed.add(lease.slice.slice.size)
        if session.worker is None:
            self._vacate(session)

    def cut_short(self, lease: Lease, reason: str, now: float) -> None:
        """Ends a lease whose task may still run, and its worker with it."""
        session = lease.session
        if lease.granted_at is None:
            self._take_back(lease)
            return
        self._end(lease, reason, lease.ran(now), now)
        if session.worker is not None or session.closed:
            self.stop(session, reason, now)
        else:
            # Whoever comes for its Bind now comes for the session's next request, and is
            # forked anew; a worker that is there by then without it is left alone.
            self.out.order(session.id, StopWorker(session.id, Cause.REPLACED, lease=lease.id))

    def _take_back(self, lease: Lease) -> Request:
        """Undoes the assignment of a slice that was not granted yet."""
        lease.slice.lease = lease.session.lease = None
        self.queue.changed.add(lease.slice.slice.size)
        return lease.request

    def stop(self, session: Session, cause: str, now: float) -> None:
        """Has the session's worker ended, or the Bind for one to come taken back."""
        if session.worker is None:
            # None is known, but the supervisor may hold a Bind for one to come.
            self._vacate(session)
        elif session.worker.stopping_at is not None:
            return
        else:
            session.worker.stopping_at = now
        self.out.order(session.id, StopWorker(session.id, cause, _process(session)))

    def _vacate(self, session: Session) -> None:
        for record in self.slices.values():
            if record.occupant is session:
                record.occupant = None
                self.queue.changed.add(record.slice.size)
        self._drop_removed()

    def _park_idle_workers(self, now: float) -> None:
        for record in self.slices.values():
            session = record.occupant if record.lease is None else None
            worker = session.worker if session is not None else None
            if session is None or worker is None or worker.stopping_at is not None:
                continue
            if record.removed:
                self.stop(session, "evicted: its slice was removed", now)
            elif worker.parked_at is None:
                worker.parked_at, worker.memory = now, 0
                self.out.order(session.id, Park(session.id, _process(session)))

    def _tell_places(self, now: float) -> None:
        for size in sorted(self.queue.changed):
            requests = self.queue.in_order(size, now)
            slices = [r for r in self.slices.values() if r.slice.size == size]
            starts = expected_starts(requests, slices, now)
            for place, (request, start) in enumerate(zip(requests, starts, strict=True), 1):
                self.out.place(request, place, start, explain(request, place, slices))
        self.queue.changed.clear()


_HANDLERS: dict[type[Any], Callable[[SchedulerState, Any, float], None]] = {
    SessionConnected: SchedulerState._connected,
    SessionLost: SchedulerState._lost,
    SessionClosed: SchedulerState._closed,
    NotebookSaid: SchedulerState._said,
    WorkerForked: SchedulerState._forked,
    TaskStarted: SchedulerState._started,
    TaskEnded: SchedulerState._ended,
    TaskReturning: SchedulerState._returning,
    WorkerEnded: SchedulerState._worker_ended,
    LimitNear: lambda state, event, now: extend_limit(state, event),
    Heartbeat: lambda state, event, now: take_beats(state, event, now),
    WorkerParked: take_parked,
    WorkerAdopted: adopt,
    SlicesChanged: SchedulerState._slices_changed,
    SliceSetAside: SchedulerState._set_aside,
    Tick: SchedulerState._tick,
}


def _process(session: Session) -> int:
    return session.worker.process if session.worker is not None else 0
