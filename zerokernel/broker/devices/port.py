"""What every kind of device can do."""

from __future__ import annotations

from typing import Protocol

from zerokernel.broker.scheduling import Slice


class Devices(Protocol):
    """Finds slices."""

    def discover(self) -> list[Slice]:
        """Gives the slices there are now; ids and names are unique.

        Raises:
            DeviceUnavailable: There should be devices, and they cannot be read.
        """
