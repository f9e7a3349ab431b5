"""What every ledger can do. All amounts are integer milliseconds on a slice."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Protocol

DAY = 86_400.0
"""Seconds after which a quota window resets, unless a ledger is told otherwise."""


@dataclass(frozen=True)
class Entry:
    """One lease in the books.

    Attributes:
        reserved: What it may use; 0 once it is settled or refunded.
        charged: What it used; 0 before it is settled.
        held: How long its slice was held.
        open: Whether it is not settled yet.
        cause: Why it was settled, "" while it is open.
        refunded: Whether its charge or reservation was taken back.
        ran: How long its cell had run at the last heartbeat.
        weight: Thousandths of a millisecond of quota that each counts; 0 beyond the quota.
    """

    user: str
    lease: str
    reserved: int
    charged: int
    held: int
    open: bool
    cause: str = ""
    refunded: bool = False
    ran: int = 0
    weight: int = 1000


@dataclass(frozen=True)
class Usage:
    """The sum of a user's entries."""

    user: str
    leases: int
    reserved: int
    charged: int
    held: int


@dataclass(frozen=True)
class Window:
    """What a quota is counted against: all leases reserved between two resets.

    Attributes:
        opened_at: When its first lease was reserved, in seconds since the epoch.
        resets_at: When it is over, in seconds since the epoch.
        charged, reserved: By the weights of the leases.
    """

    opened_at: float
    resets_at: float
    charged: int
    reserved: int


@dataclass(frozen=True)
class Beat:
    """How far an open lease was at a heartbeat.

    Attributes:
        ran: How long its cell had run; 0 where it has not begun.
        held: How long it had held its slice.
    """

    ran: int
    held: int


class Ledger(Protocol):
    """Keeps the books. Every call is idempotent by lease; the first one counts.

    A call that writes has either been written when it returns, durably where the ledger
    outlives its process, or raises LedgerUnavailable and has changed nothing; with
    LedgerConnectionLost it may have, and making it again does no harm. Only a
    reservation may reach the disk some milliseconds later: it outlives the process at once, and
    what a power cut takes is a lease whose cell went with the machine.
    """

    def reserve(
        self,
        user: str,
        lease: str,
        amount: int,
        now: float,
        weight: int = 1000,
        opens_window: bool = False,
    ) -> None:
        """Sets ``amount`` aside for a lease at the time ``now``, in seconds since the epoch.

        Args:
            user: Whose quota it counts against.
            lease: Its id.
            amount: Milliseconds on the slice.
            now: Seconds since the epoch.
            weight: Thousandths of a millisecond of quota for each.
            opens_window: Whether a quota window opens, also where the last is not over by the
                books' clock.
        """

    def extend(self, lease: str, amount: int) -> None:
        """Lets the reservation of an open lease grow to ``amount``; it never shrinks."""

    def settle(
        self, user: str, lease: str, amount: int, held: int, cause: str = "finished"
    ) -> None:
        """Replaces the reservation by what was used, also where nothing was reserved."""

    def refund(self, user: str, lease: str) -> None:
        """Takes back what a lease was charged or has reserved; it stays in the books at 0.

        Raises:
            KeyError: The books have no such lease (any more).
        """

    def heartbeat(self, running: Mapping[str, Beat]) -> None:
        """Notes how far each open lease is; the last note is what `recover` charges by."""

    def recover(self, except_for: Container[str] = ()) -> list[Entry]:
        """Settles what an earlier broker left open; to be called before the first reservation.

        A lease is charged to its last heartbeat and a second, never more than its
        reservation, and nothing where its cell had not begun.

        Args:
            except_for: Leases that somebody can still account for; they stay open.

        Returns:
            The leases as they were settled, with the cause "recovered".
        """

    def open_leases(self) -> list[Entry]:
        """Gives the leases that are not settled, oldest first."""

    def window(self, user: str, now: float) -> Window | None:
        """Gives the quota window that is open at ``now``, None where none is."""

    def usage(self, user: str) -> Usage:
        """Gives the user's sums."""

    def recent(self, user: str) -> list[Entry]:
        """Gives the user's last leases, newest first."""

    def catch_up(self) -> None:
        """Writes what could not be written before. Raises LedgerUnavailable if it still cannot."""

    def close(self) -> None:
        """Lets go of files; the ledger is not used after it."""
