"""Books in a database that outlives the broker: SQLAlchemy Core on SQLite."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, make_url, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from zerokernel.broker.ledger import sqlite
from zerokernel.broker.ledger.books import Account, Books, Record, empty_account
from zerokernel.broker.ledger.flusher import Flusher
from zerokernel.broker.ledger.port import DAY, Beat, Entry, Usage
from zerokernel.broker.ledger.schema import bring_up_to_date
from zerokernel.broker.ledger.tables import accounts, leases
from zerokernel.errors import LedgerUnavailable

_RECENT = 1000


class SqlLedger(Books):
    """Books in an SQLite file, without a quota. Held by one broker at a time.

    Everything written outlives the broker at once. Refunds and extensions outlive a loss of
    power as well; a reservation does some milliseconds after the call, together with what was
    settled before; heartbeats may lose the last moments.

    Args:
        where: A path, or a URL such as "sqlite:////var/lib/zerokernel/ledger.sqlite".
        window_seconds: How long a quota window lasts.
        busy_seconds: How long to wait for a broker that is just ending.

    Raises:
        LedgerUnavailable: The file is held by another broker, on a file system that hosts
            share, of a newer version, damaged, or cannot be written.
    """

    def __init__(
        self,
        where: str | Path,
        window_seconds: float = DAY,
        busy_seconds: float = 5.0,
    ) -> None:
        super().__init__(_SqlShelf(file_of(where), busy_seconds), window_seconds)


def file_of(where: str | Path) -> Path:
    """Gives the file that a path or URL names. Raises LedgerUnavailable for another database."""
    if isinstance(where, Path) or "://" not in where:
        return Path(where).expanduser().absolute()
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise LedgerUnavailable(f"The ledger's URL is not understood: {error}") from error
    if url.get_backend_name() != "sqlite" or not url.database:
        raise LedgerUnavailable(
            "This version keeps its books in an SQLite file; name one in the setting ledger_path, "
            "by its path or as sqlite:////PATH."
        )
    return Path(url.database).absolute()


class _SqlShelf:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._engine, self._raw = sqlite.open_file(path, busy_seconds)
        self._connection = self._engine.connect()
        self._flusher = Flusher(path)
        try:
            with self._transaction() as connection:
                bring_up_to_date(connection, str(path))
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{self._path}>"

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[_SqlPages]:
        with self._transaction(durable) as connection:
            yield _SqlPages(connection)

    @contextmanager
    def reading(self) -> Iterator[_SqlPages]:
        with self._transaction() as connection:
            yield _SqlPages(connection)

    def flush_soon(self) -> None:
        self._flusher.ask()

    def close(self) -> None:
        self._flusher.close()
        with self._lock:
            self._connection.close()
            self._engine.dispose()
            self._raw.close()

    @contextmanager
    def _transaction(self, durable: bool = True) -> Iterator[Connection]:
        with self._lock:
            try:
                if not durable:
                    self._raw.execute("PRAGMA synchronous=NORMAL")
                with self._connection.begin():
                    yield self._connection
            except (SQLAlchemyError, sqlite3.Error) as error:
                raise sqlite.unavailable(self._path, error) from error
            finally:
                if not durable:
                    self._raw.execute("PRAGMA synchronous=FULL")


_FIND_ACCOUNT = select(accounts).where(accounts.c.user_name == bindparam("user"))
_FIND_LEASE = select(leases).where(
    leases.c.user_name == bindparam("user"), leases.c.lease == bindparam("lease_id")
)
_ALL_OPEN = select(leases).where(leases.c.is_open).order_by(leases.c.number)
_FIND_OPEN = _ALL_OPEN.where(leases.c.lease.in_(bindparam("lease_ids", expanding=True)))
_RECENT_OF = (
    select(leases)
    .where(leases.c.user_name == bindparam("user"))
    .order_by(leases.c.number.desc())
    .limit(_RECENT)
)
_BEAT = (
    update(leases)
    .where(leases.c.lease == bindparam("lease_id"), leases.c.is_open)
    .where(leases.c.ran <= bindparam("beat_ran"), leases.c.last_held <= bindparam("beat_held"))
    .values(ran=bindparam("beat_ran"), last_held=bindparam("beat_held"))
)
_new_lease = insert(leases)
_SAVE_LEASE = _new_lease.on_conflict_do_update(
    index_elements=[leases.c.user_name, leases.c.lease],
    set_={
        column.name: _new_lease.excluded[column.name]
        for column in leases.c
        if column.name not in ("number", "user_name", "lease")
    },
)
_new_account = insert(accounts)
_SAVE_ACCOUNT = _new_account.on_conflict_do_update(
    index_elements=[accounts.c.user_name],
    set_={c.name: _new_account.excluded[c.name] for c in accounts.c if c.name != "user_name"},
)


class _SqlPages:
    """The pages inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def account(self, user: str) -> Account:
        row = self._connection.execute(_FIND_ACCOUNT, {"user": user}).one_or_none()
        return empty_account(user) if row is None else _account(row)

    def record(self, user: str, lease: str) -> Record | None:
        found = self._connection.execute(_FIND_LEASE, {"user": user, "lease_id": lease})
        row = found.one_or_none()
        return None if row is None else _record(row)

    def open_records(self, leases: Collection[str] | None = None) -> list[Record]:
        if leases is None:
            rows = self._connection.execute(_ALL_OPEN)
        else:
            rows = self._connection.execute(_FIND_OPEN, {"lease_ids": list(leases)})
        return [_record(row) for row in rows]

    def recent(self, user: str) -> list[Record]:
        return [_record(row) for row in self._connection.execute(_RECENT_OF, {"user": user})]

    def save(self, account: Account, records: Iterable[Record]) -> None:
        self._connection.execute(_SAVE_ACCOUNT, _account_row(account))
        for record in records:
            self._connection.execute(_SAVE_LEASE, _lease_row(record))

    def beat(self, running: Mapping[str, Beat]) -> None:
        rows = [
            {"lease_id": lease, "beat_ran": beat.ran, "beat_held": beat.held}
            for lease, beat in running.items()
        ]
        self._connection.execute(_BEAT, rows)


def _account(row: Row[Any]) -> Account:
    usage = Usage(row.user_name, row.leases, row.reserved, row.charged, row.held)
    return Account(usage, row.window_at, row.window_charged, row.window_reserved)


def _account_row(account: Account) -> dict[str, Any]:
    usage = account.usage
    return {
        "user_name": usage.user,
        "leases": usage.leases,
        "reserved": usage.reserved,
        "charged": usage.charged,
        "held": usage.held,
        "window_at": account.window,
        "window_charged": account.window_charged,
        "window_reserved": account.window_reserved,
    }


def _record(row: Row[Any]) -> Record:
    entry = Entry(
        row.user_name,
        row.lease,
        row.reserved,
        row.charged,
        row.held,
        open=row.is_open,
        cause=row.cause,
        refunded=row.refunded,
        ran=row.ran,
    )
    return Record(entry, row.window_at, row.opened_at, row.last_held)


def _lease_row(record: Record) -> dict[str, Any]:
    entry = record.entry
    return {
        "user_name": entry.user,
        "lease": entry.lease,
        "reserved": entry.reserved,
        "charged": entry.charged,
        "held": entry.held,
        "is_open": entry.open,
        "cause": entry.cause,
        "refunded": entry.refunded,
        "ran": entry.ran,
        "last_held": record.last_held,
        "opened_at": record.opened_at,
        "window_at": record.window,
    }
