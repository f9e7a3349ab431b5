"""Serves several people until told to end. Never ends because nobody is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path

import zerokernel
from zerokernel.broker.access import Access
from zerokernel.broker.app import Server, make_application
from zerokernel.broker.device_watch import DeviceWatch, lock_slices
from zerokernel.broker.devices import DeviceLocks, Devices, choose_devices
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.embedded import RECOVERY_SECONDS, only_one
from zerokernel.broker.engines import LocalEngine
from zerokernel.broker.ledger import make_ledger
from zerokernel.broker.scheduling import BrokerBegan, SchedulerState
from zerokernel.broker.service.configuration import Service
from zerokernel.broker.service.schema import Reach
from zerokernel.broker.service.tls import server_context
from zerokernel.broker.users import FileIdentity, UserFile
from zerokernel.client.address import prepare_directory
from zerokernel.containment import adopt_orphans
from zerokernel.errors import BrokerUnavailable

log = logging.getLogger("zerokernel.broker")

ENDING = "The broker is being shut down; run the cell again when it is back."
"""What notebooks are told, in what a close frame holds."""
_POLL_SECONDS = 0.1


def serve_shared(service: Service, visible: str | None = None) -> None:
    """Runs a shared broker until it is told to end.

    SIGTERM and SIGINT end it once running cells are done, at the latest after the grace time.
    SIGHUP ends it at once and leaves workers and running cells to the broker that is started
    after it.

    Args:
        service: What it was configured to be.
        visible: Which devices it may use, as in CUDA_VISIBLE_DEVICES; None for all.

    Raises:
        BrokerUnavailable: It cannot listen, or another one runs in its runtime directory.
        UsersUnavailable, BadUser: The file of users cannot be used.
        LedgerUnavailable: The books cannot be used.
        DeviceBusy, DeviceUnavailable: The devices cannot.
    """
    prepare_directory(service.settings.runtime_directory)
    _prepare_state(service.reach.state_directory)
    adopt_orphans()  # what a dead supervisor leaves comes here and is ended
    with only_one(service.settings.runtime_directory), DeviceLocks() as locks:
        devices = choose_devices(service.settings, visible)
        asyncio.run(_serve(service, devices, locks))


def _prepare_state(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BrokerUnavailable(
            f"The state directory {directory} cannot be made: {error}"
        ) from error


async def _serve(service: Service, devices: Devices, locks: DeviceLocks) -> None:
    slices = lock_slices(devices, locks)
    # Numbered by the time, so that no lease has the id of an earlier broker's.
    state = SchedulerState(slices, service.policy, arrivals=time.time_ns() // 1000)
    identity = FileIdentity(UserFile(service.users_file), service.policy.tiers)
    window = service.policy.quota_window
    ledger = make_ledger(service.settings, durable_grants=True, window_seconds=window)
    broker = Broker(state, LocalEngine(service.settings), ledger, accounts=identity.named)
    watch = DeviceWatch(broker, devices, locks, slices)
    try:
        await broker.engine.adopt()
        await watch.look()
        broker.handle(BrokerBegan())
        asyncio.get_running_loop().call_later(RECOVERY_SECONDS, broker.recover)
        watching = asyncio.create_task(watch.run())
        await _Life(service.reach, broker).run(_listen(service, broker, identity))
        watching.cancel()
    finally:
        await watch.close()
        ledger.close()


def _listen(service: Service, broker: Broker, identity: FileIdentity) -> Server:
    reach = service.reach
    names = {name.lower() for name in (*reach.names, reach.address)}
    access = Access(frozenset(names), reach.show_users)
    application = make_application(broker, identity, access)
    tls = server_context(reach.certificate, reach.key) if service.has_tls else None
    try:
        return Server(application, reach.address, reach.port, tls)
    except OSError as error:
        raise BrokerUnavailable(
            f"The broker cannot listen on {reach.address}, port {reach.port}: {error}"
        ) from error


class _Life:
    """From the first request to the last."""

    def __init__(self, reach: Reach, broker: Broker) -> None:
        self._grace = reach.shutdown_grace_seconds
        self._broker = broker
        self._told = asyncio.Event()
        self._hurried = False
        self._hands_over = False
        broker.on_shutdown = self._end

    async def run(self, server: Server) -> None:
        """Serves until told to end, and ends properly."""
        self._obey_signals()
        log.info("zerokernel %s serves at %s", zerokernel.__version__, server.url)
        await self._told.wait()
        if self._hands_over:
            # No connection is closed: those that just break are made anew, to the next one.
            server.stop()
            self._broker.let_go()
            log.info("the broker ends and leaves what runs to the next one")
            return
        try:
            await self._let_cells_finish()
        finally:
            log.info("the broker ends")
            server.stop()
            await self._broker.close()
            await server.close()

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._hand_over)

    def _end(self) -> None:
        self._hurried = self._told.is_set()  # who says it twice means it
        self._told.set()

    def _hand_over(self) -> None:
        self._hands_over = not self._told.is_set()
        self._told.set()

    async def _let_cells_finish(self) -> None:
        log.info("told to end: %s running cells have %g s", self._broker.leases, self._grace)
        self._broker.close_to_new(ENDING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace):
                while self._broker.leases and not self._hurried:
                    await asyncio.sleep(_POLL_SECONDS)
