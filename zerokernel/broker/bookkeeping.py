"""Between scheduler and ledger: writes what is decided, and tells what the books say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from zerokernel.broker.ledger.port import Beat, Entry, Ledger
from zerokernel.broker.scheduling import (
    Balance,
    BalanceTold,
    Beats,
    BooksClosed,
    Event,
    Extend,
    LeaseBooked,
    Reserve,
    SchedulerState,
    Settle,
)
from zerokernel.errors import LedgerUnavailable
from zerokernel.lifecycle import Cause, rule_of
from zerokernel.messages import TaskEnded, WorkerEnded

log = logging.getLogger("zerokernel.broker")

_TRY_AGAIN_SECONDS = 1.0
"""How often a ledger that could not be written is tried again."""


class Bookkeeper:
    """Has the ledger written, and closes the books while it cannot be.

    Args:
        ledger: The books.
        state: Which leases there are, and whether quotas are.
        handle: Lets the scheduler decide on an event.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        ledger: Ledger,
        state: SchedulerState,
        handle: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._handle = handle
        self._clock = clock
        # All mutable state: ends of an earlier broker's leases and balances of users that wait
        # for the ledger, and when it is tried again.
        self._late: list[TaskEnded | WorkerEnded] = []
        self._untold: set[str] = set()
        self._trying: asyncio.TimerHandle | None = None

    def carry_out(self, order: Reserve | Settle | Extend | Beats) -> None:
        """Writes what the scheduler decided."""
        match order:
            case Reserve():
                self._reserve(order)
            case Settle(user, lease, amount, held, cause):
                self._ledger.settle(user, lease, amount, held, cause)
            case Extend(lease, amount):
                self._ledger.extend(lease, amount)
            case Beats(running):
                self._ledger.heartbeat({name: Beat(*one) for name, one in running.items()})

    def _reserve(self, order: Reserve) -> None:
        """Announces nothing: the scheduler grants what the books have."""
        amounts = order.amount, self._clock(), order.weight, order.opens_window
        try:
            self._ledger.reserve(order.user, order.lease, *amounts)
        except LedgerUnavailable as error:
            self._close_books(error)
        else:
            self._handle(LeaseBooked(order.lease))

    # --- what the books say -------------------------------------------------------------

    def tell_balance(self, user: str) -> None:
        """Lets the scheduler know what the books say of a user's quota window."""
        if not self._state.policy.quotas:
            return
        now = self._clock()
        try:
            window = self._ledger.window(user, now)
        except LedgerUnavailable as error:
            self._untold.add(user)
            self._close_books(error)
            return
        self._untold.discard(user)
        balance = Balance()
        if window is not None:
            ago = max(0.0, now - window.opened_at)
            balance = Balance(ago, window.charged, window.reserved)
        self._handle(BalanceTold(user, balance))

    def weight(self, lease: str) -> int:
        """Gives how an open lease counts against its user's quota, in thousandths."""
        try:
            entries = self._ledger.open_leases()
        except LedgerUnavailable:
            return 1000  # it counts until the books say otherwise
        return next((entry.weight for entry in entries if entry.lease == lease), 1000)

    def usage(self, user: str) -> dict[str, Any]:
        """Gives a user's sums and last leases in milliseconds. Raises LedgerUnavailable."""
        recent = [asdict(entry) for entry in self._ledger.recent(user)[:100]]
        return {**asdict(self._ledger.usage(user)), "recent": recent}

    # --- what an earlier broker left open -----------------------------------------------

    def settle_if_late(self, report: TaskEnded | WorkerEnded) -> None:
        """Settles a lease of an earlier broker that ended while there was none."""
        if self._state.live(report.session, report.lease) is not None:
            return
        try:
            for entry in self._ledger.open_leases():
                if entry.lease == report.lease:
                    self._settle_late(entry, report)
                    self.tell_balance(entry.user)
        except LedgerUnavailable as error:
            self._late.append(report)
            self._close_books(error)

    def _settle_late(self, entry: Entry, report: TaskEnded | WorkerEnded) -> None:
        cause = report.cause if isinstance(report, WorkerEnded) else Cause.FINISHED
        ran = round(1000 * report.ran) if rule_of(cause).charged else 0
        charged = min(max(0, ran), entry.reserved)
        self._ledger.settle(entry.user, entry.lease, charged, charged, cause)

    def recover(self) -> None:
        """Settles what an earlier broker left open and no supervisor accounts for."""
        slices = self._state.slices.values()
        live = {one.lease.id for one in slices if one.lease is not None}
        try:
            for entry in self._ledger.recover(live):
                log.warning("lease %s, left open, is charged %d ms", entry.lease, entry.charged)
                self.tell_balance(entry.user)
        except LedgerUnavailable as error:
            log.warning("%s Leases of an earlier broker stay reserved until it can.", error)

    # --- while it cannot be written -----------------------------------------------------

    def _close_books(self, error: LedgerUnavailable) -> None:
        if not self._state.books_closed:
            log.error("%s Nothing is granted until then.", error)
        self._handle(BooksClosed(str(error)))
        if self._trying is None:
            loop = asyncio.get_running_loop()
            self._trying = loop.call_later(_TRY_AGAIN_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._trying = None
        try:
            self._ledger.catch_up()
        except LedgerUnavailable as error:
            self._close_books(error)
            return
        late, self._late = self._late, []
        for report in late:
            self.settle_if_late(report)
        for user in list(self._untold):
            self.tell_balance(user)
        if self._trying is None:
            log.info("the ledger can be written again")
            self._handle(BooksClosed(""))

    def close(self) -> None:
        """Tries nothing any more. The ledger is its owner's to close."""
        if self._trying is not None:
            self._trying.cancel()
