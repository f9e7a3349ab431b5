"""Slices of no device, so that everything can be tried, taught and tested anywhere."""

from __future__ import annotations

from zerokernel.broker.scheduling import Slice


class SimulatedDevices:
    """Gives ``count`` simulated slices that claim ``memory`` bytes each."""

    def __init__(self, count: int, memory: int) -> None:
        self._count = count
        self._memory = memory

    def discover(self) -> list[Slice]:
        """Gives the simulated slices."""
        return [self._slice(number) for number in range(1, self._count + 1)]

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
