"""The books in a database that outlives the broker: an SQLite file, or a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from zerokernel.broker.ledger.books import Books, Shelf
from zerokernel.broker.ledger.port import DAY
from zerokernel.broker.ledger.sqlite_shelf import SqliteShelf
from zerokernel.errors import LedgerUnavailable


class SqlLedger(Books):
    """Books in SQL, without a quota. Held by one broker at a time.

    Everything written outlives the broker at once. Refunds and extensions outlive a loss of
    power as well, and so do reservations on PostgreSQL and with ``durable_grants``; otherwise a
    reservation does some milliseconds after the call. What was settled before a reservation is
    on the disk with it; heartbeats may lose the last moments.

    Args:
        where: A path, or a URL such as "sqlite:////var/lib/zerokernel/ledger.sqlite" or
            "postgresql://zerokernel@db.example.org/ledger", without a password.
        window_seconds: How long a quota window lasts.
        busy_seconds: How long to wait for a broker that is just ending.
        durable_grants: Whether an SQLite file has each reservation on the disk before
            `reserve` returns.
        password_file: Has the password for the server; without it libpq's own ways count.

    Raises:
        LedgerUnavailable: The file is held by another broker, on a file system that hosts
            share, of a newer version, damaged, or cannot be written; the server cannot be
            reached, refuses, or another broker holds the ledger there.
    """

    def __init__(
        self,
        where: str | Path,
        window_seconds: float = DAY,
        busy_seconds: float = 5.0,
        durable_grants: bool = False,
        password_file: Path | None = None,
    ) -> None:
        if is_server(where):
            shelf, durable_grants = server_shelf(str(where), password_file, busy_seconds), True
        else:
            shelf = SqliteShelf(file_of(where), busy_seconds)
        super().__init__(shelf, window_seconds, durable_grants)


def is_server(where: str | Path) -> bool:
    """Whether that is the URL of a PostgreSQL server."""
    return isinstance(where, str) and where.startswith(("postgresql://", "postgres://"))


def server_shelf(url: str, password_file: Path | None, busy_seconds: float) -> Shelf:
    """Connects to a PostgreSQL server. Raises LedgerUnavailable."""
    try:
        from zerokernel.broker.ledger.postgresql.address import address_of
        from zerokernel.broker.ledger.postgresql.shelf import PostgresShelf
    except ImportError as error:
        raise LedgerUnavailable(
            f"A ledger on PostgreSQL needs `pip install 'zerokernel[postgresql]'` ({error})."
        ) from error
    return PostgresShelf(address_of(url, password_file), busy_seconds)


def file_of(where: str | Path) -> Path:
    """Gives the file that a path or URL names. Raises LedgerUnavailable for another database."""
    if isinstance(where, Path) or "://" not in where:
        return Path(where).expanduser().absolute()
    try:
        url = make_url(where)
    except ArgumentError:  # its text repeats the URL, which may have a password
        raise LedgerUnavailable("The ledger's URL is not understood.") from None
    if url.get_backend_name() != "sqlite" or not url.database:
        raise LedgerUnavailable(
            "The ledger is an SQLite file or on a PostgreSQL server; name a file in the setting "
            "ledger_path, by its path or as sqlite:////PATH, or a server in the setting "
            "ledger_url, as postgresql://USER@HOST/DATABASE."
        )
    return Path(url.database).absolute()
