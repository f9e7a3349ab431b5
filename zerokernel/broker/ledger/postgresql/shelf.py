"""The books on a server: one connection, used by one thread at a time.

What is done in one transaction is sent at once where nothing of it must be known before (a
"pipeline"): a grant costs two ways to the server and one flush of its disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from zerokernel.broker.ledger.postgresql.address import Address
from zerokernel.broker.ledger.postgresql.pages import PostgresPages
from zerokernel.broker.ledger.postgresql.session import (
    Session,
    let_go,
    lost,
    open_session,
    unavailable,
)
from zerokernel.broker.ledger.postgresql.threads import Every, Watch
from zerokernel.errors import LedgerUnavailable

SILENCE_SECONDS = 10.0
"""A broker of which the server hears nothing for so long has lost the ledger."""
ANSWER_SECONDS = 4.0
"""A server that does not answer for so long is away."""
_PAUSE = 4.0
"""So many times as long as an attempt to connect took none other is made."""
_LEAST_PAUSE = 0.1


class PostgresShelf:
    """Writes while it has the ledger's lock, and takes it again when the connection was lost.

    Args:
        address: Of the database.
        busy_seconds: How long to wait at the start for a broker that is just ending; one that
            was lost without a word takes up to ``silence``.
        silence: Seconds after which the server ends a session that says nothing.
        answer: Seconds that the server may take to answer.

    Raises:
        LedgerUnavailable: See `open_session`.
    """

    def __init__(
        self,
        address: Address,
        busy_seconds: float,
        silence: float = SILENCE_SECONDS,
        answer: float = ANSWER_SECONDS,
    ) -> None:
        self._address = address
        self._silence = silence
        self._lock = threading.Lock()
        # Under the lock:
        self._session: Session | None = None
        self._closed = False
        self._not_before = 0.0  # no attempt to connect
        self._refused = LedgerUnavailable()  # and why

        self._watch = Watch(answer)
        try:
            self._session = open_session(address, self._watch, silence, busy_seconds)
        except BaseException:
            self._watch.close()
            raise
        self._asking = Every(silence / 4, self._say_something, "ledger-ping")

    def __repr__(self) -> str:
        return f"<{self._address}>"

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[PostgresPages]:
        """Gives the pages for one change; ``durable`` means on the disk when it returns."""
        with self._lock:
            raw = self._connected().raw
            with self._errors(raw), self._watch.over(raw), raw.pipeline():
                raw.execute("BEGIN")
                if not durable:
                    raw.execute("SET LOCAL synchronous_commit TO off")
                yield PostgresPages(raw, lambda: self._watch.again(raw))
                raw.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[PostgresPages]:
        """Gives the pages for a look."""
        with self._lock:
            raw = self._connected().raw
            with self._errors(raw), self._watch.over(raw):
                yield PostgresPages(raw, lambda: self._watch.again(raw))

    def flush_soon(self) -> None:
        """The server does by itself, within three times its `wal_writer_delay`."""

    def close(self) -> None:
        """Lets go of the connection and with it of the lock."""
        with self._lock:
            self._closed = True
            if self._session is not None:
                let_go(self._session.raw)
        self._asking.close()
        self._watch.close()

    @contextmanager
    def _errors(self, raw: psycopg.Connection) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            # A server that became a standby: another one can be written to.
            if self._rolled_back(raw) and not isinstance(error, errors.ReadOnlySqlTransaction):
                raise unavailable(self._address, error) from error
            let_go(raw)
            raise lost(self._address) from error
        except BaseException:
            self._rolled_back(raw)
            raise

    @staticmethod
    def _rolled_back(raw: psycopg.Connection) -> bool:
        """Whether the connection is there, and in no transaction."""
        try:
            if not raw.closed:
                raw.rollback()
        except psycopg.Error:
            return False
        return not raw.closed

    def _connected(self) -> Session:
        if self._closed:
            raise LedgerUnavailable(f"The ledger {self._address} is closed.")
        if self._session is not None and not self._session.raw.closed:
            return self._session
        begun = time.monotonic()
        if begun < self._not_before:
            raise self._refused
        before = self._session.backend if self._session is not None else 0
        try:
            self._session = open_session(
                self._address, self._watch, self._silence, _LEAST_PAUSE, before
            )
        except LedgerUnavailable as error:
            took = time.monotonic() - begun
            self._not_before = time.monotonic() + max(_LEAST_PAUSE, _PAUSE * took)
            self._refused = LedgerUnavailable(str(error))
            raise
        return self._session

    def _say_something(self) -> None:
        """Keeps the session, or gets another; a broker at work has said something anyway."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            raw = self._connected().raw
            with self._errors(raw), self._watch.over(raw):
                raw.execute("SELECT 1")
        except LedgerUnavailable:
            pass  # whoever needs it is told
        finally:
            self._lock.release()
