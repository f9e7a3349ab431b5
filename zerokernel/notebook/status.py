"""The status line: one display in the cell, updated in place, then a receipt."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zerokernel.notebook.markup import status_html
from zerokernel.notebook.receipt import SEPARATOR, Receipt, seconds

FLICKER_SECONDS = 0.15
"""Until then a cell shows nothing but its receipt: most warm cells are over by then."""

UPDATE_SECONDS = 0.25
"""Within a phase the line changes no oftener than this."""


@dataclass(frozen=True)
class Line:
    """One state of the status line.

    Attributes:
        phase: "queued", "starting", "running", "receipt" or "failed".
        text: The line as plain text.
        figures: What programs read, JSON-able.
        fraction: Part of the allowed time that is used; None where there is no bar.
        details: What stands under the line.
    """

    phase: str
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    fraction: float | None = None
    details: tuple[str, ...] = ()

    def data(self) -> dict[str, str]:
        """Gives the display's representations by MIME type."""
        html = status_html(self.phase, self.text, self.fraction, self.details)
        text = "\n".join((self.text, *(f"  {detail}" for detail in self.details)))
        return {"text/html": html, "text/plain": text}

    def metadata(self) -> dict[str, Any]:
        """Gives the output's metadata: the key that tells it from the cell's own outputs."""
        return {"zerokernel": {"phase": self.phase, **self.figures}}


class StatusLine:
    """Shows in the cell what happens to it. Not thread-safe: one thread calls it.

    The caller names the state as often as it likes; what is shown is throttled here.

    Args:
        shell: The InteractiveShell in whose current cell the line appears.
        enabled: False shows nothing at all.
        clock: Monotonic seconds.
    """

    def __init__(
        self, shell: Any, *, enabled: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shell = shell
        self._enabled = enabled
        self._clock = clock
        self._born = clock()
        self._display_id = f"zerokernel-{uuid.uuid4().hex}"
        # A terminal cannot change a line that it printed: there each phase is shown once.
        self._in_place = hasattr(shell, "kernel")
        # All mutable state: what was shown last and when, what waits to be shown,
        # and whether the cell's clear_output took our display away.
        self._shown: Line | None = None
        self._shown_at = -math.inf
        self._waiting: Line | None = None
        self._cleared = False

    def queued(self, place: int, starts_in: float | None, reason: str = "") -> None:
        """The request waits; place 1 is next, the start is expected in that many seconds."""
        self._propose(queued_line(place, starts_in, reason))

    def starting(self, slice: str) -> None:
        """The lease is granted; worker and objects are on their way to the slice."""
        self._propose(Line("starting", f"starting on {slice}", {"slice": slice}))

    def running(self, slice: str, limit: float, elapsed: float, note: str = "") -> None:
        """The cell runs for ``elapsed`` of the ``limit`` seconds that it may.

        Args:
            slice: Where.
            limit: Seconds.
            elapsed: Seconds.
            note: Why the limit is another than the one that was asked for; "" where it is not.
        """
        self._propose(running_line(slice, limit, elapsed, note))

    def before_output(self) -> None:
        """The cell is about to show something: the line's place is above it."""
        if self._shown is None and self._waiting is not None and self._in_place:
            self._publish(self._waiting)

    def receipt(self, receipt: Receipt) -> None:
        """The cell is over. Always shown at once, where anything is.

        What the notebook changed meanwhile, and so kept, is told where nothing else is.
        """
        figures = receipt.figures()
        if receipt.conflicts and not self._enabled:
            told = {"conflicts": figures["conflicts"]}
            self._publish(Line("conflict", "; ".join(receipt.conflicts), told))
        self._finish(Line("receipt", receipt.line(), figures, details=receipt.details()))

    def failed(self, message: str) -> None:
        """There will be no receipt, and the error itself tells why.

        So a line that nobody saw yet stays away; one that was seen must not go on saying
        that the cell waits or runs.
        """
        if self._shown is not None:
            self._finish(Line("failed", message, {"message": message}))

    def cleared(self) -> None:
        """The cell cleared its output, and this display with it: only the receipt follows."""
        self._cleared = True

    def tick(self) -> None:
        """Shows what was held back to avoid flicker, if its time has come."""
        if self._waiting is not None:
            self._propose(self._waiting)

    @property
    def due(self) -> float | None:
        """Seconds until ``tick`` has something to show; None while nothing is held back."""
        if self._waiting is None:
            return None
        return max(0.0, self._allowed_at(self._waiting) - self._clock())

    def _allowed_at(self, line: Line) -> float:
        if self._shown is None:
            return self._born + FLICKER_SECONDS
        return self._shown_at + (UPDATE_SECONDS if self._shown.phase == line.phase else 0.0)

    def _propose(self, line: Line) -> None:
        self._waiting = None
        if not self._enabled or self._cleared:
            return
        if self._clock() < self._allowed_at(line):
            self._waiting = line
        elif self._repeats(line):
            self._shown_at = self._clock()
        else:
            self._publish(line)

    def _repeats(self, line: Line) -> bool:
        if self._shown is None:
            return False
        same_phase = self._shown.phase == line.phase
        return same_phase and (not self._in_place or self._shown.data() == line.data())

    def _finish(self, line: Line) -> None:
        if self._enabled:
            self._publish(line)
            self._enabled = False

    def _publish(self, line: Line) -> None:
        self._waiting = None
        # Looked up each time: %%capture and Output widgets put another publisher in place.
        self._shell.display_pub.publish(
            data=line.data(),
            metadata=line.metadata(),
            transient={"display_id": self._display_id},
            update=self._shown is not None and not self._cleared,
        )
        self._shown, self._shown_at = line, self._clock()


def queued_line(place: int, starts_in: float | None, reason: str) -> Line:
    """Says where in the queue a request is, and when it will start."""
    if starts_in is not None and not math.isfinite(starts_in):
        starts_in = None
    parts = ["next in the queue" if place <= 1 else f"place {place} in the queue"]
    if starts_in is not None:
        parts.append(f"starts in about {_whole(starts_in)}")
    if reason:
        parts.append(reason)
    figures = {"place": place, "starts_in": starts_in, "reason": reason}
    return Line("queued", SEPARATOR.join(parts), figures)


EXTENDED = "nobody waits: limit extended"


def running_line(slice: str, limit: float, elapsed: float, note: str = "") -> Line:
    """Says how long a cell has run and how long it still may."""
    left = max(0.0, limit - elapsed)
    text = f"running on {slice} · {_whole(elapsed)} · {_whole(left)} left"
    if note:
        text += f" · {note}"
    figures = {
        "slice": slice,
        "limit": limit,
        "elapsed": elapsed,
        "left": left,
        "extended": note == EXTENDED,
        "note": note,
    }
    return Line("running", text, figures, fraction=elapsed / limit if limit > 0 else None)


def _whole(value: float) -> str:
    """A time that changes under the reader's eyes: whole seconds."""
    rounded = round(max(0.0, value))
    return seconds(rounded) if rounded else "0 s"
