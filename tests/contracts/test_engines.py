"""What every engine promises: each worker that is forked or bound is reported ended once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import psutil
import pytest

from zerokernel import settings as configuration
from zerokernel.broker.engines import Door, Engine, LocalEngine, Report
from zerokernel.messages import Bind, Hello, Park, StopWorker, WorkerEnded, WorkerForked
from zerokernel.testing import FakeEngine
from zerokernel.wire import Channel, connect


class Recorder:
    """An observer that keeps what it hears, and lets a test wait for more."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()

    def reported(self, report: Report) -> None:
        self.reports.put_nowait(report)

    def moved(self, session: str, door: Door) -> None:
        pass

    async def next(self, kind: type[Any], session: str) -> Any:
        async with asyncio.timeout(30):
            while True:
                report = await self.reports.get()
                if isinstance(report, kind) and report.session == session:
                    return report


class Rig(Protocol):
    """An engine, and how its workers come and go from outside."""

    engine: Engine
    recorder: Recorder

    def run(self, work: Coroutine[Any, Any, Any]) -> Any: ...
    async def orders_arrived(self) -> None: ...
    async def fork(self, session: str) -> None: ...
    async def kill(self, session: str) -> None: ...
    def close(self) -> None: ...


class FakeRig:
    """The fake engine: a test's call is all that happens."""

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self.engine = FakeEngine()
        self.recorder = Recorder()
        self.engine.observe(self.recorder)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def fork(self, session: str) -> None:
        self.engine.fork(session)

    async def kill(self, session: str) -> None:
        self.engine.die(session)

    async def orders_arrived(self) -> None:
        pass

    def close(self) -> None:
        self._runner.run(self.engine.close())
        self._runner.close()


class LocalRig:
    """The local engine with real forkservers; the rig is the kernel that connects to them."""

    kind = "unix"

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self._settings = configuration.Settings(directory, channel=self.kind)
        self.engine = LocalEngine(self._settings)
        self.recorder = Recorder()
        self.engine.observe(self.recorder)
        self._channels: list[Channel] = []
        self._processes: dict[str, int] = {}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def fork(self, session: str) -> None:
        door = await self.engine.open(session, sys.executable, dict(os.environ))
        hello, secret = Hello("kernel", session, os.getpid()), bytes.fromhex(door.secret)
        channel = await asyncio.to_thread(connect, door.address, hello, secret)
        ready = await asyncio.to_thread(channel.receive, 30)
        self._channels.append(channel)
        self._processes[session] = ready.message.process  # type: ignore[attr-defined]

    async def orders_arrived(self) -> None:
        """Orders are obeyed one after the other: when a later one is, the earlier were."""
        other = uuid4().hex
        await self.fork(other)
        self.engine.send(StopWorker(other, "restart"))
        await self.recorder.next(WorkerEnded, other)

    async def kill(self, session: str) -> None:
        psutil.Process(self._processes[session]).kill()

    def close(self) -> None:
        self._runner.run(self.engine.close())
        self._runner.close()
        for channel in self._channels:
            channel.close()
        assert not any(psutil.pid_exists(one) for one in self._processes.values())


class LocalTcpRig(LocalRig):
    """The same where kernel and worker share no file system."""

    kind = "tcp"


@pytest.fixture(scope="module", params=[FakeRig, LocalRig, LocalTcpRig])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = request.param(tmp_path_factory.mktemp("rt"))
    yield made
    made.close()


@pytest.fixture
def session(rig: Rig) -> str:
    name = uuid4().hex
    rig.run(rig.engine.open(name, sys.executable, dict(os.environ)))
    return name


def bind(session: str, lease: str = "l1") -> Bind:
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    return Bind(session, lease, environment, "simulated 1", True, 30.0, 60.0, "r1")


def test_a_door_is_the_same_for_all_sessions_of_an_environment(rig: Rig, session: str) -> None:
    """Opening again or for another notebook gives the same supervisor."""
    doors = [
        rig.run(rig.engine.open(one, sys.executable, dict(os.environ)))
        for one in (session, session, uuid4().hex)
    ]
    assert len(set(doors)) == 1
    assert doors[0].secret not in repr(doors[0])


def test_a_stopped_worker_is_reported_with_its_lease_and_cause(rig: Rig, session: str) -> None:
    """The cause is the one that was ordered; no second end is reported."""

    async def life() -> WorkerEnded:
        await rig.fork(session)
        forked = await rig.recorder.next(WorkerForked, session)
        assert forked.process > 0
        rig.engine.send(bind(session))
        rig.engine.send(StopWorker(session, "restart"))
        return await rig.recorder.next(WorkerEnded, session)  # type: ignore[no-any-return]

    ended = rig.run(life())
    assert (ended.lease, ended.cause) == ("l1", "restart")


def test_a_bind_waits_for_its_worker(rig: Rig, session: str) -> None:
    """A grant may come before the kernel has connected."""

    async def life() -> WorkerEnded:
        rig.engine.send(bind(session, "early"))
        await rig.fork(session)
        await rig.recorder.next(WorkerForked, session)
        rig.engine.send(StopWorker(session, "cancelled"))
        return await rig.recorder.next(WorkerEnded, session)  # type: ignore[no-any-return]

    assert rig.run(life()).lease == "early"


def test_a_bind_that_was_stopped_is_not_for_the_next_worker(rig: Rig, session: str) -> None:
    """A lease that was given up before its worker came is forgotten."""

    async def life() -> WorkerEnded:
        rig.engine.send(bind(session, "given up"))
        rig.engine.send(StopWorker(session, "cancelled"))
        await rig.orders_arrived()
        await rig.fork(session)
        await rig.recorder.next(WorkerForked, session)
        rig.engine.send(StopWorker(session, "restart"))
        return await rig.recorder.next(WorkerEnded, session)  # type: ignore[no-any-return]

    assert rig.run(life()).lease == ""


def test_a_killed_worker_is_reported_under_its_lease(rig: Rig, session: str) -> None:
    """Whoever killed it."""

    async def life() -> WorkerEnded:
        await rig.fork(session)
        await rig.recorder.next(WorkerForked, session)
        rig.engine.send(bind(session))
        await rig.orders_arrived()
        await rig.kill(session)
        return await rig.recorder.next(WorkerEnded, session)  # type: ignore[no-any-return]

    ended = rig.run(life())
    assert (ended.lease, ended.cause) == ("l1", "killed")


def test_a_parked_worker_has_no_lease(rig: Rig, session: str) -> None:
    """It ends under none, and can be stopped although it is frozen."""

    async def life() -> WorkerEnded:
        await rig.fork(session)
        await rig.recorder.next(WorkerForked, session)
        rig.engine.send(bind(session))
        rig.engine.send(Park(session))
        rig.engine.send(StopWorker(session, "evicted"))
        return await rig.recorder.next(WorkerEnded, session)  # type: ignore[no-any-return]

    ended = rig.run(life())
    assert (ended.lease, ended.cause) == ("", "evicted")


def test_orders_for_nobody_are_ignored(rig: Rig) -> None:
    """A session that the engine never saw, or that is over."""
    rig.engine.send(Park("nobody"))
    rig.engine.send(StopWorker("nobody", "restart"))
    rig.engine.forget("nobody")


def test_statistics_are_plain_data(rig: Rig, session: str) -> None:
    """The status shows them as JSON."""
    import json

    assert json.loads(json.dumps(rig.engine.statistics()))["engine"]
