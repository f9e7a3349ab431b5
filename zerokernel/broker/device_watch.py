"""Looks after the devices while they are offered: one that is lost is set aside at once."""

from __future__ import annotations

import asyncio
import logging

from zerokernel.broker.devices import Devices
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.scheduling import Slice, SliceSetAside
from zerokernel.errors import DeviceUnavailable

log = logging.getLogger("zerokernel.broker")

LOOK_SECONDS = 2.0
"""So often the devices are asked whether they are still there."""


async def watch_devices(broker: Broker, devices: Devices, slices: list[Slice]) -> None:
    """Sets lost slices aside, ends what runs on them, and offers them again once they are back."""
    known: dict[str, str] = {}
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        # In a thread: a driver that hangs must not take the broker with it.
        lost = await asyncio.to_thread(_lost, devices, slices)
        for one in slices:
            reason = lost.get(one.id, "")
            if reason != known.get(one.id, ""):
                log.warning("%s: %s", one.name, reason or "it is back")
                broker.handle(SliceSetAside(one.id, reason, lost=bool(reason)))
        known = lost


def _lost(devices: Devices, slices: list[Slice]) -> dict[str, str]:
    try:
        return devices.find_lost(slices)
    except DeviceUnavailable as error:
        return {one.id: str(error) for one in slices}
