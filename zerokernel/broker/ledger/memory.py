"""Books that end with the process: where the extra `broker` is not installed, and in tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from zerokernel.broker.ledger.books import Account, Books, Pages, Record, empty_account
from zerokernel.broker.ledger.port import DAY, Beat

_T = TypeVar("_T")
_KEPT = 1000
"""Settled leases kept one by one for each user; older ones only count in the sums."""


class MemoryLedger(Books):
    """Books in memory without a quota.

    Args:
        kept: So many leases of each user are kept one by one. A refund of an older one is
            refused, and it can be reserved anew.
        window_seconds: How long a quota window lasts.
    """

    def __init__(self, kept: int = _KEPT, window_seconds: float = DAY) -> None:
        super().__init__(_MemoryShelf(kept), window_seconds)


class _MemoryShelf:
    """Dictionaries. Nothing in them fails halfway, so a change needs no transaction."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._accounts: dict[str, Account] = {}
        self._records: dict[str, dict[str, Record]] = {}
        self._open: dict[tuple[str, str], None] = {}

    def __repr__(self) -> str:
        return f"<{sum(map(len, self._records.values()))} leases in memory>"

    def write(self, change: Callable[[Pages], None], durable: bool = True) -> None:
        change(self)

    def read(self, look: Callable[[Pages], _T]) -> _T:
        return look(self)

    def flush_soon(self) -> None:
        """There is no disk."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def account(self, user: str) -> Account:
        return self._accounts.get(user) or empty_account(user)

    def record(self, user: str, lease: str) -> Record | None:
        return self._records.get(user, {}).get(lease)

    def open_records(self, leases: Collection[str] | None = None) -> list[Record]:
        wanted = [key for key in self._open if leases is None or key[1] in leases]
        return [self._records[user][lease] for user, lease in wanted]

    def recent(self, user: str) -> list[Record]:
        return list(reversed(self._records.get(user, {}).values()))

    def save(self, account: Account, records: Iterable[Record]) -> None:
        user = account.usage.user
        self._accounts[user] = account
        for record in records:
            lease = record.entry.lease
            self._records.setdefault(user, {})[lease] = record
            if record.entry.open:
                self._open[user, lease] = None
            else:
                self._open.pop((user, lease), None)
        self._drop_oldest(self._records.get(user, {}))

    def beat(self, running: Mapping[str, Beat]) -> None:
        for record in self.open_records(running.keys()):
            entry, beat = record.entry, running[record.entry.lease]
            if beat.held >= record.last_held and beat.ran >= entry.ran:
                entry = replace(entry, ran=beat.ran)
                self._records[entry.user][entry.lease] = replace(
                    record, entry=entry, last_held=beat.held
                )

    def _drop_oldest(self, records: dict[str, Record]) -> None:
        if len(records) > self._kept:
            oldest = next((r.entry.lease for r in records.values() if not r.entry.open), None)
            if oldest is not None:
                del records[oldest]
