"""One connection that has the ledger's lock: the right to write in the books.

The lock is the server's and belongs to the session (an "advisory lock"), so it is gone when the
session is, and nothing that was under way can be written any more. The session asks the server
to end it when it is silent: a broker that stands still, or whose machine is gone while its
connection lingers, keeps nobody out for longer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from zerokernel.broker.ledger.postgresql.address import Address
from zerokernel.broker.ledger.postgresql.flush import GroupFlush
from zerokernel.broker.ledger.postgresql.known import Known
from zerokernel.broker.ledger.postgresql.threads import Watch
from zerokernel.broker.ledger.schema import REVISIONS, bring_up_to_date
from zerokernel.errors import LedgerConnectionLost, LedgerUnavailable

log = logging.getLogger("zerokernel.broker")

_LOCK = zlib.crc32(b"zerokernel ledger") - (1 << 31)
"""Half of the lock's number; the other half is the schema's, so that each has a lock of its own."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Session:
    """A connection with the lock, and the one that waits for the disk.

    Attributes:
        raw: Has the lock; what it commits does not wait.
        flush: Waits for what it committed.
        backend: The server's process for ``raw``.
        known: What is at the server, as far as the session wrote it.
    """

    raw: psycopg.Connection
    flush: GroupFlush
    backend: int
    known: Known = field(default_factory=Known)

    @property
    def alive(self) -> bool:
        """Whether neither connection is known to be lost."""
        return not self.raw.closed and not self.flush.raw.closed

    def close(self) -> None:
        """Closes both, whatever state they are in. Whoever calls it uses ``raw`` alone."""
        for connection in (self.raw, self.flush):
            with contextlib.suppress(psycopg.Error):
                connection.close()


def open_session(
    address: Address, watch: Watch, silence: float, busy_seconds: float, before: int = 0
) -> Session:
    """Connects, takes the lock and brings the tables up to date.

    Args:
        address: Of the database.
        watch: Cuts the connection when the server does not answer.
        silence: Seconds of silence after which the server is to end the session.
        busy_seconds: How long to wait for a broker that is just ending.
        before: The backend of a session of this very broker, whose connection is lost: if it
            lingers at the server it is ended.

    Raises:
        LedgerUnavailable: The server is not there or refuses; another broker has the lock; the
            tables are newer, or something else's.
    """
    with contextlib.ExitStack() as undone:
        raw = undone.enter_context(contextlib.closing(address.connect(our_name())))
        try:
            with watch.over(raw):
                _prepare(raw, silence)
                _take_lock(raw, address, busy_seconds, before, watch)
                known = _revision(raw) == REVISIONS[-1]
            if not known:
                _bring_up_to_date(address)
            beside = undone.enter_context(contextlib.closing(address.connect(our_name())))
            with watch.over(beside):
                _prepare_beside(beside, silence)
        except psycopg.Error as error:
            raise unavailable(address, error) from error
        undone.pop_all()
    return Session(raw, GroupFlush(beside, watch), raw.info.backend_pid)


def our_name() -> str:
    """Gives what the server's list of connections shows of this broker (63 bytes at most)."""
    return f"zerokernel on {os.uname().nodename[:30]}, process {os.getpid()}"


def unavailable(address: Address, error: psycopg.Error) -> LedgerUnavailable:
    """Says what an error of the server means, and what to do."""
    text = str(error.diag.message_primary or error).strip().rstrip(".")
    if isinstance(error, errors.DiskFull):
        return LedgerUnavailable(
            f"The ledger {address} cannot be written: its server's disk is full. Nothing was "
            "written; make room, and it goes on."
        )
    if isinstance(error, errors.InsufficientPrivilege | errors.InvalidSchemaName):
        return LedgerUnavailable(
            f"The ledger {address} may not be used: {text}. Its user must own the tables, or the "
            "schema that they are made in."
        )
    return LedgerUnavailable(f"The ledger {address} cannot be read or written: {text}.")


def lost(address: Address) -> LedgerConnectionLost:
    """Says that a connection is lost."""
    return LedgerConnectionLost(
        f"The connection to the ledger {address} was lost. It is made anew by itself once the "
        "server can be reached."
    )


