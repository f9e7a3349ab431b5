"""The pages inside one transaction on the server."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import psycopg
from sqlalchemy import (
    ARRAY,
    LABEL_STYLE_TABLENAME_PLUS_COL,
    ClauseElement,
    String,
    and_,
    any_,
    bindparam,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.psycopg import dialect

from zerokernel.broker.ledger.books import Account, Record, empty_account
from zerokernel.broker.ledger.port import Beat
from zerokernel.broker.ledger.postgresql.known import Known
from zerokernel.broker.ledger.rows import account_of, account_row, lease_row, record_of
from zerokernel.broker.ledger.statements import (
    ALL_OPEN,
    BEAT,
    FIND_ACCOUNT,
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


_ACCOUNT = [column.name for column in accounts.c]
_LEASE = [column.name for column in leases.c]
_AccountRow = namedtuple("_AccountRow", _ACCOUNT)  # type: ignore[misc]  # the table says which
_LeaseRow = namedtuple("_LeaseRow", _LEASE)  # type: ignore[misc]  # likewise

# A lease and its account, either of which may be missing: always one row.
_named = select(
    bindparam("user", type_=String).label("user_name"),
    bindparam("lease_id", type_=String).label("lease"),
).subquery("named")
_FIND_BOTH = _text(
    select(*accounts.c, *leases.c)
    .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    .select_from(_named)
    .outerjoin(accounts, accounts.c.user_name == _named.c.user_name)
    .outerjoin(
        leases,
        and_(leases.c.user_name == _named.c.user_name, leases.c.lease == _named.c.lease),
    )
)
_FIND_ACCOUNT, _RECENT_OF, _ALL_OPEN = _text(FIND_ACCOUNT), _text(RECENT_OF), _text(ALL_OPEN)
_OF_THESE = leases.c.lease == any_(bindparam("lease_ids", type_=ARRAY(String)))
_FIND_OPEN = _text(ALL_OPEN.where(_OF_THESE))
_BEAT = _text(BEAT)
_SAVE_LEASE = _text(save_lease(insert), _LEASE[1:])
_SAVE_ACCOUNT = _text(save_account(insert), _ACCOUNT)


def _apart(statement: str, mark: str) -> str:
    """Gives the statement with other names for its values, so that two fit into one."""
    return statement.replace("%(", f"%({mark}")


# One statement is one transaction, without a word to begin and one to end it.
_SAVE_BOTH = f"WITH account AS ({_apart(_SAVE_ACCOUNT, 'a_')}) {_apart(_SAVE_LEASE, 'l_')}"


class PostgresPages:
    """Reads at once, and keeps what is to be written until `write`.

    Nobody else writes in the books: so what is read holds although it is no transaction.

    Args:
        raw: Each statement is a transaction on it, unless it says `BEGIN`.
        known: What need not be asked for.
        alive: Called whenever the server has answered.
    """

    def __init__(self, raw: psycopg.Connection, known: Known, alive: Callable[[], None]) -> None:
        self._raw = raw
        self._known = known
        self._alive = alive
        self._accounts: dict[str, Account] = {}
        self._saved: list[tuple[Account, list[Record]]] = []
        self._beats: list[dict[str, Any]] = []

    def account(self, user: str) -> Account:
        """Gives a user's account, an empty one for a stranger."""
        if (known := self._accounts.get(user) or self._known.account(user)) is not None:
            return known
        row = self._ask(_FIND_ACCOUNT, {"user": user}).fetchone()
        self._accounts[user] = _account(user, row)
        return self._accounts[user]

    def record(self, user: str, lease: str) -> Record | None:
        """Gives a lease."""
        if (known := self._known.record(user, lease)) is not None:
            return known
        # Who looks at a lease needs its account next.
        row = self._ask(_FIND_BOTH, {"user": user, "lease_id": lease}).fetchone()
        assert row is not None
        account, found = row[: len(_ACCOUNT)], row[len(_ACCOUNT) :]
        self._accounts[user] = _account(user, account)
        return None if found[0] is None else record_of(_LeaseRow._make(found))

    def open_records(self, leases: Collection[str] | None = None) -> list[Record]:
        """Gives the leases that are not settled, oldest first; all, or those of ``leases``."""
        if leases is None:
            return self._records(_ALL_OPEN, {})
        return self._records(_FIND_OPEN, {"lease_ids": list(leases)})

    def recent(self, user: str) -> list[Record]:
        """Gives a user's last leases, newest first."""
        return self._records(_RECENT_OF, {"user": user})

    def save(self, account: Account, records: Iterable[Record]) -> None:
        """Writes an account and some of its leases, known or new."""
        self._accounts[account.usage.user] = account
        self._saved.append((account, list(records)))

    def beat(self, running: Mapping[str, Beat]) -> None:
        """Notes heartbeats of open leases; one that is behind the last changes nothing."""
        self._beats += [
            {"lease_id": lease, "beat_ran": beat.ran, "beat_held": beat.held}
            for lease, beat in running.items()
        ]

    def write(self) -> None:
        """Writes all that was saved, or nothing of it."""
        match self._saved, self._beats:
            case [], []:
                return
            case [(account, [record])], []:
                self._ask(_SAVE_BOTH, _both(account, record))
            case _:
                self._write_many()
        for account, records in self._saved:
            self._known.written(account, records)
        self._known.forget(beat["lease_id"] for beat in self._beats)

    def _write_many(self) -> None:
        with self._raw.pipeline():
            self._raw.execute("BEGIN")
            self._each(_SAVE_ACCOUNT, [account_row(account) for account, _ in self._saved])
            rows = [lease_row(record) for _, records in self._saved for record in records]
            self._each(_SAVE_LEASE, rows)
            self._each(_BEAT, self._beats)
            self._raw.execute("COMMIT")

    def _ask(self, question: Any, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        found = self._raw.execute(question, values)
        self._alive()
        return found

    def _records(self, question: Any, values: dict[str, Any]) -> list[Record]:
        return [record_of(_LeaseRow._make(row)) for row in self._ask(question, values)]

    def _each(self, statement: Any, rows: list[dict[str, Any]]) -> None:
        for some in range(0, len(rows), _AT_ONCE):
            self._raw.cursor().executemany(statement, rows[some : some + _AT_ONCE])
            self._alive()


def _account(user: str, row: Any) -> Account:
    missing = row is None or row[0] is None
    return empty_account(user) if missing else account_of(_AccountRow._make(row))


def _both(account: Account, record: Record) -> dict[str, Any]:
    values = {f"a_{name}": value for name, value in account_row(account).items()}
    return values | {f"l_{name}": value for name, value in lease_row(record).items()}
