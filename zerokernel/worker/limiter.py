"""Keeps what a cell shows within bounds, and says what was cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from zerokernel.worker.cuts import Gap, OutputLimits, Tally
from zerokernel.worker.held import (
    Shown,
    data_size,
    first_bytes,
    last_bytes,
    text_message,
    text_size,
)
from zerokernel.worker.updates import Updates

Publish = Callable[[str, dict[str, Any], dict[str, Any], Sequence[bytes | memoryview]], None]
"""Takes a message's type, content, metadata and buffers."""

BEFORE_DISPLAY = 4 << 10
"""So many bytes of text that is held are shown in front of a display that follows it."""

WAITING_UPDATES = 1000
"""Updates of more displays than this pass at once: the cell waits for them."""


class OutputLimiter:
    """Passes on what a cell shows: first all of it, beyond the limits only the last.

    Text and displays each have a limit. As long as there is room in it they pass at once
    and in order; then the newest are held until the cell's end, in order. When a display
    passes while text is held, of that text only what stood right before it is shown.

    Args:
        publish: Takes what is shown; it may block, which makes the cell wait.
        clock: Monotonic seconds.
    """

    def __init__(self, publish: Publish, clock: Callable[[], float] = time.monotonic) -> None:
        self._publish = publish
        self._clock = clock
        # All mutable state; it changes under the lock, on whichever thread shows something.
        self._lock = threading.RLock()
        self._limits = OutputLimits()
        self._tally = Tally()
        self._held = self._limits.held()
        self._gap: Gap | None = None
        self._updates = Updates()
        self._error: Shown | None = None  # whether it ends the cell is not known yet
        self._clear: Shown | None = None  # a clear_output(wait=True) that was not passed yet
        self._clearing = False  # one was passed, and nothing followed yet

    def __repr__(self) -> str:
        return f"<OutputLimiter {self._tally}>"

    # --- what streams, shell and task call ----------------------------------------------

    def begin(self, limits: OutputLimits) -> None:
        """Sets the limits of the cell that begins."""
        with self._lock:
            self._limits = limits
            if not self._held:  # else a thread of an earlier cell printed that much
                self._held = limits.held()

    def take(
        self,
        kind: str,
        content: dict[str, Any],
        metadata: dict[str, Any],
        buffers: Sequence[bytes | memoryview],
    ) -> None:
        """Takes one message of the cell."""
        with self._lock:
            if kind == "stream":
                self._on_text(content["name"], content["text"])
                return
            size = data_size(content) + sum(len(buffer) for buffer in buffers)
            handler = getattr(self, f"_on_{kind}", self._on_other)
            handler(Shown(kind, content, metadata, buffers, size))

    def tick(self) -> None:
        """Shows what waited long enough. Call it now and then while ``waits`` is true."""
        with self._lock:
            now = self._clock()
            self._emit(self._updates.take_due(now))
            if self._gap is not None:
                self._emit(self._gap.tick(now, self._held.last_text))

    @property
    def waits(self) -> bool:
        """Whether ``tick`` has, or will have, something to show."""
        return bool(self._updates) or self._gap is not None

    def finish(self) -> None:
        """The cell is over: shows what was held, says what was cut, and begins anew."""
        with self._lock:
            self._emit(self._updates.take())
            self._end_gap()
            self._emit(self._held.take())
            if self._tally.is_cut:
                self._emit([self._tally.summary(self._limits)])
            # Last: a traceback that ends the cell must not be followed by anything.
            self._emit([one for one in (self._clear, self._error) if one is not None])
            self._clear = self._error = None
            self._clearing = False
            self._updates = Updates()
            self._reset()

    # --- text ---------------------------------------------------------------------------

    def _on_text(self, name: str, text: str) -> None:
        if not text:
            return
        self._prepare()
        tally = self._tally
        size = text_size(text)
        tally.printed += size
        room = self._limits.head - tally.live_text
        if not tally.text_closed and size <= room:
            self._show_text(name, text, size)
        elif tally.text_closed:
            self._hold_text(name, text, size)
        else:
            tally.text_closed = True
            first = text_message(name, first_bytes(text, room))
            self._show_text(name, first.content["text"], first.size)
            start = max(len(first.content["text"]), len(text) - self._limits.tail)
            self._hold_text(name, text[start:], size - first.size)

    def _show_text(self, name: str, text: str, size: int) -> None:
        self._drop_held()  # displays beyond their limit that came before
        self._tally.live_text += size
        if text:
            self._emit([text_message(name, text)])

    def _hold_text(self, name: str, text: str, size: int) -> None:
        """Holds text that is the end of one of ``size`` bytes."""
        gone = size - text_size(text)
        self._cut(gone + self._held.add_text(name, text), 0)

    # --- displays -----------------------------------------------------------------------

    def _on_display_data(self, message: Shown) -> None:
        self._prepare()
        tally = self._tally
        tally.displayed += 1
        if (display_id := _display_id(message)) is not None:
            self._emit(self._updates.take(display_id))
        if tally.displays_closed or not self._has_room(message):
            tally.displays_closed = True
            self._cut(0, self._held.add_display(message))
            return
        self._show_text_before_display()
        tally.live_displays += 1
        tally.live_display_bytes += message.size
        self._emit([message])

    _on_execute_result = _on_display_data

    def _has_room(self, message: Shown) -> bool:
        tally, limits = self._tally, self._limits
        size = tally.live_display_bytes + message.size
        return (
            tally.live_displays < limits.output_messages - limits.last_displays
            and size <= limits.output_display_bytes - limits.last_display_bytes
        )

    def _show_text_before_display(self) -> None:
        """Of text that is held shows the last, as long as there is room for such."""
        room = min(BEFORE_DISPLAY, self._limits.tail - self._tally.between)
        if room <= 0 or not self._held:
            self._drop_held()
            return
        texts = self._held.take()
        last = texts[-1].content
        shown = text_message(last["name"], last_bytes(last["text"], room))
        self._cut(sum(text.size for text in texts) - shown.size, 0)
        self._tally.between += shown.size
        self._end_gap()
        self._emit([shown])

    def _on_update_display_data(self, message: Shown) -> None:
        self._settle_error()
        display_id = _display_id(message)
        if display_id is None or self._updates.pass_now(display_id, message, self._clock()):
            self._emit([message])
        elif self._updates.count > WAITING_UPDATES:
            self._emit(self._updates.take())

    def _on_error(self, message: Shown) -> None:
        self._prepare()
        self._error = message

    def _on_other(self, message: Shown) -> None:
        """A message of a widget, whose state would be wrong without it."""
        self._settle_error()
        self._emit([message])

    # --- clear_output -------------------------------------------------------------------

    def _on_clear_output(self, message: Shown) -> None:
        self._settle_error()
        self._emit(self._updates.take())
        wait = message.content.get("wait")
        if wait and self._held:  # what is held is to be seen, should nothing follow
            self._clear = message
            return
        self._clear = None
        self._clearing = bool(wait)
        if not wait:
            self._reset()
        self._emit([message])

    def _prepare(self) -> None:
        """Before any output: does what waited for it."""
        self._settle_error()
        clear, self._clear = self._clear, None
        if clear is not None or self._clearing:
            self._clearing = False
            self._reset()
        if clear is not None:
            self._emit([clear])

    def _settle_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            self._on_display_data(error)

    # --- what is cut --------------------------------------------------------------------

    def _reset(self) -> None:
        self._tally = Tally()
        self._held = self._limits.held()
        self._gap = None

    def _drop_held(self) -> None:
        if self._held:
            self._cut(*self._held.drop())

    def _cut(self, text: int, displays: int) -> None:
        """Counts what is not shown, in bytes and displays, in the gap that grows now."""
        self._tally.cut_text += text
        self._tally.cut_displays += displays
        now = self._clock()
        if self._gap is None:
            self._gap = Gap(now)
        self._emit(self._gap.count(text, displays, now))

    def _end_gap(self) -> None:
        gap, self._gap = self._gap, None
        if gap is not None:
            self._emit(gap.end(self._clock()))

    def _emit(self, messages: Sequence[Shown]) -> None:
        for one in messages:
            self._publish(one.kind, one.content, one.metadata, one.buffers)


def _display_id(message: Shown) -> str | None:
    transient = message.content.get("transient") or {}
    display_id = transient.get("display_id")
    return display_id if isinstance(display_id, str) else None
