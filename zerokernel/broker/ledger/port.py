"""What every ledger can do. All amounts are integer milliseconds on a slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """One lease in the books.

    Attributes:
        reserved: What it may use; 0 once it is settled or refunded.
        charged: What it used; 0 before it is settled.
        held: How long its slice was held.
        open: Whether it is not settled yet.
    """

    user: str
    lease: str
    reserved: int
    charged: int
    held: int
    open: bool


@dataclass(frozen=True)
class Usage:
    """The sum of a user's entries."""

    user: str
    leases: int
    reserved: int
    charged: int
    held: int


class Ledger(Protocol):
    """Keeps the books. Every call is idempotent by lease; the first one counts."""

    def reserve(self, user: str, lease: str, amount: int) -> None:
        """Sets ``amount`` aside for a lease."""

    def settle(self, user: str, lease: str, amount: int, held: int) -> None:
        """Replaces the reservation by what was used, also where nothing was reserved."""

    def refund(self, user: str, lease: str) -> None:
        """Takes back what a lease was charged or has reserved; it stays in the books at 0."""

    def remaining(self, user: str) -> int | None:
        """Gives what the user may still use, None where there is no quota."""

    def usage(self, user: str) -> Usage:
        """Gives the user's sums."""

    def recent(self, user: str) -> list[Entry]:
        """Gives the user's last leases, newest first."""
