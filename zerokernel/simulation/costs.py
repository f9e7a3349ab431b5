"""What starting and ending work costs, whoever schedules it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Costs:
    """Seconds. Raises ValueError where one is negative, infinite or not a number.

    Attributes:
        fork: From the first wish for a worker to its being there.
        bind: Opening a slice that the worker has not had, and unpacking.
        thaw: Waking a worker that was parked on the slice.
        home: From a cell's last line until its results are home.
        stop: From the order to end a worker until its memory is free.
    """

    fork: float = 0.05
    bind: float = 2.0
    thaw: float = 0.1
    home: float = 0.1
    stop: float = 0.3

    def __post_init__(self) -> None:
        for one in fields(self):
            seconds = getattr(self, one.name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"{one.name} must be a time of 0 s or more, not {seconds}.")

    def alone(self, first: bool, ran: float) -> float:
        """Gives what a cell takes, from the wish to its results, with nobody else there."""
        start = self.fork + self.bind if first else self.thaw
        return start + ran + self.home
