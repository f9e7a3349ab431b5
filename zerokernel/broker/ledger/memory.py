"""The embedded broker's ledger: no quota, and the books end with the process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from zerokernel.broker.ledger.port import Entry, Usage

_KEPT = 1000
"""Settled leases kept one by one for each user; older ones only count in the sums."""


class MemoryLedger:
    """Books in memory without a quota. A refund of a lease older than the kept ones is refused."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._entries: dict[str, dict[str, Entry]] = {}
        self._older: dict[str, Usage] = {}

    def __repr__(self) -> str:
        leases = sum(len(entries) for entries in self._entries.values())
        return f"<MemoryLedger {leases} leases of {len(self._entries)} users>"

    def reserve(self, user: str, lease: str, amount: int) -> None:
        """Sets ``amount`` aside for a lease."""
        self._of(user).setdefault(lease, Entry(user, lease, amount, 0, 0, open=True))

    def settle(self, user: str, lease: str, amount: int, held: int) -> None:
        """Replaces the reservation by what was used."""
        entry = self._of(user).get(lease)
        if entry is None or entry.open:
            self._of(user)[lease] = Entry(user, lease, 0, amount, held, open=False)
            self._fold(user)

    def refund(self, user: str, lease: str) -> None:
        """Takes back what a lease was charged or has reserved.

        Raises:
            KeyError: The books have no such lease (any more).
        """
        entries = self._of(user)
        entries[lease] = replace(entries[lease], reserved=0, charged=0, open=False)

    def remaining(self, user: str) -> int | None:
        """There is no quota."""
        return None

    def usage(self, user: str) -> Usage:
        """Gives the user's sums."""
        return _sum(self._older.get(user, Usage(user, 0, 0, 0, 0)), self._of(user).values())

    def recent(self, user: str) -> list[Entry]:
        """Gives the user's last leases, newest first."""
        return list(reversed(self._of(user).values()))

    def _of(self, user: str) -> dict[str, Entry]:
        return self._entries.setdefault(user, {})

    def _fold(self, user: str) -> None:
        """Adds the oldest settled lease to the sums once there are too many."""
        entries = self._of(user)
        if len(entries) <= self._kept:
            return
        oldest = next((e for e in entries.values() if not e.open), None)
        if oldest is not None:
            self._older[user] = _sum(
                self._older.get(user, Usage(user, 0, 0, 0, 0)), [entries.pop(oldest.lease)]
            )


def _sum(start: Usage, entries: Iterable[Entry]) -> Usage:
    total = start
    for e in entries:
        total = Usage(
            total.user,
            total.leases + 1,
            total.reserved + e.reserved,
            total.charged + e.charged,
            total.held + e.held,
        )
    return total
