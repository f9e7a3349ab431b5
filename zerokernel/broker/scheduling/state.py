"""The scheduler itself: `SchedulerState.handle(event, now)` gives the actions to carry out.

It has no clock, socket or thread, so that it can be property-tested and simulated. Each event
goes to the function that takes it in, here or in a module of this folder; where leases begin
and end, and what follows from it for others, is here alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from zerokernel.broker.scheduling import (
    allowance,
    booking,
    cleaning,
    inventory,
    reports,
    requests,
    sessions,
)
from zerokernel.broker.scheduling.actions import Action
from zerokernel.broker.scheduling.admission import STUCK
from zerokernel.broker.scheduling.adoption import adopt
from zerokernel.broker.scheduling.events import (
    BalanceTold,
    BooksClosed,
    BrokerBegan,
    Event,
    LeaseBooked,
    NotebookSaid,
    SessionClosed,
    SessionConnected,
    SessionLost,
    SliceCleaned,
    SlicesChanged,
    SliceSetAside,
    Tick,
    WorkerAdopted,
)
from zerokernel.broker.scheduling.limits import extend_limit, take_beats, take_parked
from zerokernel.broker.scheduling.lookout import Lookout
from zerokernel.broker.scheduling.outbox import Outbox
from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.quota import Quotas
from zerokernel.broker.scheduling.records import (
    Lease,
    Request,
    Session,
    Slice,
    SliceRecord,
    Worker,
)
from zerokernel.broker.scheduling.sizes import offers
from zerokernel.broker.scheduling.telling import Teller
from zerokernel.broker.scheduling.waiting import Queue
from zerokernel.lifecycle import Cause, rule_of
from zerokernel.messages import (
    Bind,
    Heartbeat,
    LeaseEnded,
    LimitNear,
    Park,
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
    session's worker is on its slice, nothing of one is left there, and its own session's is
    nowhere else; a lease is granted once the books have it, and what they were asked to
    reserve is settled once.
    """

    def __init__(
        self, slices: Iterable[Slice] = (), policy: Policy | None = None, arrivals: int = 0
    ) -> None:
        self.policy = policy or Policy()
        # All mutable state: these, and the records in them.
        self.slices: dict[str, SliceRecord] = {s.id: SliceRecord(s) for s in slices}
        self.removed: dict[str, SliceRecord] = {}
        self.sessions: dict[str, Session] = {}
        self.queue = Queue(self.policy)
        self.arrivals = arrivals
        # Leases that the books do not have yet, by id; why they cannot be written, "" if they can.
        self.unbooked: dict[str, Lease] = {}
        self.books_closed = ""
        # Leases that run beyond a quota, by id.
        self.beyond: dict[str, Lease] = {}
        # What users may still use; by user, when the window of who waits beyond it is over.
        self.quotas = Quotas(self.policy)
        self.resets: dict[str, float] = {}
        # Leases by their requests' ids, and those not granted yet (or just now) by slice.
        self.leases: dict[str, Lease] = {}
        self.pending: dict[str, Lease] = {}
        self._of_size: dict[str, list[SliceRecord]] = {}
        self._offers: tuple[Slice, ...] | None = None
        self._forgotten: list[str] = []
        self.out = Outbox(self.policy.answers_per_session)
        self._teller = Teller(self)
        self.lookout = Lookout(self)
        self.lookout.touch_all()

    def __repr__(self) -> str:
        leased = sum(one.lease is not None for one in self.slices.values())
        return (
            f"<SchedulerState {leased} of {len(self.slices)} slices leased, "
            f"{len(self.queue)} waiting, {len(self.sessions)} sessions>"
        )

    def offers(self) -> tuple[Slice, ...]:
        """Gives the least slice of each size that may be asked for, smallest first."""
        if self._offers is None:
            self._offers = offers(r.slice for r in self.slices.values() if not r.removed)
        return self._offers

    def sizes(self) -> tuple[str, ...]:
        """Gives the sizes that may be asked for, smallest first."""
        return tuple(one.size for one in self.offers())

    def of_size(self, size: str) -> list[SliceRecord]:
        """Gives the slices of a size."""
        if (known := self._of_size.get(size)) is None:
            known = [one for one in self.slices.values() if one.slice.size == size]
            self._of_size[size] = known
        return known

    def recount_slices(self) -> None:
        """Takes in that other slices are there than before, or of other sizes."""
        self._offers = None
        self._of_size.clear()
        self.lookout.touch_all()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Takes an event in and gives what must be done, in order."""
        self.queue.standings.pass_time(now)
        _HANDLERS[type(event)](self, event, now)
        self.lookout.touch(self.sessions.get(getattr(event, "session", "")))
        self._advance_leases(now)
        self._assign_free_slices(now)
        self._park_idle_workers(now)
        self._teller.tell(now)
        return self.out.take()

    def next_deadline(self) -> float | None:
        """Gives the time at which a `Tick` is needed, None if nothing is due."""
        due = min(self.lookout.due(), self._teller.due, allowance.next_reset(self))
        return None if due == math.inf else due

    def find_request(self, request: str) -> Session | None:
        """Gives the session that waits with this request or holds its lease."""
        if waiting := self.queue.find(request):
            return waiting.session
        lease = self.leases.get(request)
        return lease.session if lease is not None else None

    def live(self, session_id: str, lease_id: str) -> Lease | None:
        """Gives a session's granted lease, None where it has another or none."""
        session = self.sessions.get(session_id)
        lease = session.lease if session is not None else None
        granted = lease is not None and lease.granted_at is not None
        return lease if granted and lease is not None and lease.id == lease_id else None

    def why(self, request: str, now: float) -> str:
        """Says why a waiting request waits where it does, and when a slice is expected to be free.

        "" where no such request waits.
        """
        return self._teller.why(request, now)

    def forget_if_over(self, session: Session) -> None:
        """Forgets a session that is closed and has no worker any more."""
        if session.closed and session.worker is None:
            self.sessions.pop(session.id, None)
            self.lookout.touch(session)
            self._forgotten.append(session.id)

    def take_forgotten(self) -> list[str]:
        """Gives the sessions that are over since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    # --- time ---------------------------------------------------------------------------

    def _tick(self, event: Tick, now: float) -> None:
        policy, lookout = self.policy, self.lookout
        while (lease := lookout.first_lease()) is not None and now >= policy.lease_due(lease):
            self.cut_short(lease, policy.overdue(lease), now)
        while (one := lookout.first_session()) is not None and now >= policy.session_due(one):
            self._session_is_due(one, now)
        allowance.review_resets(self)

    def watch(self, session: Session) -> None:
        """Has a session looked after that was lost, or whose worker is parked or told to end."""
        self.lookout.touch(session)

    def _session_is_due(self, session: Session, now: float) -> None:
        if session.lost_at is not None and now >= (
            session.lost_at + self.policy.kernel_grace_seconds
        ):
            sessions.close(self, session, now)
        elif session.worker is not None and session.worker.stopping_at is not None:
            self._give_up_on(session, session.worker)
        else:
            self.stop(session, Cause.IDLE, now)

    def _give_up_on(self, session: Session, worker: Worker) -> None:
        """Sets aside what a killed worker keeps, until its end is reported after all."""
        worker.stuck = True
        self.watch(session)
        self.out.setback = "a slice was set aside: its last worker was killed and does not end"
        if session.lease is not None and session.lease.granted_at is None:
            request = self.take_back(session.lease)
            self.out.refuse(session, request.id, "WorkerStartFailed", STUCK)
        for request in self.queue.of_session(session.id):
            self.queue.remove(request)
            self.out.refuse(session, request.id, "WorkerStartFailed", STUCK)
        self.requeue_from_unusable()

    # --- the life of a lease ------------------------------------------------------------

    def _assign_free_slices(self, now: float) -> None:
        """The only place where a request gets a slice."""
        for size in self.queue.sizes() if not self.books_closed else ():
            while self.lookout.free(size):
                if (request := self.queue.first(size)) is None:
                    break
                record = self.lookout.best(size, request.session)
                self._advance(self.assign(request, record), now)
        allowance.make_way(self, now)

    def assign(self, request: Request, record: SliceRecord) -> Lease:
        """Has a request hold a slice, and its session no other."""
        lease = record.lease = request.session.lease = Lease(request, record)
        self.leases[request.id] = self.pending[record.slice.id] = lease
        self.watch(request.session)
        self.queue.began(lease)
        return lease

    def _unassign(self, lease: Lease) -> None:
        lease.slice.lease = lease.session.lease = None
        self.leases.pop(lease.request.id, None)
        self.lookout.touch_slice(lease.slice)
        self.watch(lease.session)

    def _advance_leases(self, now: float) -> None:
        for lease in list(self.pending.values()):
            # What was advanced before it may have ended it.
            if lease.slice.lease is lease and lease.granted_at is None:
                self._advance(lease, now)
            elif self.pending.get(lease.slice.slice.id) is lease:
                del self.pending[lease.slice.slice.id]

    def _advance(self, lease: Lease, now: float) -> None:
        """Grants the lease once no worker is in the way; ends those that are."""
        session, occupant = lease.session, lease.slice.occupant
        if occupant is not None and occupant is not session:
            self.stop(occupant, Cause.EVICTED, now)
        if any(one is not lease.slice for one in session.slices.values()):
            self.stop(session, "evicted: another slice", now)
        if lease.slice.occupant not in (None, session) or not cleaning.is_clean(self, lease):
            return
        if session.worker is None or session.worker.stopping_at is None:
            if lease.booked:
                self._grant(lease, now)
            else:
                booking.enter(self, lease)

    def _grant(self, lease: Lease, now: float) -> None:
        session, one = lease.session, lease.slice.slice
        lease.granted_at, lease.slice.occupant = now, session
        if session.worker is not None:
            session.worker.parked_at = None
        self.watch(session)
        self.out.order(
            session.id,
            Bind(
                session.id,
                lease.id,
                dict(one.environment),
                one.name,
                one.simulated,
                lease.limit,
                self.policy.bind_seconds,
                lease.request.id,
                one.id,
                dict(one.limits),
            ),
        )
        self.out.granted(lease)

    def end(self, lease: Lease, reason: str, ran: float, now: float) -> None:
        """The only place where a granted lease ends: settled, told, remembered."""
        granted_at = lease.granted_at if lease.granted_at is not None else now
        held = max(0.0, now - granted_at)
        # A worker's process is its user's: what it reports is held against our own clock.
        ran = min(max(0.0, ran), held) if math.isfinite(ran) else held
        session = lease.session
        self._unassign(lease)
        blameless = lease.spoiled or reason == Cause.DEVICE_LOST
        self.queue.ended(lease, 0.0 if blameless else held)
        if reason == Cause.START_FAILED:
            session.failed_starts += 1
        charged = ran if rule_of(reason).charged and not lease.spoiled else 0.0
        cause = f"{reason}: not charged, {lease.spoiled}" if lease.spoiled else reason
        booking.settle(self, lease, charged, held, cause)
        self.out.answer(session, lease.request.id, LeaseEnded(lease.id, reason, ran, held))
        self.queue.changed.add(lease.slice.slice.size)
        if session.worker is None:
            self.vacate(session)

    def cut_short(self, lease: Lease, reason: str, now: float) -> None:
        """Ends a lease whose task may still run, and its worker with it."""
        session = lease.session
        if lease.granted_at is None:
            self.take_back(lease)
            return
        self.end(lease, reason, lease.ran(now), now)
        if session.worker is not None or session.closed:
            self.stop(session, reason, now)
        else:
            # Whoever comes for its Bind now comes for the session's next request, and is
            # forked anew; a worker that is there by then without it is left alone.
            self.out.order(session.id, StopWorker(session.id, Cause.REPLACED, lease=lease.id))

    def take_back(self, lease: Lease) -> Request:
        """Undoes the assignment of a slice that was not granted yet."""
        self._unassign(lease)
        booking.strike(self, lease)
        self.queue.ended(lease, 0.0)
        self.queue.changed.add(lease.slice.slice.size)
        return lease.request

    def stop(self, session: Session, cause: str, now: float) -> None:
        """Has the session's worker ended, or the Bind for one to come taken back."""
        if session.worker is None:
            # None is known, but the supervisor may hold a Bind for one to come.
            self.vacate(session)
        elif session.worker.stopping_at is not None:
            return
        else:
            session.worker.stopping_at = now
        self.watch(session)
        self.out.order(session.id, StopWorker(session.id, cause, _process(session)))

    def requeue_from_unusable(self) -> None:
        """Takes back leases that are not granted yet from slices that cannot be used now."""
        for record in list(self.slices.values()):
            self.queue.changed.add(record.slice.size)
            if record.lease is not None and record.lease.granted_at is None and record.set_aside:
                self.queue.add(self.take_back(record.lease))
        self.drop_removed()

    def vacate(self, session: Session) -> None:
        """Has no slice kept for the memory of a session's worker."""
        for record in list(session.slices.values()):
            record.occupant = None
            cleaning.begin(self, record, session.user)
            self.queue.changed.add(record.slice.size)
            self.lookout.touch_slice(record)
        self.drop_removed()

    def drop_removed(self) -> None:
        """Forgets slices that were removed and are not in use any more."""
        for record in list(self.removed.values()):
            in_use = record.lease is not None or record.occupant is not None or record.cleaning
            if not in_use:
                del self.slices[record.slice.id], self.removed[record.slice.id]
                self.recount_slices()

    def _park_idle_workers(self, now: float) -> None:
        for record in self.lookout.take_idle():
            session = record.occupant
            worker = session.worker if session is not None else None
            if session is None or worker is None or worker.stopping_at is not None:
                continue
            if record.removed:
                self.stop(session, "evicted: its slice was removed", now)
            elif worker.parked_at is None:
                worker.parked_at, worker.memory = now, 0
                self.watch(session)
                self.out.order(session.id, Park(session.id, _process(session)))


_HANDLERS: dict[type[Any], Callable[[SchedulerState, Any, float], None]] = {
    SessionConnected: sessions.connected,
    SessionLost: sessions.lost,
    SessionClosed: sessions.closed,
    NotebookSaid: requests.said,
    WorkerForked: reports.forked,
    TaskStarted: reports.started,
    TaskEnded: reports.ended,
    TaskReturning: reports.returning,
    WorkerEnded: reports.worker_ended,
    LimitNear: lambda state, event, now: extend_limit(state, event),
    Heartbeat: lambda state, event, now: take_beats(state, event, now),
    WorkerParked: take_parked,
    WorkerAdopted: adopt,
    SlicesChanged: inventory.slices_changed,
    SliceSetAside: inventory.set_aside,
    BrokerBegan: cleaning.began,
    SliceCleaned: cleaning.cleaned,
    LeaseBooked: booking.booked,
    BooksClosed: booking.closed,
    BalanceTold: allowance.told,
    Tick: SchedulerState._tick,
}


def _process(session: Session) -> int:
    return session.worker.process if session.worker is not None else 0
