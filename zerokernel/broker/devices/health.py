"""Hardware errors of slices: which there were, and whether they are over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from zerokernel.broker.devices.found import Part
from zerokernel.broker.devices.nvml import XidEvent
from zerokernel.broker.devices.xid import Blame, blame, describe

log = logging.getLogger("zerokernel.broker")

QUIET_SECONDS = 30.0
"""A device that says no more for so long may be looked at again."""


class Faults:
    """Remembers hardware errors by slice.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[str, tuple[str, float]] = {}

    def take(self, events: Iterable[XidEvent], known: Mapping[str, list[Part]]) -> None:
        """Takes in what the driver reported.

        Args:
            events: Xid errors.
            known: The parts of each GPU, by its UUID.
        """
        for event in events:
            whose = blame(event.number)
            log.warning("%s on %s: %s", describe(event.number), event.gpu, whose.value)
            if whose is Blame.DEVICE:
                for part in known.get(event.gpu, ()):
                    if event.instance in (None, part.instance) or part.instance is None:
                        self._last[part.id] = (describe(event.number), self._clock())

    def of(self, slice_id: str) -> str:
        """Gives the last hardware error of a slice, "" where there is none."""
        return self._last.get(slice_id, ("", 0.0))[0]

    def is_over(self, slice_id: str, needs_recovery: bool | None) -> bool:
        """Whether the slice may be looked at again.

        Args:
            slice_id: Which one.
            needs_recovery: Whether the driver says that it must be reset; None where it does
                not tell: then only a new broker, after a look by a person, trusts it again.
        """
        _, at = self._last.get(slice_id, ("", 0.0))
        return needs_recovery is False and self._clock() - at >= QUIET_SECONDS

    def forget(self, slice_id: str) -> None:
        """The slice was found clean."""
        self._last.pop(slice_id, None)
