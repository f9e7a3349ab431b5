"""Slices of no device, so that everything can be tried, taught and tested anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from zerokernel.broker.scheduling import Slice


class SimulatedDevices:
    """Gives ``count`` simulated slices that claim ``memory`` bytes each.

    A slice whose name stands in the file ``lost``, one a line, is lost: a drill for what
    happens when a real device falls off the bus.
    """

    def __init__(self, count: int, memory: int, lost: Path | None = None) -> None:
        self._count = count
        self._memory = memory
        self._lost = lost

    def discover(self) -> list[Slice]:
        """Gives the simulated slices."""
        return [self._slice(number) for number in range(1, self._count + 1)]

    def find_lost(self, slices: Iterable[Slice]) -> dict[str, str]:
        """Gives the slices that the file names."""
        names: set[str] = set()
        if self._lost is not None:
            with contextlib.suppress(OSError):
                names = set(self._lost.read_text().splitlines())
        return {one.id: f"{one.name} is lost in a drill" for one in slices if one.name in names}

    def _slice(self, number: int) -> Slice:
        return Slice(
            id=f"simulated-{number}",
            name=f"simulated {number}",
            size="simulated",
            memory=self._memory,
            simulated=True,
            # A simulated slice shows no device, also where the machine has one.
            environment={"CUDA_VISIBLE_DEVICES": ""},
        )
