"""What a session has written itself, and so need not ask for: nobody else writes in the books."""

from __future__ import annotations

from collections.abc import Iterable

from zerokernel.broker.ledger.books import Account, Record

_MOST = 10_000


class Known:
    """Accounts and open leases as they are at the server while the session has the lock."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._open: dict[str, Record] = {}

    def account(self, user: str) -> Account | None:
        """Gives an account, None where it has to be asked for."""
        return self._accounts.get(user)

    def record(self, user: str, lease: str) -> Record | None:
        """Gives an open lease, None where it has to be asked for."""
        found = self._open.get(lease)
        return found if found is not None and found.entry.user == user else None

    def written(self, account: Account, records: Iterable[Record]) -> None:
        """These are written, and committed."""
        if max(len(self._accounts), len(self._open)) >= _MOST:
            self.forget_all()
        self._accounts[account.usage.user] = account
        for record in records:
            if record.entry.open:
                self._open[record.entry.lease] = record
            else:
                self._open.pop(record.entry.lease, None)

    def forget(self, leases: Iterable[str]) -> None:
        """These leases may have changed."""
        for lease in leases:
            self._open.pop(lease, None)

    def forget_all(self) -> None:
        """Something went wrong: all is to be asked for."""
        self._accounts.clear()
        self._open.clear()
