"""Group commit: everybody who waits for the server's disk waits for one and the same flush.

What is written is committed without waiting for the disk, by the connection that has the lock.
Then a commit of next to nothing, on a connection beside it, waits for the disk, which has by
then all that was committed before: the server's log is one file, in the order of the commits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import psycopg

from zerokernel.broker.ledger.books import Pages
from zerokernel.broker.ledger.postgresql.threads import Watch

Change = Callable[[Pages], None]

_FLUSH = "SELECT pg_logical_emit_message(true, 'zerokernel', '')"


class GroupFlush:
    """Waits for the disk of a server that ran since this was made.

    Args:
        raw: A connection for this alone. Made before what is to be flushed was written: when
            the server starts anew it is gone, and with it the promise.
        watch: Cuts the connection when the server does not answer.
    """

    def __init__(self, raw: psycopg.Connection, watch: Watch) -> None:
        self.raw = raw
        self._watch = watch
        self._counting, self._turn = threading.Lock(), threading.Lock()
        self._asked = self._flushed = 0

    def wait(self) -> None:
        """Returns when all that was committed before the call is on the disk.

        Raises:
            psycopg.Error: Nobody can tell whether it is.
        """
        with self._counting:
            self._asked += 1
            mine = self._asked
        with self._turn:
            if self._flushed >= mine:
                return  # by whoever had the turn before
            with self._counting:
                asked = self._asked
            try:
                with self._watch.over(self.raw):
                    self.raw.execute(_FLUSH)
            except psycopg.Error:
                # Whatever it is: the others that wait are to write again, in another session.
                self.raw.close()
                raise
            self._flushed = asked

    def close(self) -> None:
        """Closes the connection, after the flush that is under way."""
        with self._turn:
            self.raw.close()


class Unflushed:
    """The changes that are written, and perhaps not on the disk yet; usable by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: deque[tuple[int, Change]] = deque()
        self._written = 0

    @property
    def written(self) -> int:
        """How many changes were ever written."""
        return self._written

    def add(self, change: Change | None) -> int:
        """Notes that something was written. Gives its number.

        Args:
            change: None where somebody waits until it is on the disk, and makes it again if not.
        """
        with self._lock:
            self._written += 1
            if change is not None:
                self._changes.append((self._written, change))
            return self._written

    def forget(self, written: int) -> None:
        """What has this number or a lower one is on the disk."""
        with self._lock:
            while self._changes and self._changes[0][0] <= written:
                self._changes.popleft()

    def changes(self) -> list[Change]:
        """Gives those that may have to be made again, in their order."""
        with self._lock:
            return [change for _, change in self._changes]
