"""A ledger that outwaits a full disk or a server that is away."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Mapping
from functools import partial

from zerokernel.broker.ledger.port import Beat, Entry, Ledger, Usage, Window
from zerokernel.errors import LedgerUnavailable

log = logging.getLogger("zerokernel.broker")


class PatientLedger:
    """Keeps what could not be written, and writes it, in order, before anything else.

    Cells that run go on while the disk is full. What is still unwritten when the broker is
    killed is lost; the leases of it that were reserved before are recovered as any others.

    Args:
        ledger: Where it is written.
        durable_grants: Whether a reservation must be written at once or fails, as it must
            where a quota limits what is granted; else cells go on as if it were.
    """

    def __init__(self, ledger: Ledger, durable_grants: bool = False) -> None:
        self._ledger = ledger
        self._durable_grants = durable_grants
        self._unwritten: deque[Callable[[], None]] = deque()
        self._failing = False  # and it was said so

    def __repr__(self) -> str:
        return f"<PatientLedger {self.unwritten} unwritten, {self._ledger!r}>"

    @property
    def unwritten(self) -> int:
        """How many changes wait for the ledger."""
        return len(self._unwritten)

    def reserve(
        self,
        user: str,
        lease: str,
        amount: int,
        now: float,
        weight: int = 1000,
        opens_window: bool = False,
    ) -> None:
        """Sets ``amount`` aside for a lease. Raises LedgerUnavailable with ``durable_grants``."""
        reserve = partial(self._ledger.reserve, user, lease, amount, now, weight, opens_window)
        if self._durable_grants:
            self.catch_up()
            reserve()
        else:
            self._write(reserve)

    def extend(self, lease: str, amount: int) -> None:
        """Lets the reservation of an open lease grow to ``amount``."""
        self._write(partial(self._ledger.extend, lease, amount))

    def settle(
        self, user: str, lease: str, amount: int, held: int, cause: str = "finished"
    ) -> None:
        """Replaces the reservation by what was used."""
        self._write(partial(self._ledger.settle, user, lease, amount, held, cause))

    def refund(self, user: str, lease: str) -> None:
        """Takes back what a lease costs. Raises KeyError, and LedgerUnavailable at once."""
        self.catch_up()
        self._ledger.refund(user, lease)

    def heartbeat(self, running: Mapping[str, Beat]) -> None:
        """Notes how far each open lease is; the next one makes up for one that fails."""
        try:
            self.catch_up()
            self._ledger.heartbeat(running)
        except LedgerUnavailable as error:
            log.debug("a heartbeat was not written: %s", error)

    def recover(self, except_for: Container[str] = ()) -> list[Entry]:
        """Settles what an earlier broker left open."""
        return self._ledger.recover(except_for)

    def open_leases(self) -> list[Entry]:
        """Gives the leases that are not settled."""
        return self._ledger.open_leases()

    def window(self, user: str, now: float) -> Window | None:
        """Gives the quota window that is open."""
        return self._ledger.window(user, now)

    def usage(self, user: str) -> Usage:
        """Gives the user's sums, without what is not written yet."""
        return self._ledger.usage(user)

    def recent(self, user: str) -> list[Entry]:
        """Gives the user's last leases, without what is not written yet."""
        return self._ledger.recent(user)

    def catch_up(self) -> None:
        """Writes what waits. Raises LedgerUnavailable where it still cannot."""
        while self._unwritten:
            self._unwritten[0]()
            self._unwritten.popleft()
            if self._failing and not self._unwritten:
                self._failing = False
                log.info("the ledger can be written again, and is complete")

    def close(self) -> None:
        """Tries once more, then lets go of files."""
        try:
            self.catch_up()
        except LedgerUnavailable as error:
            log.error("%d changes of the ledger are lost: %s", self.unwritten, error)
        self._ledger.close()

    def _write(self, change: Callable[[], None]) -> None:
        self._unwritten.append(change)
        try:
            self.catch_up()
        except LedgerUnavailable as error:
            if not self._failing:
                self._failing = True
                log.warning("%s Until then its changes are kept in memory.", error)
