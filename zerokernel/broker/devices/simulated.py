"""Slices of no device, so that everything can be tried, taught and tested anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zerokernel.broker.devices.port import Devices, Trouble, Use
from zerokernel.broker.devices.sizes import Size
from zerokernel.broker.scheduling import Slice


class SimulatedDevices:
    """Gives ``count`` simulated slices that claim ``memory`` bytes each.

    A slice whose name stands in the file ``lost``, one a line, is lost: a drill for what
    happens when a real device falls off the bus.
    """

    def __init__(
        self, count: int, memory: int, lost: Path | None = None, sizes: Iterable[Size] = ()
    ) -> None:
        self._count = count
        self._memory = memory
        self._lost = lost
        self._limits = next((one.limits for one in sizes if one.name == "simulated"), {})

    def discover(self) -> list[Slice]:
        """Gives the simulated slices."""
        return [self._slice(number) for number in range(1, self._count + 1)]

    def find_troubles(self, slices: Iterable[Slice], use: Use) -> dict[str, Trouble]:
        """Gives the slices that the file names."""
        return lost_in_a_drill(slices, self._lost)

    def clean(self, one: Slice, scrub: bool) -> str:
        """Nothing is ever left on a simulated slice."""
        return ""

    def close(self) -> None:
        """There is nothing to let go of."""

    def _slice(self, number: int) -> Slice:
        return Slice(
            id=f"simulated-{number}",
            name=f"simulated {number}",
            size="simulated",
            memory=self._memory,
            simulated=True,
            environment=_shows_nothing(self._memory),
            limits=dict(self._limits),
        )


class SimulatedMachine:
    """The slices of another machine, simulated: its layout, sizes and troubles.

    Args:
        machine: That machine's devices, which are only asked for what they are.
        lost: As for SimulatedDevices.
    """

    def __init__(self, machine: Devices, lost: Path | None = None) -> None:
        self._machine = machine
        self._lost = lost
        # The mutable state: the machine's own slices by the id of the simulated one.
        self._own: dict[str, Slice] = {}

    def discover(self) -> list[Slice]:
        """Gives a simulated slice for each of the machine's."""
        self._own = {f"simulated-{one.id}": one for one in self._machine.discover()}
        return [_simulated(name, one) for name, one in self._own.items()]

    def find_troubles(self, slices: Iterable[Slice], use: Use) -> dict[str, Trouble]:
        """Gives the machine's troubles, and what a drill takes away."""
        asked = list(slices)
        own = {one.id: self._own[one.id] for one in asked if one.id in self._own}
        busy = frozenset(self._own[name].id for name in use.occupied if name in self._own)
        found = self._machine.find_troubles(own.values(), replace(use, occupied=busy))
        troubles = {name: found[one.id] for name, one in own.items() if one.id in found}
        return {**troubles, **lost_in_a_drill(asked, self._lost)}

    def clean(self, one: Slice, scrub: bool) -> str:
        """Asks the machine."""
        return self._machine.clean(self._own[one.id], scrub) if one.id in self._own else ""

    def close(self) -> None:
        """Lets go of the machine."""
        self._machine.close()


def lost_in_a_drill(slices: Iterable[Slice], file: Path | None) -> dict[str, Trouble]:
    """Gives the slices that a file names."""
    names: set[str] = set()
    if file is not None:
        with contextlib.suppress(OSError):
            names = set(file.read_text().splitlines())
    named = (one for one in slices if one.name in names)
    return {one.id: Trouble(f"{one.name} is lost in a drill", lost=True) for one in named}


def _simulated(name: str, one: Slice) -> Slice:
    return replace(
        one,
        id=name,
        name=f"simulated {one.name}",
        kind=f"simulated {one.kind}",
        simulated=True,
        environment=_shows_nothing(one.memory),
    )


def _shows_nothing(memory: int) -> dict[str, str]:
    """A simulated slice shows no device, also where the machine has one."""
    return {"CUDA_VISIBLE_DEVICES": "", "ZEROKERNEL_SLICE_MEMORY": str(memory)}
