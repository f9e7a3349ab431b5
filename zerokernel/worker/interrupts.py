"""KeyboardInterrupt and GpuDeadline in the cell, and nowhere else."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from zerokernel.errors import GpuDeadline

DEADLINE_SIGNAL = signal.SIGXCPU
"""Wakes the main thread out of a sleep or a select, and no library takes it for itself."""


class Interrupts:
    """Owns SIGINT and SIGXCPU of the worker's main thread.

    Between cells they do nothing. Once a cell is announced an interrupt is kept for it, and
    inside the cell they raise, except while a message is being written: half a frame would
    end the channel, so they raise right after.

    Attributes:
        seen: Set whenever Python had the chance to react to an interrupt.
        deadline_seen: Whether the running cell got a GpuDeadline.
        awaiting: Takes the error in the place of the code that runs, where that is not the
            cell's: it awaits something. False where it does not.
    """

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.deadline_seen = False
        self.awaiting: Callable[[BaseException], bool] = lambda error: False
        self._announced = False
        self._active = False
        self._in_code = False
        self._held = 0
        self._pending: BaseException | None = None
        self._deadline_text = ""

    def install(self) -> None:
        """Takes both signals over; called on the main thread."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(DEADLINE_SIGNAL, self._on_deadline)

    def interrupt(self) -> None:
        """Interrupts the cell, from any thread."""
        self.seen.clear()
        _signal_main_thread(signal.SIGINT)

    def raise_deadline(self, text: str) -> None:
        """Raises GpuDeadline in the cell, from any thread, unless one is on its way out."""
        self._deadline_text = text
        _signal_main_thread(DEADLINE_SIGNAL)

    def announce_cell(self) -> None:
        """From here on the kernel may send an interrupt that is meant for the next cell."""
        self._pending = None
        self.deadline_seen = False
        self._announced = True

    @contextlib.contextmanager
    def in_cell(self) -> Iterator[None]:
        """Both raise within this block; afterwards the handlers are ours again."""
        self._active = True
        try:
            self._raise_pending()
            yield
        finally:
            self._active = self._announced = False
            self.install()

    @contextlib.contextmanager
    def in_code(self) -> Iterator[None]:
        """The cell's own code runs within this block; around it the shell shows what came of it.

        A deadline that is raised again there would end the cell a second time.
        """
        self._in_code = True
        try:
            yield
        finally:
            self._in_code = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """On the main thread, keeps both back until the block's end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._raise_pending()

    def _raise_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._raise(pending)

    def _raise(self, error: BaseException) -> None:
        if not self.awaiting(error):
            raise error

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.seen.set()
        if self._active and not self._held:
            self._raise(KeyboardInterrupt())
        elif self._active or self._announced:
            self._pending = KeyboardInterrupt()

    def _on_deadline(self, _number: int, _frame: FrameType | None) -> None:
        if not (self._active and self._in_code) or _is_ending(sys.exc_info()[1]):
            return
        self.deadline_seen = True
        if self._held:
            self._pending = GpuDeadline(self._deadline_text)
        else:
            self._raise(GpuDeadline(self._deadline_text))


def _signal_main_thread(number: signal.Signals) -> None:
    """Sends it to that thread: one to the process may go to another, and not end a sleep."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


def _is_ending(error: BaseException | None) -> bool:
    """Whether a deadline is being handled right now: its ``finally`` blocks must run."""
    while error is not None:
        if isinstance(error, GpuDeadline):
            return True
        error = error.__context__
    return False
