"""The books in one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError

from zerokernel.broker.ledger import sqlite
from zerokernel.broker.ledger.books import Account, Pages, Record, empty_account
from zerokernel.broker.ledger.flusher import Flusher
from zerokernel.broker.ledger.port import Beat
from zerokernel.broker.ledger.rows import account_of, account_row, lease_row, record_of
from zerokernel.broker.ledger.schema import bring_up_to_date
from zerokernel.broker.ledger.statements import (
    ALL_OPEN,
    BEAT,
    FIND_ACCOUNT,
    FIND_LEASE,
    RECENT_OF,
    save_account,
    save_lease,
)
from zerokernel.broker.ledger.tables import leases

_T = TypeVar("_T")


class SqliteShelf:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._engine, self._raw = sqlite.open_file(path, busy_seconds)
        self._connection = self._engine.connect()
        self._flusher = Flusher(path)
        try:
            with self._transaction() as connection:
                bring_up_to_date(connection, str(path), "ledger_path")
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{self._path}>"

    def write(self, change: Callable[[Pages], None], durable: bool = True) -> None:
        """Makes a change; ``durable`` means that it is on the disk when this returns."""
        with self._transaction(durable) as connection:
            change(_SqlitePages(connection))

    def read(self, look: Callable[[Pages], _T]) -> _T:
        """Gives what is seen in the pages."""
        with self._transaction() as connection:
            return look(_SqlitePages(connection))

    def flush_soon(self) -> None:
        """Begins to put on the disk what was written; does not wait for it."""
        self._flusher.ask()

    def close(self) -> None:
        """Lets go of the file."""
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


_FIND_OPEN = ALL_OPEN.where(leases.c.lease.in_(bindparam("lease_ids", expanding=True)))
_SAVE_LEASE, _SAVE_ACCOUNT = save_lease(insert), save_account(insert)


class _SqlitePages:
    """The pages inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def account(self, user: str) -> Account:
        row = self._connection.execute(FIND_ACCOUNT, {"user": user}).one_or_none()
        return empty_account(user) if row is None else account_of(row)

    def record(self, user: str, lease: str) -> Record | None:
        found = self._connection.execute(FIND_LEASE, {"user": user, "lease_id": lease})
        row = found.one_or_none()
        return None if row is None else record_of(row)

    def open_records(self, leases: Collection[str] | None = None) -> list[Record]:
        if leases is None:
            rows = self._connection.execute(ALL_OPEN)
        else:
            rows = self._connection.execute(_FIND_OPEN, {"lease_ids": list(leases)})
        return [record_of(row) for row in rows]

    def recent(self, user: str) -> list[Record]:
        return [record_of(row) for row in self._connection.execute(RECENT_OF, {"user": user})]

    def save(self, account: Account, records: Iterable[Record]) -> None:
        self._connection.execute(_SAVE_ACCOUNT, account_row(account))
        self._connection.execute(_SAVE_LEASE, [lease_row(record) for record in records])

    def beat(self, running: Mapping[str, Beat]) -> None:
        rows = [
            {"lease_id": lease, "beat_ran": beat.ran, "beat_held": beat.held}
            for lease, beat in running.items()
        ]
        self._connection.execute(BEAT, rows)
