"""The stop button while a `%%gpu` cell waits or runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class InterruptCount:
    """Counts SIGINTs instead of raising, and wakes a select.

    The serve loop must not be torn out of a half-read message; it looks here instead.
    """

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._count = 0

    def fileno(self) -> int:
        """Readable when an interrupt came."""
        return self._read_end

    def take(self) -> int:
        """Interrupts since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, 4096)
        count, self._count = self._count, 0
        return count

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Counts within this block. On another thread than the main one it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raises KeyboardInterrupt within this block of `counting`, where a person is asked."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        counting = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, counting)

    def close(self) -> None:
        """Gives the pipe back."""
        os.close(self._read_end)
        os.close(self._write_end)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"!")
