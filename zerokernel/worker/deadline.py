"""The end of a cell's time, early enough for what it has computed to come home.

The worker itself raises GpuDeadline; the supervisor, which the cell cannot touch, ends the
worker at the limit.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
import time
from collections.abc import Callable

from zerokernel.worker.interrupts import Interrupts

LEAST_MARGIN = 2.0
"""GpuDeadline comes at least so many seconds before the end, or half the limit before it."""

ASKING_SECONDS = 2.0
"""The broker has so long to give more time before GpuDeadline is raised, or a quarter of the limit
where that is less: on a busy machine its answer may take a while."""

AGAIN_SECONDS = 0.25
"""A GpuDeadline that was swallowed is raised again after this time."""

LAST_WORD_SECONDS = 0.2
"""So long before the end a cell that goes on is reported, with the line where it is."""

DEFAULT_RATE = 400e6
"""Bytes a second that results take home, before that was measured; low on purpose."""

_LOOK_SECONDS = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Deadline:
    """Watches the time of the running cell from a thread of its own.

    Args:
        interrupts: Raises in the cell.
        ask: Asks the broker for more time; the answer comes by `extend`.
        stuck: Told, with what the cell does, where it does not react.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        interrupts: Interrupts,
        ask: Callable[[], None],
        stuck: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interrupts = interrupts
        self._ask = ask
        self._stuck = stuck
        self._clock = clock
        self._rate = DEFAULT_RATE
        self._empty = private_bytes()
        # Guarded by _changed: the running cell's time, None between cells.
        self._changed = threading.Condition()
        self._begun: float | None = None
        self._limit = 0.0
        self._why = ""
        self._cells = 0
        self._wakes_at = 0.0  # when the thread, if it waits, looks next by itself
        self._thread: threading.Thread | None = None

    def start(self, limit: float) -> None:
        """The cell begins; it may run ``limit`` seconds."""
        with self._changed:
            self._begun, self._limit, self._why = self._clock(), limit, ""
            self._cells += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="deadline")
                self._thread.start()
            # A short cell is over before anybody looks: waking the thread would only delay it.
            elif self._wakes_at > self._begun + min(_LOOK_SECONDS, limit / 4):
                self._changed.notify()

    def stop(self) -> None:
        """The cell is over."""
        with self._changed:
            self._begun = None

    def extend(self, limit: float, why: str = "") -> None:
        """The cell may run ``limit`` seconds from its start.

        Args:
            limit: Less than before only where there is a reason.
            why: The reason; "" for none.
        """
        with self._changed:
            self._limit = limit if why else max(self._limit, limit)
            self._why = why
            self._changed.notify()

    def measured(self, size: int, seconds: float) -> None:
        """Takes note of how fast results went home; small ones tell nothing."""
        if size > 8 << 20 and seconds > 0:
            self._rate = size / seconds

    def margin(self) -> float:
        """Seconds before the limit at which the cell must stop to bring everything home."""
        grown = max(0, private_bytes() - self._empty) + device_bytes()
        return min(self._limit / 2, max(LEAST_MARGIN, LEAST_MARGIN / 2 + grown / self._rate))

    # --- in the thread ------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            with self._changed:
                idle: float | None = _LOOK_SECONDS
                while self._begun is None:
                    self._pause(idle)
                    idle = None  # no cell followed soon: the next one wakes this thread
                cell = self._cells
            while self._is_running(cell):
                self._watch_limit(cell, self._limit)

    def _watch_limit(self, cell: int, limit: float) -> None:
        """Until the cell is over or its limit changes."""
        asking = min(ASKING_SECONDS, limit / 4)
        if not self._wait(cell, limit, lambda: self.margin() + asking, _LOOK_SECONDS):
            return
        if not self._why:  # else there is no more time to be had
            self._ask()
        if not self._wait(cell, limit, self.margin, asking):
            return
        text = self._reason(limit)
        self._interrupts.raise_deadline(text)
        while self._wait(cell, limit, lambda: 0.0, AGAIN_SECONDS, once=True):
            if self._left(limit) <= LAST_WORD_SECONDS + AGAIN_SECONDS:
                self._say_stuck(cell, limit)
                return
            self._interrupts.raise_deadline(text)

    def _reason(self, limit: float) -> str:
        text = "so it was stopped early enough to bring home what it had computed: that is in "
        if self._why:
            return f"The cell had to give way, {text}the notebook. It {self._why}."
        return (
            f"The cell's limit of {limit:g} s is nearly over, {text}the notebook. Ask for more "
            "time with --duration."
        )

    def _say_stuck(self, cell: int, limit: float) -> None:
        if self._wait(cell, limit, lambda: LAST_WORD_SECONDS, LAST_WORD_SECONDS):
            self._stuck(describe_main_thread(self._interrupts.deadline_seen))
            self._wait(cell, limit, lambda: -60.0, 60.0)

    def _wait(
        self,
        cell: int,
        limit: float,
        before: Callable[[], float],
        longest: float,
        once: bool = False,
    ) -> bool:
        """Waits until ``before`` seconds before the limit, or for one time ``longest``.

        False where the cell ended or got another limit meanwhile.
        """
        while self._is_running(cell) and self._limit == limit:
            left = self._left(limit) - before()
            if left <= 0:
                return True
            with self._changed:
                self._pause(min(left, longest))
            if once:
                return self._is_running(cell) and self._limit == limit
        return False

    def _pause(self, seconds: float | None) -> None:
        """Waits, with the lock held, until then or until something changes."""
        self._wakes_at = float("inf") if seconds is None else self._clock() + seconds
        self._changed.wait(seconds)
        self._wakes_at = 0.0

    def _is_running(self, cell: int) -> bool:
        return self._begun is not None and self._cells == cell

    def _left(self, limit: float) -> float:
        begun = self._begun
        return limit if begun is None else begun + limit - self._clock()


def private_bytes() -> int:
    """Memory that this process alone uses: more than what its results can take."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * _PAGE


def device_bytes() -> int:
    """Memory of tensors on a device, 0 where none is in use."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return int(cuda.memory_allocated()) if cuda is not None and cuda.is_initialized() else 0


def describe_main_thread(deadline_seen: bool) -> str:
    """Says what the cell does that does not stop, with its innermost line in a notebook cell."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    innermost = frame
    while frame is not None and "ipykernel" not in frame.f_code.co_filename:
        frame = frame.f_back
    frame = frame or innermost
    where = ""
    if frame is not None:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        where = f" at line {frame.f_lineno}" + (f", `{line}`" if line else "")
    if deadline_seen:
        return f"the cell caught GpuDeadline and went on{where}"
    return f"the cell was inside one long call that Python cannot interrupt{where}"
