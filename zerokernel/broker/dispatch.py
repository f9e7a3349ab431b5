"""The broker: carries out what the scheduler decides, and decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import zerokernel
from zerokernel.broker.bookkeeping import Bookkeeper
from zerokernel.broker.engines.port import Door, Engine, Report
from zerokernel.broker.identity import User
from zerokernel.broker.ledger.port import Ledger
from zerokernel.broker.presence import KernelWatch
from zerokernel.broker.scheduling import (
    Account,
    Action,
    Beats,
    Clean,
    Event,
    Extend,
    NotebookSaid,
    Order,
    Reserve,
    SchedulerState,
    SessionClosed,
    SessionConnected,
    SessionLost,
    Settle,
    SliceCleaned,
    Tell,
    Tick,
    WorkerAdopted,
    snapshot,
    summary,
)
from zerokernel.messages import (
    PROTOCOL_VERSION,
    CancelRequest,
    EndWorker,
    Message,
    OpenSession,
    Refused,
    RequestLease,
    SessionOpened,
    TaskEnded,
    WorkerEnded,
    WorkerKept,
)

log = logging.getLogger("zerokernel.broker")


class Connection(Protocol):
    """A notebook's connection."""

    def tell(self, message: Message) -> None:
        """Sends a message; never waits, never raises."""

    def replaced(self) -> None:
        """Another connection took the session over."""

    def ending(self, reason: str = "") -> None:
        """The broker ends on purpose; nobody needs to start another now."""


