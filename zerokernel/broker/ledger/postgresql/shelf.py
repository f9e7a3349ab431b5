"""The books on a server: one connection, used by one thread at a time.

A grant costs three ways to the server: to look, to write, and to wait for its disk together with
the others that wait. A settlement costs one, since nobody else writes what was known before. It
does not wait: it is kept in mind until it is on the disk with a later grant or a moment later, and
made again if the server dies before that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import psycopg
from psycopg import errors

from zerokernel.broker.ledger.books import Pages
from zerokernel.broker.ledger.postgresql.address import Address
from zerokernel.broker.ledger.postgresql.flush import Unflushed
from zerokernel.broker.ledger.postgresql.pages import PostgresPages
from zerokernel.broker.ledger.postgresql.session import (
    Session,
    lost,
    open_session,
    unavailable,
)
from zerokernel.broker.ledger.postgresql.threads import Every, Watch
from zerokernel.errors import LedgerConnectionLost, LedgerUnavailable

_T = TypeVar("_T")
SILENCE_SECONDS = 10.0
"""A broker of which the server hears nothing for so long has lost the ledger."""
ANSWER_SECONDS = 4.0
"""A server that does not answer for so long is away."""
_TICK_SECONDS = 0.25
"""How often a server that is away is looked for, and what nobody waits for is put on the disk."""
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
        self._unflushed = Unflushed()
        # Under the lock. While `_away` is not None, `_beside` alone connects.
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

    def write(self, change: Callable[[Pages], None], durable: bool = True) -> None:
        """Makes a change; ``durable`` means that it is on the disk when this returns."""
        try:
            self._write(change, durable)
        except LedgerConnectionLost:
            self._write(change, durable)

    def read(self, look: Callable[[Pages], _T]) -> _T:
        """Gives what is seen in the pages."""
        try:
            return self._read(look)
        except LedgerConnectionLost:
            return self._read(look)

    def flush_soon(self) -> None:
        """The server does by itself, within three times its `wal_writer_delay`."""

    def close(self) -> None:
        """Lets go of the connection and with it of the lock."""
        self._flush_the_rest()
        with self._lock:
            self._closed = True
            self._session.close()
        self._thread.close()
        self._watch.close()

    def _write(self, change: Callable[[Pages], None], durable: bool) -> None:
        with self._lock:
            session = self._connected()
            self._make(session, change)
            written = self._unflushed.add(None if durable else change)
        if durable:
            self._flush(session, written)

    def _read(self, look: Callable[[Pages], _T]) -> _T:
        with self._lock, self._pages(self._connected()) as pages:
            return look(pages)

    def _make(self, session: Session, change: Callable[[Pages], None]) -> None:
        with self._pages(session) as pages:
            change(pages)
            pages.write()
            self._said = time.monotonic()

    @contextmanager
    def _pages(self, session: Session) -> Iterator[PostgresPages]:
        with self._errors(session), self._watch.over(session.raw):
            yield PostgresPages(session.raw, session.known, lambda: self._watch.again(session.raw))

    def _flush(self, session: Session, written: int) -> None:
        """Waits for the disk, while others write."""
        try:
            session.flush.wait()
        except psycopg.Error as error:
            raise lost(self._address) from error
        self._unflushed.forget(written)

    @contextmanager
    def _errors(self, session: Session) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            session.known.forget_all()
            # A server that became a standby: another one can be written to.
            if self._rolled_back(session.raw) and not isinstance(
                error, errors.ReadOnlySqlTransaction
            ):
                raise unavailable(self._address, error) from error
            session.close()
            raise lost(self._address) from error
        except BaseException:
            session.known.forget_all()
            self._rolled_back(session.raw)
            raise

    def _rolled_back(self, raw: psycopg.Connection) -> bool:
        """Whether the connection is there, and in no transaction."""
        try:
            if not raw.closed:
                with self._watch.over(raw):
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
            self._take(self._another_session())
        except LedgerUnavailable as error:
            self._away = error
            raise
        return self._session

    def _another_session(self) -> Session:
        before = self._session.backend
        return open_session(self._address, self._watch, self._silence, _BUSY_SECONDS, before)

    def _take(self, session: Session) -> None:
        """Goes on in another session, perhaps with a server that has forgotten something."""
        try:
            for change in self._unflushed.changes():
                self._make(session, change)
        except BaseException:
            session.close()
            raise
        self._session, self._away = session, None

    def _beside(self) -> None:
        """Keeps the session, or gets another while nobody waits for it."""
        if self._away is not None:
            self._come_back()
            return
        self._flush_the_rest()
        if time.monotonic() - self._said > self._silence / 4:
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
                return
            try:
                self._take(session)
            except LedgerUnavailable as error:
                self._away = error

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

    def _flush_the_rest(self) -> None:
        """Puts settlements on the disk that no grant took with it."""
        session, written = self._session, self._unflushed.written
        if self._away is None and session.alive and self._unflushed.changes():
            with suppress(LedgerUnavailable):
                self._flush(session, written)
