"""Group commit: everybody who waits for the server's disk waits for one and the same flush.

What is written is committed without waiting for the disk, by the connection that has the lock.
Then a commit of next to nothing, on a connection beside it, waits for the disk, which has by
then all that was committed before: the server's log is one file, in the order of the commits.
"""

from __future__ import annotations

import threading

import psycopg

from zerokernel.broker.ledger.postgresql.threads import Watch

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
            with self._watch.over(self.raw):
                self.raw.execute(_FLUSH)
            self._flushed = asked