class Broker:
    """One scheduler, one engine, one ledger and the connections of notebooks.

    All of it runs in one event loop's thread.
    """

    def __init__(
        self,
        state: SchedulerState,
        engine: Engine,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        owner: str = "",
        accounts: Callable[[str], User | None] = User,
    ) -> None:
        self.state = state
        self._owner = owner
        self._accounts = accounts
        self.engine = engine
        self.ledger = ledger
        self._books = Bookkeeper(ledger, state, self.handle, wall_clock)
        self._clock = clock
        self._started_at = clock()
        # All mutable state: who is connected, events not handled yet, the next tick.
        self._connections: dict[str, Connection] = {}
        self._events: deque[Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._kernels = KernelWatch(self._kernel_ended)
        # Why nothing new is taken in any more, "" while it is.
        self.closing = ""
        # Called when the last session left or the first came: an embedded broker ends when idle.
        self.on_idle_change: Callable[[bool], None] = lambda idle: None
        self.on_shutdown: Callable[[], None] = lambda: None
        # Has a slice's memory verified and scrubbed, and reports SliceCleaned.
        self.on_clean: Callable[[Clean], None] = self._nothing_to_clean
        engine.observe(self)

    def __repr__(self) -> str:
        return f"<Broker {self.state!r} {len(self._connections)} connections>"

    @property
    def connected(self) -> int:
        """How many notebooks are connected."""
        return len(self._connections)

    # --- sessions -----------------------------------------------------------------------

    def connect(self, opening: OpenSession, user: User, connection: Connection) -> bool:
        """Lets a notebook in. False where the session is another user's."""
        known = self.state.sessions.get(opening.session)
        if known is not None and known.user not in ("", user.name):
            return False
        if before := self._connections.get(opening.session):
            before.replaced()
        self._connections[opening.session] = connection
        self._kernels.watch(opening.session, opening.process, opening.namespace)
        self._books.tell_balance(user.name)
        asks_for = user.name, opening.requests, user.group, user.tier
        self.handle(SessionConnected(opening.session, opening.name, *asks_for))
        self.on_idle_change(False)
        log.info("session %s of %s opened: %r", opening.session, user.name, opening.name)
        return True

    async def open_engine(self, opening: OpenSession, user: User) -> SessionOpened:
        """Makes the session's supervisor ready. Raises WorkerStartFailed."""
        door = await self.engine.open(
            opening.session, opening.python, opening.environment, user.name
        )
        return self._opened(opening.session, door)

    def disconnect(self, session: str, connection: Connection, closed: bool = False) -> None:
        """Takes note that a connection ended.

        Args:
            session: Whose.
            connection: Which one: the session may have another by now.
            closed: Whether the notebook said that it is done.
        """
        if self._connections.get(session) is not connection:
            return  # replaced by a newer one
        del self._connections[session]
        self.handle(SessionClosed(session) if closed else SessionLost(session))
        log.info("session %s %s", session, "closed" if closed else "lost its connection")
        if not self._connections:
            self.on_idle_change(True)

    def _kernel_ended(self, session: str) -> None:
        self.handle(SessionClosed(session))

    def said(self, session: str, message: Message) -> bool:
        """Takes a notebook's message. False where a notebook may not say such a thing."""
        if not isinstance(message, RequestLease | CancelRequest | EndWorker):
            return False
        if not (self.closing and self._turns_away(session, message)):
            self.handle(NotebookSaid(session, message))
        return True

    def _turns_away(self, session: str, message: Message) -> bool:
        """Refuses a request that is new, and not made again over another connection."""
        if not isinstance(message, RequestLease) or self.state.find_request(message.request):
            return False
        if connection := self._connections.get(session):
            connection.tell(Refused(message.request, "BrokerUnavailable", self.closing))
        return True

    # --- what the engine tells ----------------------------------------------------------

    def reported(self, report: Report) -> None:
        """A supervisor reported something about a session's worker."""
        if isinstance(report, TaskEnded | WorkerEnded) and report.lease:
            self._books.settle_if_late(report)
        self.handle(report)

    def recover(self) -> None:
        """Settles what an earlier broker left open and no supervisor accounts for."""
        self._books.recover()

    def adopted(self, kept: WorkerKept, user: str) -> None:
        """A supervisor of an earlier broker still has this user's worker."""
        name = user or self._owner
        account = self._accounts(name) or User(name)  # one who was removed has it all the same
        weight = self._books.weight(kept.lease) if kept.lease else 1000
        self.handle(WorkerAdopted(kept, name, account.group, account.tier, weight))
        self._books.tell_balance(name)

    def moved(self, session: str, door: Door) -> None:
        """The session's supervisor was started anew."""
        if connection := self._connections.get(session):
            connection.tell(self._opened(session, door))

    def _opened(self, session: str, door: Door) -> SessionOpened:
        return SessionOpened(session, door.address, door.secret, self.state.sizes())

    # --- deciding and doing -------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Lets the scheduler decide and carries it out.

        Carrying out may cause events (a supervisor that takes no orders): they are handled
        after, so that what was decided first is also done first.
        """
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                next_event = self._events.popleft()
                for action in self.state.handle(next_event, self._clock()):
                    self._carry_out(action)
        finally:
            self._handling = False
        self._forget_sessions()
        self._set_timer()

    def _carry_out(self, action: Action) -> None:
        match action:
            case Tell(session, message):
                if connection := self._connections.get(session):
                    connection.tell(message)
            case Order(_, message):
                self.engine.send(message)
            case Reserve() | Settle() | Extend() | Beats():
                self._books.carry_out(action)
            case Clean():
                self.on_clean(action)

    def _nothing_to_clean(self, order: Clean) -> None:
        self.handle(SliceCleaned(order.slice, scrubbed=order.scrub))

    def _forget_sessions(self) -> None:
        for session in self.state.take_forgotten():
            self.engine.forget(session)
            self._kernels.forget(session)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.state.next_deadline()
        if due is not None:
            loop = asyncio.get_running_loop()
            wait = max(0.0, due - self._clock())
            self._timer = loop.call_later(wait, self.handle, Tick())

    # --- commands -----------------------------------------------------------------------

    def cancel(self, request: str, user: str) -> bool:
        """Cancels a request of this user's. False where there is none."""
        session = self.state.find_request(request)
        if session is None or session.user != user:
            return False
        self.handle(NotebookSaid(session.id, CancelRequest(request)))
        return True

    def end_worker(self, session: str, user: str) -> bool:
        """Ends the worker of a session of this user's. False where there is none."""
        known = self.state.sessions.get(session)
        if known is None or known.user != user:
            return False
        self.handle(NotebookSaid(session, EndWorker(session)))
        return True

    def has_lease(self, session: str, user: str) -> bool:
        """Whether a session of this user's holds a lease."""
        known = self.state.sessions.get(session)
        return known is not None and known.user == user and known.lease is not None

    def close_to_new(self, reason: str) -> None:
        """Takes nothing new in; notebooks whose cells do not run are told that it ends."""
        self.closing = reason
        for session, connection in list(self._connections.items()):
            known = self.state.sessions.get(session)
            if known is None or known.lease is None:
                connection.ending(reason)

    @property
    def leases(self) -> int:
        """How many slices are leased."""
        return sum(one.lease is not None for one in self.state.slices.values())

    def status(self) -> dict[str, Any]:
        """Gives what `%gpu`, `zerokernel status` and tests read; JSON-able."""
        now = self._clock()
        return {
            "version": zerokernel.__version__,
            "protocol": PROTOCOL_VERSION,
            "pid": os.getpid(),
            "uptime": now - self._started_at,
            **snapshot(self.state, now),
            "engine": self.engine.statistics(),
        }

    def allowance(self, user: str) -> dict[str, Any]:
        """Gives a user's quota, what is left and when it resets, in seconds; None: no limit."""
        account = self._accounts(user) or User(user)
        return summary(self.state, Account(user, account.group, account.tier))

    def usage(self, user: str) -> dict[str, Any]:
        """Gives the user's books in milliseconds; JSON-able. Raises LedgerUnavailable."""
        return {"allowance": self.allowance(user), **self._books.usage(user)}

    def let_go(self) -> None:
        """Ends nothing, whatever is heard from now on: the next broker takes it over."""
        self._connections.clear()
        self._kernels.close()

    async def close(self) -> None:
        """Ends every worker and supervisor."""
        if self._timer is not None:
            self._timer.cancel()
        self._books.close()
        self._kernels.close()
        for connection in list(self._connections.values()):
            connection.ending(self.closing)
        await self.engine.close()
