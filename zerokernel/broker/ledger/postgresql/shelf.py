"""The books on a server: one connection, used by one thread at a time.

A grant costs three ways to the server: to look, to write, and to wait for its disk together with
the others that wait.
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
_TICK_SECONDS = 0.25
"""How often a server that is away is looked for."""
_BUSY_SECONDS = 0.1
"""How long a broker that lost its session waits for the server to notice that too."""


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
        self._watch = Watch(answer)
        # Under the lock, but for `_away` while it is not None: then `_beside` alone connects.
        self._closed = False
        self._away: LedgerUnavailable | None = None  # why there is no session
        self._said = time.monotonic()  # something to the server, at the latest
        try:
            self._session = open_session(address, self._watch, silence, busy_seconds)
        except BaseException:
            self._watch.close()
            raise
        self._thread = Every(min(_TICK_SECONDS, silence / 8), self._beside, "ledger-session")

    def __repr__(self) -> str:
        return f"<{self._address}>"

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[PostgresPages]:
        """Gives the pages for one change; ``durable`` means on the disk when it returns."""
        with self._lock:
            session = self._connected()
            raw = session.raw
            with self._errors(session), self._watch.over(raw):
                pages = PostgresPages(raw, lambda: self._watch.again(raw))
                yield pages
                pages.write()
                self._said = time.monotonic()
        if durable:
            self._flush(session)

    @contextmanager
    def reading(self) -> Iterator[PostgresPages]:
        """Gives the pages for a look."""
        with self._lock:
            session = self._connected()
            raw = session.raw
            with self._errors(session), self._watch.over(raw):
                yield PostgresPages(raw, lambda: self._watch.again(raw))

    def flush_soon(self) -> None:
        """The server does by itself, within three times its `wal_writer_delay`."""

    def close(self) -> None:
        """Lets go of the connection and with it of the lock."""
        with self._lock:
            self._closed = True
            self._session.close()
        self._thread.close()
        self._watch.close()

    def _flush(self, session: Session) -> None:
        """Waits for the disk, while others write."""
        try:
            session.flush.wait()
        except psycopg.Error as error:
            # Whatever it is: what was written is to be written again, in another session.
            session.flush.raw.close()
            raise lost(self._address) from error

    @contextmanager
    def _errors(self, session: Session) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            # A server that became a standby: another one can be written to.
            if self._rolled_back(session.raw) and not isinstance(
                error, errors.ReadOnlySqlTransaction
            ):
                raise unavailable(self._address, error) from error
            session.close()
            raise lost(self._address) from error
        except BaseException:
            self._rolled_back(session.raw)
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
        if self._away is not None:
            raise LedgerUnavailable(str(self._away))
        if self._session.alive:
            return self._session
        self._session.close()
        try:
            self._session = self._another_session()
        except LedgerUnavailable as error:
            self._away = error
            raise
        return self._session

    def _another_session(self) -> Session:
        before = self._session.backend
        return open_session(self._address, self._watch, self._silence, _BUSY_SECONDS, before)

    def _beside(self) -> None:
        """Keeps the session, or gets another while nobody waits for it."""
        if self._away is not None:
            self._come_back()
        elif time.monotonic() - self._said > self._silence / 4:
            self._say_something()

    def _come_back(self) -> None:
        try:
            session = self._another_session()
        except LedgerUnavailable as error:
            self._away = error
            return
        with self._lock:
            if self._closed:
                session.close()
            else:
                self._session, self._away = session, None

    def _say_something(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # it is at work
        try:
            session = self._connected()
            with self._errors(session), self._watch.over(session.raw):
                session.raw.execute("SELECT 1")
                self._said = time.monotonic()
        except LedgerUnavailable:
            pass  # whoever needs it is told
        finally:
            self._lock.release()