def _prepare(raw: psycopg.Connection, silence: float) -> None:
    milliseconds = str(round(1000 * silence))
    wanted = {"synchronous_commit": "off", "idle_in_transaction_session_timeout": milliseconds}
    if raw.info.server_version >= 140000:
        wanted["idle_session_timeout"] = milliseconds
    _set(raw, {**wanted, **_noticing(silence)})


def _prepare_beside(raw: psycopg.Connection, silence: float) -> None:
    wanted = _noticing(silence)
    if _ask(raw, "SHOW synchronous_commit") == "off":
        wanted["synchronous_commit"] = "on"
    _set(raw, wanted)
    if _ask(raw, "SHOW fsync") == "off":
        log.warning("the ledger's server has fsync off: a loss of power may ruin the books")


def _noticing(silence: float) -> dict[str, str]:
    """Settings by which the server notices a machine that went without a word."""
    seconds = str(max(1, round(silence / 4)))
    return {
        "tcp_keepalives_idle": seconds,
        "tcp_keepalives_interval": seconds,
        "tcp_keepalives_count": "2",
        "tcp_user_timeout": str(round(1000 * silence)),
    }


def _set(raw: psycopg.Connection, wanted: dict[str, str]) -> None:
    for name, value in wanted.items():
        raw.execute("SELECT set_config(%s, %s, false)", (name, value))


def _take_lock(
    raw: psycopg.Connection, address: Address, busy_seconds: float, before: int, watch: Watch
) -> None:
    key = (_LOCK, zlib.crc32(str(_ask(raw, "SELECT current_schema()")).encode()) - (1 << 31))
    until, told = time.monotonic() + busy_seconds, False
    while not _ask(raw, "SELECT pg_try_advisory_lock(%s, %s)", key):
        watch.again(raw)
        backend, holder = _holder(raw, key)
        if before and backend == before and holder == our_name():
            _ask(raw, "SELECT pg_terminate_backend(%s)", (before,))
        elif time.monotonic() >= until:
            raise LedgerUnavailable(
                f"Another broker holds the ledger {address} ({holder}; the server's process "
                f"{backend}); end it with `zerokernel stop`, or name another database in the "
                "setting ledger_url."
            )
        elif not told:
            told = True
            log.info("waiting for %s to let go of the ledger %s", holder, address)
        time.sleep(_POLL_SECONDS)


def _holder(raw: psycopg.Connection, key: tuple[int, int]) -> tuple[int, str]:
    """Gives the backend that has the lock, 0 if it is gone by now, and what it calls itself."""
    row = raw.execute(
        "SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND pg_locks.database = pg_stat_activity.datid"
        " AND datname = current_database()"
        " AND classid = (%s::bigint & 4294967295)::oid AND objid = (%s::bigint & 4294967295)::oid",
        key,
    ).fetchone()
    return (0, "it is just ending") if row is None else (row[0], row[1] or "of unknown name")


def _revision(raw: psycopg.Connection) -> str | None:
    if _ask(raw, "SELECT to_regclass('alembic_version')") is None:
        return None
    found = _ask(raw, "SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


def _bring_up_to_date(address: Address) -> None:
    """By a connection of its own, while the session has the lock."""
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _for_transactions(address.connect(our_name())),
        poolclass=NullPool,
        use_native_hstore=False,
    )
    try:
        with engine.begin() as connection:
            bring_up_to_date(connection, str(address), "ledger_url")
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None)
        if isinstance(cause, psycopg.Error):
            raise unavailable(address, cause) from error
        raise LedgerUnavailable(f"The ledger {address} cannot be used: {error}") from error
    finally:
        engine.dispose()


def _for_transactions(raw: psycopg.Connection) -> psycopg.Connection:
    raw.autocommit = False
    return raw


def _ask(raw: psycopg.Connection, question: str, values: tuple[object, ...] = ()) -> Any:
    row = raw.execute(question, values).fetchone()
    return None if row is None else row[0]
