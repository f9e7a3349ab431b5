"""The broker of one person on one machine: starts with the first notebook, ends when idle."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pwd
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

import zerokernel
from zerokernel.broker.app import Server, make_application
from zerokernel.broker.device_watch import DeviceWatch, lock_slices
from zerokernel.broker.devices import DeviceLocks, Devices, choose_devices
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.engines import LocalEngine
from zerokernel.broker.identity import OwnerIdentity
from zerokernel.broker.ledger import make_ledger
from zerokernel.broker.scheduling import BrokerBegan, Policy, SchedulerState, Slice
from zerokernel.client.address import (
    BrokerAddress,
    address_file,
    prepare_directory,
    remove_address,
    write_address,
)
from zerokernel.containment import adopt_orphans
from zerokernel.errors import BrokerUnavailable
from zerokernel.messages import PROTOCOL_VERSION
from zerokernel.settings import Settings

log = logging.getLogger("zerokernel.broker")

_PREDECESSOR_SECONDS = 10.0
"""An earlier broker that is just ending is done by then."""
RECOVERY_SECONDS = 2.0
"""Supervisors that were taken over have told by then what ended while there was no broker."""


def serve_embedded(settings: Settings, visible: str | None = None) -> None:
    """Runs the embedded broker until it is idle for long or told to end.

    Args:
        settings: What it offers, and where its files lie.
        visible: What CUDA_VISIBLE_DEVICES was for the user, None where it was not set.

    Raises:
        BrokerUnavailable: Another one runs already.
        DeviceBusy: All devices are held by another broker.
        DeviceUnavailable: The devices cannot be read.
    """
    prepare_directory(settings.runtime_directory)
    adopt_orphans()  # what a dead supervisor leaves comes here and is ended
    with only_one(settings.runtime_directory), DeviceLocks() as locks:
        devices = choose_devices(settings, visible)
        asyncio.run(_serve(settings, devices, locks))


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Holds the lock of the running broker; waits for one that is just ending."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory / "broker.running", flags, 0o600)
    until = time.monotonic() + _PREDECESSOR_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    raise BrokerUnavailable(f"A broker runs already in {directory}.") from error
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def policy_of(settings: Settings) -> Policy:
    """Gives the scheduler's policy by the settings."""
    return Policy(
        park_seconds=settings.park_seconds,
        kernel_grace_seconds=settings.kernel_grace_seconds,
        bind_seconds=settings.bind_seconds,
        return_seconds=settings.return_seconds,
        extend_limits=settings.extend_limits,
        parked_memory=settings.parked_memory or psutil.virtual_memory().total // 4,
        scrub=settings.scrub_memory,
    )


async def _serve(settings: Settings, devices: Devices, locks: DeviceLocks) -> None:
    slices = lock_slices(devices, locks)
    # Numbered by the time, so that no lease has the id of an earlier broker's.
    state = SchedulerState(slices, policy_of(settings), arrivals=time.time_ns() // 1000)
    ledger = make_ledger(settings)
    broker = Broker(state, LocalEngine(settings), ledger, owner=owner())
    watch = DeviceWatch(broker, devices, locks, slices)
    try:
        await broker.engine.adopt()
        await watch.look()
        broker.handle(BrokerBegan())
        asyncio.get_running_loop().call_later(RECOVERY_SECONDS, broker.recover)
        watching = asyncio.create_task(watch.run())
        await _Life(settings, broker).run(slices)
        watching.cancel()
    finally:
        await watch.close()
        ledger.close()


class _Life:
    """From the address file's writing to its removal."""

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self._settings = settings
        self._broker = broker
        self._ended = asyncio.Event()
        self._idle_timer: asyncio.TimerHandle | None = None
        broker.on_idle_change = self._idle_changed
        broker.on_shutdown = self._ended.set

    async def run(self, slices: list[Slice]) -> None:
        token = secrets.token_urlsafe(32)
        server = Server(make_application(self._broker, OwnerIdentity(token, owner())))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        address = BrokerAddress(
            server.url, token, os.getpid(), PROTOCOL_VERSION, zerokernel.__version__, sys.executable
        )
        file = address_file(self._settings)
        self._idle_changed(True)
        write_address(file, address)
        offered = ", ".join(one.display for one in slices) or "no slice"
        log.info("zerokernel %s serves at %s: %s", address.version, server.url, offered)
        try:
            await self._ended.wait()
        finally:
            log.info("the broker ends")
            remove_address(file, os.getpid())
            server.stop()
            await self._broker.close()
            await server.close()

    def _idle_changed(self, idle: bool) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if idle:
            loop, wait = asyncio.get_running_loop(), self._settings.broker_idle_seconds
            self._idle_timer = loop.call_later(wait, self._ended.set)


def owner() -> str:
    """Gives the name of the person whose process this is."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user often has no name
        return str(os.getuid())
