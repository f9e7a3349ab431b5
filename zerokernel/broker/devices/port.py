"""What every kind of device can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from zerokernel.broker.scheduling import Slice


@dataclass(frozen=True)
class Trouble:
    """Why a slice must not be leased for now.

    Attributes:
        reason: For the user.
        lost: Whether what runs there is lost with it.
        spoils: Whether what runs there goes on, and is not to be charged.
    """

    reason: str
    lost: bool = False
    spoils: bool = False


@dataclass(frozen=True)
class Use:
    """What the broker knows of the use of its slices.

    Attributes:
        occupied: Ids of slices where a worker of ours has memory, or is leaving it.
        roots: Our processes; what comes of them is ours too.
    """

    occupied: frozenset[str] = frozenset()
    roots: frozenset[int] = frozenset()


class Devices(Protocol):
    """Finds slices, and keeps watch over them."""

    def discover(self) -> list[Slice]:
        """Gives the slices to offer; ids and names are unique.

        Those of a device whose layout is not what it should be stay what they were: they are
        offered again when it agrees, and have a trouble until then.

        Raises:
            DeviceUnavailable: There should be devices, and they cannot be read.
        """

    def find_troubles(self, slices: Iterable[Slice], use: Use) -> dict[str, Trouble]:
        """Gives those of the slices that must not be leased now, by id.

        May take as long as `clean`: what is not clean is looked after again.

        Raises:
            DeviceUnavailable: None of them can be asked.
        """

    def clean(self, one: Slice, scrub: bool) -> str:
        """Verifies that nothing of ours or others' is in a slice's memory, and overwrites it.

        Called when nobody of ours is there any more. It waits for memory that the driver is
        just giving back. A slice that is not clean is one of `find_troubles` until it is.

        Args:
            one: The slice.
            scrub: Whether to overwrite it.

        Returns:
            Why it is not clean, "" where it is.
        """

    def close(self) -> None:
        """Lets go of the driver."""
