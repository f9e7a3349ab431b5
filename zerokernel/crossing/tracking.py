"""Write tracking of this process: which ranges are tracked, so that none is tracked twice."""

from __future__ import annotations

import bisect
import contextlib
import os

from zerokernel.crossing import pages
from zerokernel.crossing.pages import Pages, Range

_MOST = 8_000
"""Ranges tracked at a time: each splits a mapping, of which Linux allows 65,530."""


class Tracking:
    """The tracked ranges of pages, of which no two overlap.

    A page that two were asked about would tell of its writes only the first that asks.
    """

    def __init__(self, tracker: Pages) -> None:
        self._pages = tracker
        self._starts: list[int] = []
        self._stops: list[int] = []

    def begin(self, start: int, stop: int) -> bool:
        """Tracks writes to these pages from now on; false where that is not possible."""
        at = bisect.bisect(self._starts, start)
        if at and self._stops[at - 1] > start:
            return False
        if at < len(self._starts) and self._starts[at] < stop:
            return False
        if len(self._starts) >= _MOST or not self._pages.is_private(start, stop):
            return False
        try:
            self._pages.arm(start, stop)
        except OSError:
            return False
        self._starts.insert(at, start)
        self._stops.insert(at, stop)
        return True

    def end(self, start: int, stop: int) -> None:
        """Tracks them no longer. The memory may be another's by now, or nobody's."""
        at = bisect.bisect_left(self._starts, start)
        if at < len(self._starts) and (self._starts[at], self._stops[at]) == (start, stop):
            del self._starts[at], self._stops[at]
            self.release(start, stop)

    def release(self, start: int, stop: int) -> None:
        """Lets tracked pages be written at full speed; they count as written."""
        with contextlib.suppress(OSError):  # what is not tracked any more counts as written too
            self._pages.disarm(start, stop)

    def take_written(self, start: int, stop: int) -> list[Range] | None:
        """The pages written since the last call or `begin`; None where nobody can tell."""
        try:
            return self._pages.take_written(start, stop)
        except OSError:
            pass
        return None


_found: dict[int, Tracking | None] = {}
"""By process, because a fork inherits the descriptors but not what they track."""


def of_this_process() -> Tracking | None:
    """The tracking of this process; None where the self-test fails, which is run once."""
    process = os.getpid()
    if process not in _found:
        _found.clear()
        found = pages.best()
        _found[process] = None if found is None else Tracking(found)
    return _found[process]
