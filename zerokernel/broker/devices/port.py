"""What every kind of device can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from zerokernel.broker.scheduling import Slice


class Devices(Protocol):
    """Finds slices."""

    def discover(self) -> list[Slice]:
        """Gives the slices there are now; ids and names are unique.

        Raises:
            DeviceUnavailable: There should be devices, and they cannot be read.
        """

    def find_lost(self, slices: Iterable[Slice]) -> dict[str, str]:
        """Gives those of the slices that are not there any more: id → why, for the user.

        Raises:
            DeviceUnavailable: None of them can be asked.
        """
