"""What one `handle` decided, in order, and what notebooks were told."""

from __future__ import annotations

from collections.abc import Mapping

from zerokernel.broker.scheduling.actions import (
    Action,
    Beats,
    Clean,
    Extend,
    Order,
    Reserve,
    Settle,
    Tell,
)
from zerokernel.broker.scheduling.quota import Hold
from zerokernel.broker.scheduling.records import Lease, Request, Session
from zerokernel.messages import (
    Bind,
    ExtendLimit,
    Granted,
    LeaseEnded,
    LimitExtended,
    Park,
    Queued,
    Refused,
    StopWorker,
    WorkerEnded,
    WorkerGone,
)

_OVERTAKEN = "others who used less recently, or ask for less time, come first"


class Outbox:
    """Collects actions.

    Attributes:
        setback: Why a place may have become worse by what is being handled.
    """

    def __init__(self, answers_per_session: int) -> None:
        self._answers_per_session = answers_per_session
        self._actions: list[Action] = []
        self.setback = ""

    def take(self) -> list[Action]:
        """Gives what was collected, and begins anew."""
        taken, self._actions, self.setback = self._actions, [], ""
        return taken

    def order(self, session: str, message: Bind | ExtendLimit | Park | StopWorker) -> None:
        """For the supervisor of the session's worker."""
        self._actions.append(Order(session, message))

    def reserve(self, lease: Lease, hold: Hold) -> None:
        """Sets the lease's whole limit aside, of which the quota has the hold."""
        user, amount = lease.session.user, _milliseconds(lease.limit)
        self._actions.append(Reserve(user, lease.id, amount, hold.weight, hold.opens_window))

    def settle(self, lease: Lease, charged: float, held: float, cause: str) -> None:
        """Replaces the reservation by the seconds that are charged."""
        user, used = lease.session.user, _milliseconds(charged)
        self._actions.append(Settle(user, lease.id, used, _milliseconds(held), cause))

    def extend(self, lease: Lease) -> None:
        """Lets the lease's task run until its new limit."""
        session = lease.session
        self._actions.append(Extend(lease.id, _milliseconds(lease.limit)))
        self.order(session.id, ExtendLimit(session.id, lease.id, lease.limit))
        self._tell(session, LimitExtended(lease.id, lease.limit))

    def beats(self, running: Mapping[str, tuple[float, float]]) -> None:
        """Notes, by lease, how many seconds its task has run and its slice was held so far."""
        times = {name: (_milliseconds(a), _milliseconds(b)) for name, (a, b) in running.items()}
        self._actions.append(Beats(times))

    def clean(self, slice: str, scrub: bool) -> None:
        """Has a slice's memory verified, and overwritten if asked."""
        self._actions.append(Clean(slice, scrub))

    def gone(self, session: Session, ended: WorkerEnded) -> None:
        """Tells that the session's worker ended."""
        self._tell(session, WorkerGone(session.id, ended.cause, ended.detail, ended.process))

    def granted(self, lease: Lease) -> None:
        """Tells that the lease is granted, the first time or again."""
        request, one, granted_at = lease.request, lease.slice.slice, lease.granted_at
        waited = max(0.0, granted_at - request.arrived_at) if granted_at is not None else 0.0
        message = Granted(request.id, lease.id, one.name, lease.limit, waited, one.simulated)
        self._tell(lease.session, message)

    def refuse(self, session: Session, request: str, code: str, reason: str) -> None:
        """Tells that a request is not granted, and remembers it."""
        self.answer(session, request, Refused(request, code, reason))

    def answer(self, session: Session, request: str, answer: LeaseEnded | Refused) -> None:
        """Tells how a request ended, and remembers it for a repeat."""
        session.answers[request] = answer
        if len(session.answers) > self._answers_per_session:
            session.answers.popitem(last=False)
        self._tell(session, answer)

    def repeat(self, session: Session, request: str) -> bool:
        """Tells again how a request ended. False where that is not remembered."""
        answer = session.answers.get(request)
        if answer is not None:
            self._tell(session, answer)
        return answer is not None

    def place(self, request: Request, place: int, starts_in: float | None, reason: str) -> None:
        """Tells a waiting request's place, if place or reason changed."""
        if 0 < request.place < place:
            request.setback = self.setback or _OVERTAKEN
        if request.setback:
            reason = f"{request.setback}; {reason}"
        if (place, reason) == (request.place, request.reason):
            return
        request.place, request.reason = place, reason
        self._tell(request.session, Queued(request.id, place, starts_in, reason))
        if request.session.connected:
            request.setback = ""

    def _tell(
        self,
        session: Session,
        message: Queued | Granted | LimitExtended | Refused | LeaseEnded | WorkerGone,
    ) -> None:
        if session.connected:
            self._actions.append(Tell(session.id, message))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
