"""Puts a database's log on the disk beside the broker's work, which does not wait for it."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

log = logging.getLogger("zerokernel.broker")


class Flusher:
    """Flushes SQLite's write-ahead log in a thread; what is asked for meanwhile is done once.

    A flush by another descriptor counts for the file. No lock is lost when that is closed: SQLite
    holds its locks on the database, not on its log.

    Args:
        database: The database file; its log lies beside it while the database is open.
    """

    def __init__(self, database: Path) -> None:
        self._log = database.with_name(f"{database.name}-wal")
        self._changed = threading.Condition()
        self._asked = 0
        self._flushed = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Flusher of {self._log}>"

    def ask(self) -> None:
        """What is written now is to be on the disk soon. Returns at once."""
        with self._changed:
            self._asked += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
                self._thread.start()
            self._changed.notify()

    def wait(self, seconds: float) -> bool:
        """Waits until everything that was asked for is on the disk; False if it takes longer."""
        with self._changed:
            asked = self._asked
            return self._changed.wait_for(lambda: self._flushed >= asked, seconds)

    def close(self) -> None:
        """Ends after the flush that runs; closing the database does the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._flushed < self._asked)
                if self._closed:
                    return
                asked = self._asked
            try:
                self._flush()
            except OSError as error:
                log.error("the ledger's log %s could not be flushed: %s", self._log, error)
            with self._changed:
                self._flushed = asked
                self._changed.notify_all()

    def _flush(self) -> None:
        descriptor = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
