"""Looks after the devices while they are offered: who is in trouble is set aside at once."""

from __future__ import annotations

import asyncio
import logging
import os

from zerokernel.broker.devices import DeviceLocks, Devices, Trouble, Use
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.scheduling import Clean, Slice, SliceCleaned, SlicesChanged, SliceSetAside
from zerokernel.errors import DeviceBusy, DeviceUnavailable

log = logging.getLogger("zerokernel.broker")

LOOK_SECONDS = 2.0
"""So often the devices are asked whether all is well with them."""

HANG_SECONDS = 90.0
"""A driver that has not answered by then hangs; overwriting a device's memory takes less."""

_Answer = tuple[list[Slice], dict[str, Trouble]]


class DeviceWatch:
    """Sets slices in trouble aside, ends what is lost with them, and offers them again after.

    Args:
        broker: Is told.
        devices: Are asked, in threads: a driver that hangs must not take the broker with it.
        locks: Keep other brokers off them.
        slices: What is offered.
    """

    def __init__(
        self, broker: Broker, devices: Devices, locks: DeviceLocks, slices: list[Slice]
    ) -> None:
        self._broker = broker
        self._devices = devices
        self._locks = locks
        # All mutable state: what is offered, what is wrong with it, what is cleaned and asked now.
        self._slices = slices
        self._known: dict[str, Trouble] = {}
        self._cleaning: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[_Answer] | None = None
        broker.on_clean = self._clean

    async def run(self) -> None:
        """Looks again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Asks the devices once, and tells the broker what changed."""
        if self._asking is None:
            ask = asyncio.to_thread(self._ask, self._use())
            self._asking = asyncio.get_running_loop().create_task(ask)
        done, _ = await asyncio.wait({self._asking}, timeout=HANG_SECONDS)
        if done:
            slices, found = self._asking.result()
            self._asking = None
        else:
            hangs = Trouble(f"the driver has not answered for {HANG_SECONDS:g} s")
            slices, found = self._slices, {one.id: hangs for one in self._slices}
        self._take(slices, found)

    def _take(self, slices: list[Slice], found: dict[str, Trouble]) -> None:
        if slices != self._slices:
            log.warning("the slices are now %s", ", ".join(one.display for one in slices))
            self._broker.handle(SlicesChanged(tuple(slices)))
        self._slices = slices
        for one in slices:
            trouble = found.get(one.id)
            if trouble != self._known.get(one.id):
                self._tell(one, trouble)
        self._known = found

    def _tell(self, one: Slice, trouble: Trouble | None) -> None:
        log.warning("%s: %s", one.name, trouble.reason if trouble else "all is well again")
        told = trouble or Trouble("")
        self._broker.handle(SliceSetAside(one.id, told.reason, told.lost, told.spoils))

    def _use(self) -> Use:
        records = self._broker.state.slices.values()
        held = (r.slice.id for r in records if r.occupant or r.lease or r.cleaning)
        supervisors = self._broker.engine.statistics().get("supervisors", ())
        ours = {os.getpid(), *(one["process"] for one in supervisors)}
        return Use(frozenset(held), frozenset(ours - {0}))

    def _ask(self, use: Use) -> _Answer:
        slices = self._slices
        try:
            slices = self._offered(self._devices.discover())
            return slices, self._devices.find_troubles(slices, use)
        except DeviceUnavailable as error:
            return slices, {one.id: Trouble(str(error), lost=True) for one in slices}

    def _offered(self, found: list[Slice]) -> list[Slice]:
        """Keeps what was offered before, and of what is new what no other broker holds."""
        before = {one.id for one in self._slices}
        return [one for one in found if one.id in before or _lock(self._locks, one) is None]

    # --- between two users --------------------------------------------------------------

    def _clean(self, order: Clean) -> None:
        task = asyncio.get_running_loop().create_task(self._clean_now(order))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _clean_now(self, order: Clean) -> None:
        one = next((one for one in self._slices if one.id == order.slice), None)
        reason = ""
        if one is not None:
            reason = await asyncio.to_thread(self._clean_slice, one, order.scrub)
        if reason:
            log.warning("%s", reason)
            self._known[order.slice] = Trouble(reason)
        scrubbed = order.scrub and not reason
        self._broker.handle(SliceCleaned(order.slice, reason, scrubbed))

    def _clean_slice(self, one: Slice, scrub: bool) -> str:
        try:
            return self._devices.clean(one, scrub)
        except DeviceUnavailable as error:
            return str(error)

    async def close(self) -> None:
        """Ends what is under way, and lets go of the devices."""
        for task in self._cleaning:
            task.cancel()
        await asyncio.to_thread(self._devices.close)


def lock_slices(devices: Devices, locks: DeviceLocks) -> list[Slice]:
    """Gives the slices that no other broker holds, and holds them.

    Raises:
        DeviceBusy: Every one is held by another broker.
    """
    free, busy = [], None
    for one in devices.discover():
        error = _lock(locks, one)
        if error is None:
            free.append(one)
        busy = error or busy
    if busy is not None and not free:
        raise busy
    return free


def _lock(locks: DeviceLocks, one: Slice) -> DeviceBusy | None:
    """Locks what a worker on the slice is shown: all shares of a GPU are one lock."""
    try:
        if not one.simulated:
            locks.acquire(one.environment["CUDA_VISIBLE_DEVICES"])
    except DeviceBusy as error:
        log.warning("%s", error)
        return error
    return None
