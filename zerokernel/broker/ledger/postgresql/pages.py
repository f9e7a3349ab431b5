"""The pages inside one transaction on the server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import ARRAY, ClauseElement, String, any_, bindparam
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.psycopg import dialect

from zerokernel.broker.ledger.books import Account, Record, empty_account
from zerokernel.broker.ledger.port import Beat
from zerokernel.broker.ledger.rows import account_of, account_row, lease_row, record_of
from zerokernel.broker.ledger.statements import (
    ALL_OPEN,
    BEAT,
    FIND_ACCOUNT,
    FIND_LEASE,
    RECENT_OF,
    save_account,
    save_lease,
)
from zerokernel.broker.ledger.tables import accounts, leases

_AT_ONCE = 500


def _text(statement: ClauseElement, columns: Collection[str] | None = None) -> Any:
    """Gives a statement as the driver takes it, made once: the driver alone is much faster."""
    compiled = statement.compile(dialect=dialect(), column_keys=columns)  # type: ignore[no-untyped-call]
    return str(compiled)


_LEASE_COLUMNS = [column.name for column in leases.c if column.name != "number"]
_FIND_ACCOUNT, _FIND_LEASE, _RECENT_OF = _text(FIND_ACCOUNT), _text(FIND_LEASE), _text(RECENT_OF)
_ALL_OPEN, _BEAT = _text(ALL_OPEN), _text(BEAT)
_OF_THESE = leases.c.lease == any_(bindparam("lease_ids", type_=ARRAY(String)))
_FIND_OPEN = _text(ALL_OPEN.where(_OF_THESE))
_SAVE_LEASE = _text(save_lease(insert), _LEASE_COLUMNS)
_SAVE_ACCOUNT = _text(save_account(insert), [column.name for column in accounts.c])


class PostgresPages:
    """Reads and writes on a connection.

    Args:
        raw: In a transaction, if something is written.
        alive: Called whenever the server has answered.
    """

    def __init__(self, raw: psycopg.Connection, alive: Callable[[], None]) -> None:
        self._raw = raw
        self._alive = alive
        self._accounts: dict[str, Account] = {}

    def account(self, user: str) -> Account:
        """Gives a user's account, an empty one for a stranger."""
        if user not in self._accounts:
            self._fetch_account(user, self._ask(_FIND_ACCOUNT, {"user": user}))
        return self._accounts[user]

    def record(self, user: str, lease: str) -> Record | None:
        """Gives a lease."""
        found = self._ask(_FIND_LEASE, {"user": user, "lease_id": lease})
        # Who looks at a lease needs its account next: in a pipeline both are asked for at once.
        account = self._ask(_FIND_ACCOUNT, {"user": user})
        row = found.fetchone()
        self._fetch_account(user, account)
        return None if row is None else record_of(row)

    def open_records(self, leases: Collection[str] | None = None) -> list[Record]:
        """Gives the leases that are not settled, oldest first; all, or those of ``leases``."""
        if leases is None:
            found = self._ask(_ALL_OPEN, {})
        else:
            found = self._ask(_FIND_OPEN, {"lease_ids": list(leases)})
        return [record_of(row) for row in found]

    def recent(self, user: str) -> list[Record]:
        """Gives a user's last leases, newest first."""
        return [record_of(row) for row in self._ask(_RECENT_OF, {"user": user})]

    def save(self, account: Account, records: Iterable[Record]) -> None:
        """Writes an account and some of its leases, known or new."""
        self._accounts[account.usage.user] = account
        self._raw.execute(_SAVE_ACCOUNT, account_row(account))
        self._each(_SAVE_LEASE, [lease_row(record) for record in records])

    def beat(self, running: Mapping[str, Beat]) -> None:
        """Notes heartbeats of open leases; one that is behind the last changes nothing."""
        rows = [
            {"lease_id": lease, "beat_ran": beat.ran, "beat_held": beat.held}
            for lease, beat in running.items()
        ]
        self._each(_BEAT, rows)

    def _ask(self, question: Any, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        return self._raw.cursor(row_factory=namedtuple_row).execute(question, values)

    def _fetch_account(self, user: str, found: psycopg.Cursor[Any]) -> None:
        row = found.fetchone()
        self._accounts[user] = empty_account(user) if row is None else account_of(row)

    def _each(self, statement: Any, rows: list[dict[str, Any]]) -> None:
        for some in range(0, len(rows), _AT_ONCE):
            self._raw.cursor().executemany(statement, rows[some : some + _AT_ONCE])
            self._alive()
