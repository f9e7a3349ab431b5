"""Done beside the broker's work: asking the server now and then, and not waiting for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import psycopg


class Every:
    """Calls something in a thread again and again until it is closed.

    Args:
        seconds: Between two calls.
        work: Must not raise.
        name: Of the thread.
    """

    def __init__(self, seconds: float, work: Callable[[], None], name: str) -> None:
        self._closed = threading.Event()
        self._seconds = seconds
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends after the call that runs."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._seconds):
            self._work()


class Watch:
    """Cuts a connection whose server does not answer: what waits for it gets an error.

    Args:
        seconds: How long a server may take to answer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._watched: dict[psycopg.Connection, float] = {}  # since when
        self._thread = Every(seconds / 4, self._look, "ledger-watch")

    @contextlib.contextmanager
    def over(self, raw: psycopg.Connection) -> Iterator[None]:
        """Watches what is done meanwhile; to be told by `again` when the server answered."""
        self.again(raw)
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(raw, None)

    def again(self, raw: psycopg.Connection) -> None:
        """The time that the server may take begins anew."""
        with self._lock:
            self._watched[raw] = time.monotonic()

    def close(self) -> None:
        """Ends the thread."""
        self._thread.close()

    def _look(self) -> None:
        with self._lock:  # so that no connection is let go, and its number reused, meanwhile
            for raw, since in self._watched.items():
                if time.monotonic() - since > self._seconds:
                    _cut(raw)


def _cut(raw: psycopg.Connection) -> None:
    with contextlib.suppress(OSError, psycopg.Error):
        end = socket.socket(fileno=os.dup(raw.fileno()))
        with end:
            end.shutdown(socket.SHUT_RDWR)
