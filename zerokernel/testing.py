"""Fakes and a broker in the test's own process, for zerokernel's tests and yours.

The fakes keep the promises of the protocols whose place they take: the same contract
suites run over them and over the real ones.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import zerokernel
from zerokernel.broker.app import Server, make_application
from zerokernel.broker.devices import ReplayNvml
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.engines import Door, Engine, Observer, Report
from zerokernel.broker.identity import Identity, OwnerIdentity
from zerokernel.broker.ledger import Ledger, MemoryLedger
from zerokernel.broker.scheduling import Policy, SchedulerState, Slice
from zerokernel.client import BrokerAddress
from zerokernel.errors import WorkerStartFailed
from zerokernel.messages import (
    PROTOCOL_VERSION,
    Bind,
    ExtendLimit,
    Park,
    StopWorker,
    TaskEnded,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
)

__all__ = ["FakeClock", "FakeEngine", "InProcessBroker", "ReplayNvml", "simulated_slices"]


class FakeClock:
    """A clock that goes only when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Gives the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Lets time go by; gives the new time."""
        self.now += seconds
        return self.now


def simulated_slices(count: int = 1, size: str = "simulated", memory: int = 8 << 30) -> list[Slice]:
    """Gives slices for a scheduler, named by their size and number."""
    return [
        Slice(f"{size}-{n}", f"{size} {n}", size, memory, True, {"CUDA_VISIBLE_DEVICES": ""})
        for n in range(1, count + 1)
    ]


@dataclass
class FakeWorker:
    """A worker that is only a record.

    Attributes:
        slice: Where it has memory, "" before its first Bind.
        lease: The lease it is bound under, "" if none.
        stopping: Why it was told to stop, "" if it was not.
    """

    process: int
    slice: str = ""
    lease: str = ""
    limit: float = 0.0
    simulated: bool = False
    parked: bool = False
    started_at: float | None = None
    stopping: str = ""


class FakeEngine:
    """Workers without processes. A test forks them, runs their tasks and lets them die.

    Args:
        clock: Tells how long tasks ran.
        stops_at_once: Whether a worker that is told to stop is reported ended at once;
            otherwise `finish_stops` does it.
    """

    def __init__(self, clock: Callable[[], float] | None = None, stops_at_once: bool = True):
        self._clock = clock or FakeClock()
        self._stops_at_once = stops_at_once
        self._observer: Observer | None = None
        self._processes = 0
        # What a test looks at: living workers, grants that wait for theirs, all orders.
        self.workers: dict[str, FakeWorker] = {}
        self.unclaimed: dict[str, Bind] = {}
        self.orders: list[Bind | ExtendLimit | Park | StopWorker] = []
        self.failure: str = ""
        self.opened_for: list[str] = []
        self.door = Door("unix:/nowhere", "00" * 32)

    # --- the engine ---------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Sets who is told."""
        self._observer = observer

    async def open(
        self, session: str, python: str, environment: Mapping[str, str], user: str = ""
    ) -> Door:
        """Gives the door, or raises WorkerStartFailed where a test set `failure`."""
        if self.failure:
            raise WorkerStartFailed(self.failure)
        self.opened_for.append(user)
        return self.door

    async def adopt(self) -> None:
        """Nothing outlives a fake."""

    def send(self, order: Bind | ExtendLimit | Park | StopWorker) -> None:
        """Obeys as a supervisor does."""
        self.orders.append(order)
        worker = self.workers.get(order.session)
        if isinstance(order, Bind):
            self._bind(worker, order)
        elif worker is None:
            self.unclaimed.pop(order.session, None)
        elif isinstance(order, ExtendLimit):
            if worker.lease == order.lease:
                worker.limit = order.limit
        elif isinstance(order, Park):
            worker.lease, worker.started_at, worker.parked = "", None, True
        elif order.lease in ("", worker.lease):
            worker.stopping = worker.stopping or order.cause
            if self._stops_at_once:
                self.die(order.session)

    def forget(self, session: str) -> None:
        """The session is over."""
        self.unclaimed.pop(session, None)

    async def close(self) -> None:
        """Ends all workers."""
        self.workers.clear()
        self.unclaimed.clear()

    def statistics(self) -> dict[str, Any]:
        """Gives how many workers there are."""
        return {"engine": "fake", "workers": len(self.workers)}

    # --- what a test lets happen --------------------------------------------------------

    def fork(self, session: str) -> FakeWorker:
        """A kernel connects, and its worker is forked."""
        if session in self.workers:
            self.die(session, "replaced")
        self._processes += 1
        worker = self.workers[session] = FakeWorker(self._processes)
        if granted := self.unclaimed.pop(session, None):
            self._bind(worker, granted)
        self._report(WorkerForked(session, worker.process))
        return worker

    def start_task(self, session: str) -> None:
        """The worker's cell begins."""
        worker = self.workers[session]
        worker.started_at = self._clock()
        self._report(TaskStarted(session, worker.lease))

    def end_task(self, session: str) -> None:
        """The worker's cell is over and its results are home."""
        worker = self.workers[session]
        ran = self._ran(worker)
        worker.started_at = None
        self._report(TaskEnded(session, worker.lease, ran))

    def die(self, session: str, cause: str = "killed", detail: str = "") -> None:
        """The worker's process tree is dead."""
        worker = self.workers.pop(session)
        cause = worker.stopping or cause
        self._report(WorkerEnded(session, worker.lease, cause, detail, self._ran(worker)))

    def finish_stops(self) -> None:
        """Every worker that was told to stop is dead now."""
        for session in [s for s, worker in self.workers.items() if worker.stopping]:
            self.die(session)

    # --- inside -------------------------------------------------------------------------

    def _bind(self, worker: FakeWorker | None, bind: Bind) -> None:
        if worker is None:
            self.unclaimed[bind.session] = bind
            return
        worker.slice, worker.lease, worker.limit = bind.slice, bind.lease, bind.limit
        worker.simulated, worker.parked, worker.started_at = bind.simulated, False, None

    def _ran(self, worker: FakeWorker) -> float:
        return 0.0 if worker.started_at is None else self._clock() - worker.started_at

    def _report(self, report: Report) -> None:
        if self._observer is not None:
            self._observer.reported(report)


class InProcessBroker:
    """A broker with real sockets in a thread of the test's process.

    Used as a context manager; `address` is where a `BrokerClient` finds it. `call` runs
    something in the broker's thread, for instance a method of its fake engine.
    """

    def __init__(
        self,
        slices: Iterable[Slice] | None = None,
        engine: Engine | None = None,
        ledger: Ledger | None = None,
        policy: Policy | None = None,
        identity: Identity | None = None,
        token: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._slices = simulated_slices() if slices is None else list(slices)
        self.engine = engine if engine is not None else FakeEngine()
        self.ledger = ledger if ledger is not None else MemoryLedger()
        self._policy = policy
        self._token = token or secrets.token_urlsafe(16)
        self._reached = host, port, tls
        self._identity = identity or OwnerIdentity(self._token, "tester")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self.shutdown_asked = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @property
    def address(self) -> BrokerAddress:
        """Where it is."""
        version = zerokernel.__version__
        return BrokerAddress(self.url, self._token, 0, PROTOCOL_VERSION, version, "")

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function in the broker's thread and gives its result."""

        async def run() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.broker = Broker(SchedulerState(self._slices, self._policy), self.engine, self.ledger)
        self.broker.on_shutdown = self.shutdown_asked.set
        server = Server(make_application(self.broker, self._identity), *self._reached)
        self.url = server.url
        self._ready.set()
        try:
            await self._ended.wait()
        finally:
            await server.close()
            await self.broker.close()
