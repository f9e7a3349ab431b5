"""What became of a notebook's latest cell, for `%gpu why`: waiting, slow, killed, refused."""

from __future__ import annotations

import time
from collections.abc import Callable

from zerokernel.notebook.receipt import seconds, size


class Story:
    """Takes note of what happens to one cell, and tells it in sentences.

    Args:
        number: The cell's In[n].
        clock: Monotonic seconds.
    """

    def __init__(self, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._number = number
        self._clock = clock
        self._begun = clock()
        # What happened, filled in as it does: times on the clock, durations in seconds.
        self._place: tuple[int, float | None, str] | None = None
        self._reasons: list[str] = []
        self._prepared_at: float | None = None
        self._granted: tuple[float, str, float] | None = None
        self._started: tuple[float, float, float] | None = None
        self._returned_at: float | None = None
        self._ran = 0.0
        self._sent = self._returned = 0
        self._brokers = 0
        self._error = ""
        self._ended_at: float | None = None

    def queued(self, place: int, starts_in: float | None, reason: str) -> None:
        """It waits, and why."""
        self._place = (place, starts_in, reason)
        if reason and reason not in self._reasons:
            self._reasons.append(reason)

    def prepared(self) -> None:
        """What it uses is packed and with its worker, or withheld until the grant."""
        self._prepared_at = self._clock()

    def granted(self, slice_name: str, waited: float) -> None:
        """It got a slice, ``waited`` seconds after it had asked."""
        self._granted = (self._clock(), slice_name, waited)

    def started(self, binding: float, loading: float) -> None:
        """Its first line runs, after so many seconds of device binding and of unpacking."""
        self._started = (self._clock(), binding, loading)

    def returned(self, ran: float) -> None:
        """Its results are here; it had run so many seconds."""
        self._returned_at, self._ran = self._clock(), ran

    def broker_replaced(self) -> None:
        """Another broker took the place of one that was lost."""
        self._brokers += 1

    def ended(self, sent: int = 0, returned: int = 0, error: str = "") -> None:
        """It is over: bytes that travelled each way, or why it failed."""
        self._ended_at, self._sent, self._returned, self._error = (
            self._clock(),
            sent,
            returned,
            error,
        )

    def tell(self) -> str:
        """Gives the sentences."""
        lines = [self._state(), *self._parts()]
        if self._brokers:
            lines.append("The broker was lost meanwhile; the cell went on under the next one.")
        return "\n".join(lines)

    def _state(self) -> str:
        cell = f"Cell In[{self._number}]"
        now = self._clock()
        if self._ended_at is not None:
            took = seconds(self._ended_at - self._begun)
            return (
                f"{cell} failed after {took}: {self._error}"
                if self._error
                else (f"{cell} took {took}.")
            )
        if self._started is not None:
            return f"{cell} runs, for {seconds(now - self._started[0])} now."
        if self._granted is not None:
            return f"{cell} has {self._granted[1]}; its objects are on their way there."
        if self._place is None:
            return f"{cell} is being packed, for {seconds(now - self._begun)} now."
        place, starts_in, reason = self._place
        start = "" if starts_in is None else f", and starts in about {seconds(starts_in)}"
        return f"{cell} waits at place {place}{start}: {reason or 'its turn comes next'}."

    def _parts(self) -> list[str]:
        """Gives where the time went, the longest first; what is next to nothing is left out."""
        longest = sorted(self._spent(), reverse=True)
        return [f"  {seconds(spent)} {what}" for spent, what in longest if spent >= 0.001]

    def _spent(self) -> list[tuple[float, str]]:
        if self._prepared_at is None or self._granted is None:
            return []
        granted_at, name, waited = self._granted
        why = f" ({'; then '.join(self._reasons)})" if self._reasons else ""
        spent = [
            (self._prepared_at - self._begun, "packing what it uses, and for a worker to start"),
            (waited, f"in the queue meanwhile and after{why}"),
        ]
        if self._started is None:
            return spent
        started_at, binding, loading = self._started
        sending = max(0.0, started_at - granted_at - binding - loading)
        spent += [
            (sending, f"until all {size(self._sent)} were there" if self._sent else "sending"),
            (binding, f"opening {name}"),
            (loading, "unpacking what the cell uses, with the imports that this takes"),
        ]
        if self._returned_at is None:
            return spent
        way_home = max(0.0, self._returned_at - started_at - self._ran)
        spent += [(self._ran, "running"), (way_home, f"bringing {size(self._returned)} home")]
        if self._ended_at is not None:
            spent.append((self._ended_at - self._returned_at, "writing it into the notebook"))
        return spent
