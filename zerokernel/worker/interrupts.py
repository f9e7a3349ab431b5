"""KeyboardInterrupt in the cell, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Owns SIGINT of the worker's main thread.

    Between cells an interrupt does nothing. Once a cell is announced it is kept for it, and
    inside the cell it raises KeyboardInterrupt, except while a message is being written:
    half a frame would end the channel, so it is raised right after.
    """

    def __init__(self) -> None:
        self._announced = False
        self._active = False
        self._held = 0
        self._pending = False

    def install(self) -> None:
        """Takes SIGINT over; called once, on the main thread."""
        signal.signal(signal.SIGINT, self._handle)

    def interrupt(self) -> None:
        """Interrupts the cell, from any thread."""
        os.kill(os.getpid(), signal.SIGINT)

    def announce_cell(self) -> None:
        """From here on the kernel may send an interrupt that is meant for the next cell."""
        self._pending = False
        self._announced = True

    @contextlib.contextmanager
    def in_cell(self) -> Iterator[None]:
        """Interrupts raise within this block; afterwards the handler is ours again."""
        self._active = True
        try:
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt
            yield
        finally:
            self._active = self._announced = False
            self.install()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """On the main thread, keeps an interrupt back until the block's end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._pending and not self._held:
                self._pending = False
                raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._active and not self._held:
            raise KeyboardInterrupt
        self._pending = self._active or self._announced
