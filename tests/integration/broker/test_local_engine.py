"""The local engine with supervisors that fail in every way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from zerokernel.broker.engines import Door, LocalEngine, Report, local
from zerokernel.broker.engines.leftovers import SupervisorRecord, find_records, write_record
from zerokernel.broker.engines.supervisor import Supervisor
from zerokernel.errors import WorkerStartFailed
from zerokernel.messages import Bind, Park, WorkerEnded, WorkerForked, WorkerKept
from zerokernel.settings import Settings

MODULE = "tests.integration.broker.scripted_supervisor"
ROOT = str(Path(__file__).parents[3])


class Observer:
    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.kept: list[WorkerKept] = []
        self.doors: list[tuple[str, Door]] = []
        self._more = asyncio.Event()

    def reported(self, report: Report) -> None:
        self.reports.append(report)
        self._more.set()

    def adopted(self, kept: WorkerKept, user: str) -> None:
        self.kept.append(kept)

    def moved(self, session: str, door: Door) -> None:
        self.doors.append((session, door))
        self._more.set()

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not true():
                self._more.clear()
                await self._more.wait()

    def ended(self) -> list[WorkerEnded]:
        return [one for one in self.reports if isinstance(one, WorkerEnded)]


class Bench:
    """An engine whose supervisors do what the script says."""

    def __init__(self, directory: Path, script: str, **changed: Any) -> None:
        self.settings = Settings(directory / "rt", **changed)
        self.settings.runtime_directory.mkdir()
        self.starts = directory / "starts"
        self.environment = {**os.environ, "PYTHONPATH": ROOT, "SCRIPT": script}
        self.environment["STARTS"] = str(self.starts)
        self.engine = LocalEngine(self.settings, module=MODULE)
        self.observer = Observer()
        self.engine.observe(self.observer)

    async def open(self, session: str = "s1", user: str = "") -> Door:
        return await self.engine.open(session, sys.executable, self.environment, user)

    def processes(self) -> list[int]:
        return [int(line) for line in self.starts.read_text().split()]

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            try:
                await work
            finally:
                await self.engine.close()

        asyncio.run(whole())
        assert not any(psutil.pid_exists(one) for one in self.processes())
        left = {one.suffix for one in self.settings.runtime_directory.iterdir()}
        assert left <= {".log"}


def bind(session: str = "s1", lease: str = "l1") -> Bind:
    return Bind(session, lease, {}, "simulated 1", True, 30.0, 60.0, "r1")


def test_a_supervisor_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    """The message has the interpreter, the exit status and the end of its output."""
    bench = Bench(tmp_path, "exit")

    async def life() -> None:
        with pytest.raises(WorkerStartFailed, match=r"ended with code 1(.|\n)*no such library"):
            await bench.open()

    bench.run(life())


def test_a_supervisor_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    """The wait is bounded by the setting."""
    bench = Bench(tmp_path, "never listen", worker_start_seconds=0.5)
    bench.starts.touch()  # it may be killed before it writes down that it started

    async def life() -> None:
        with pytest.raises(WorkerStartFailed, match="not get ready in time"):
            await bench.open()

    bench.run(life())


def test_a_supervisor_that_greets_wrongly_is_refused(tmp_path: Path) -> None:
    """Whatever listens there is no supervisor."""
    bench = Bench(tmp_path, "wrong greeting")

    async def life() -> None:
        with pytest.raises(WorkerStartFailed, match="began with Park"):
            await bench.open()

    bench.run(life())


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    """The message names it."""
    bench = Bench(tmp_path, "exit")
    bench.starts.touch()

    async def life() -> None:
        with pytest.raises(WorkerStartFailed, match="/nowhere/python"):
            await bench.engine.open("s1", "/nowhere/python", {})

    bench.run(life())


def test_a_runtime_directory_too_deep_for_a_socket(tmp_path: Path) -> None:
    """The message says which setting helps."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    bench = Bench(deep, "exit")
    bench.starts.touch()

    async def life() -> None:
        with pytest.raises(WorkerStartFailed, match="ZEROKERNEL_RUNTIME_DIRECTORY"):
            await bench.open()

    bench.run(life())


@pytest.mark.parametrize("death", ["kill", "garbage"])
def test_the_workers_of_a_lost_supervisor_are_reported_ended(tmp_path: Path, death: str) -> None:
    """Killed, or talking nonsense: each worker and each bound lease once."""
    bench = Bench(tmp_path, "garbage" if death == "garbage" else "well behaved")

    async def life() -> None:
        await bench.open("s1")
        await bench.open("s2")
        await bench.open("s3")
        await bench.observer.until(lambda: bench.observer.reports)
        bench.engine.send(bind("s2", "l2"))
        if death == "kill":
            os.kill(bench.processes()[0], 9)
        await bench.observer.until(lambda: len(bench.observer.ended()) >= 2)
        known = {one.session: (one.lease, one.cause) for one in bench.observer.ended()}
        assert known == {"s1": ("", "supervisor lost"), "s2": ("l2", "supervisor lost")}
        assert len(bench.observer.ended()) == 2

    bench.run(life())


def test_a_steady_supervisor_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions are told the new door."""
    monkeypatch.setattr(local, "_STEADY_SECONDS", 0.0)
    bench = Bench(tmp_path, "well behaved")

    async def life() -> None:
        first = await bench.open()
        os.kill(bench.processes()[0], 9)
        await bench.observer.until(lambda: bench.observer.doors)
        session, door = bench.observer.doors[0]
        assert session == "s1"
        assert door.address != first.address
        assert await bench.open() == door

    bench.run(life())


def test_a_short_lived_supervisor_is_started_again_for_the_next_lease(tmp_path: Path) -> None:
    """The Bind waits for it."""
    bench = Bench(tmp_path, "well behaved")

    async def life() -> None:
        await bench.open()
        await bench.observer.until(lambda: bench.observer.reports)
        os.kill(bench.processes()[0], 9)
        await bench.observer.until(bench.observer.ended)
        bench.engine.send(bind())
        await bench.observer.until(lambda: bench.observer.doors)
        assert len(bench.processes()) == 2

    bench.run(life())


def test_a_restart_that_fails_ends_the_lease_that_asked_for_it(tmp_path: Path) -> None:
    """The lease is not held for a worker that never comes; nothing ran."""
    bench = Bench(tmp_path, "ready, then die for good")

    async def life() -> None:
        await bench.open()
        await bench.observer.until(lambda: bench.observer.reports)
        os.kill(bench.processes()[0], 9)
        await bench.observer.until(bench.observer.ended)
        bench.engine.send(bind())
        await bench.observer.until(lambda: len(bench.observer.ended()) == 2)
        last = bench.observer.ended()[-1]
        assert (last.lease, last.cause, last.ran) == ("l1", "start failed", 0.0)
        assert "no such library" in last.detail

    bench.run(life())


def test_a_supervisor_that_stops_reading_is_given_up(tmp_path: Path) -> None:
    """The broker does not wait for a full socket; its loop goes on."""
    bench = Bench(tmp_path, "stop reading")

    async def life() -> None:
        await bench.open()
        await bench.observer.until(lambda: WorkerForked("s1", 12345) in bench.observer.reports)
        until = time.monotonic() + 20
        while not bench.observer.ended():
            bench.engine.send(Park("s1"))
            assert time.monotonic() < until
        assert "does not read" in bench.observer.ended()[0].detail

    bench.run(life())


def test_a_grant_in_answer_to_a_loss_is_not_lost_with_it(tmp_path: Path) -> None:
    """A slice that a dead supervisor freed is granted at once, for a worker of the next one."""
    bench = Bench(tmp_path, "ready", worker_start_seconds=20)
    reported = bench.observer.reported

    def grant_anew(report: Report) -> None:
        reported(report)
        if isinstance(report, WorkerEnded) and report.lease == "l1":
            bench.engine.send(bind("s2", "l2"))

    async def life() -> None:
        await bench.open("s1")
        await bench.open("s2")
        bench.engine.send(bind("s1", "l1"))
        bench.observer.reported = grant_anew  # type: ignore[method-assign]  # answers as a broker
        os.kill(bench.processes()[0], signal.SIGKILL)
        await bench.observer.until(lambda: len(bench.observer.doors) == 2)
        assert {one.lease for one in bench.observer.ended()} == {"l1"}

    bench.run(life())


def test_a_supervisor_that_was_only_starting_is_ended_by_the_next_broker(tmp_path: Path) -> None:
    """It is written down before it listens; nobody was told where it is, so it is of no use."""
    bench = Bench(tmp_path, "never listen", worker_start_seconds=20)

    async def life() -> None:
        opening = asyncio.create_task(bench.open())
        async with asyncio.timeout(20):
            while not (bench.starts.exists() and bench.processes()):
                await asyncio.sleep(0.01)
        ((_, record),) = find_records(bench.settings.runtime_directory)
        assert (record.process, record.address) == (bench.processes()[0], "")
        await LocalEngine(bench.settings, module=MODULE).adopt()
        assert record.find_process() is None
        assert not find_records(bench.settings.runtime_directory)
        with pytest.raises(WorkerStartFailed):
            await opening

    bench.run(life())


def test_each_user_has_supervisors_of_their_own(tmp_path: Path) -> None:
    """Of one interpreter, with secrets of their own, and not believed of others' sessions.

    Each of these says that it forked a worker for s1. Whose they are is written down.
    """
    bench = Bench(tmp_path, "serve")

    async def life() -> None:
        ada, bob = await bench.open("s1", "ada"), await bench.open("s2", "bob")
        assert await bench.open("s3", "ada") == ada
        assert ada.secret != bob.secret
        assert len(bench.processes()) == 2
        records = [record for _, record in find_records(bench.settings.runtime_directory)]
        users = {record.secret: record.user for record in records}
        assert users == {ada.secret: "ada", bob.secret: "bob"}
        shown = bench.engine.statistics()["supervisors"]
        assert sorted((one["user"], one["sessions"]) for one in shown) == [("ada", 2), ("bob", 1)]
        os.kill(bench.processes()[1], signal.SIGKILL)
        os.kill(bench.processes()[0], signal.SIGKILL)
        await bench.observer.until(bench.observer.ended)
        assert [one.session for one in bench.observer.ended()] == ["s1"]
        assert len([one for one in bench.observer.reports if isinstance(one, WorkerForked)]) == 1

    bench.run(life())


def test_a_record_of_an_earlier_version_is_nobodys(tmp_path: Path) -> None:
    """It has no user; the broker after it takes its owner for that."""
    own = psutil.Process()
    record = SupervisorRecord(own.pid, own.create_time(), "python", "unix:/nowhere", "hidden")
    file = tmp_path / "supervisor-1-1.process"
    body = {key: value for key, value in asdict(record).items() if key != "user"}
    file.write_text(json.dumps(body))
    ((_, found),) = find_records(tmp_path)
    assert found.user == ""


def test_only_supervisors_that_still_run_are_found(tmp_path: Path) -> None:
    """A record of a process that ended, or whose id another one has now, is taken away."""
    own = psutil.Process()
    record = SupervisorRecord(own.pid, own.create_time(), "python", "unix:/nowhere", "hidden")
    write_record(tmp_path / "supervisor-1-1.process", record)
    write_record(tmp_path / "supervisor-1-2.process", replace(record, created=5.0))
    (tmp_path / "supervisor-1-3.process").write_text("nonsense")
    (tmp_path / "supervisor-1-3.log").touch()
    (tmp_path / "supervisor-2-1.new").touch()  # its writer was killed
    assert find_records(tmp_path) == [(tmp_path / "supervisor-1-1.process", record)]
    assert not list(tmp_path.glob("*.new"))
    assert [one.name for one in tmp_path.iterdir()] == ["supervisor-1-1.process"]
    assert (tmp_path / "supervisor-1-1.process").stat().st_mode & 0o077 == 0
    assert record.secret not in repr(record)


COMPUTES = """\
import os, sys, time
from zerokernel.messages import SupervisorReady
from zerokernel.wire import listen
address, go, how = sys.argv[1:]
listener = listen(address, bytes(32))
print("listens", flush=True)
while not os.path.exists(go):
    if how == "asleep":
        time.sleep(0.05)
while True:
    try:
        channel, _ = listener.accept()
        channel.send(SupervisorReady(os.getpid()))
    except Exception:
        pass
"""


@pytest.mark.parametrize("how", ["computing", "asleep"])
def test_a_supervisor_that_computes_does_not_hang(tmp_path: Path, how: str) -> None:
    """It imports, or gets no processor: the next broker waits longer than for one that sleeps."""
    go, address = tmp_path / "go", f"unix:{tmp_path / 's'}"
    command = [sys.executable, "-c", COMPUTES, address, str(go), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        created = psutil.Process(process.pid).create_time()
        record = SupervisorRecord(process.pid, created, "python", address, bytes(32).hex())
        supervisor = Supervisor("python", {}, Settings(tmp_path), print, print)

        async def take_over() -> None:
            asyncio.get_running_loop().call_later(2.5, go.touch)
            await supervisor.take_over(tmp_path / "supervisor-1-1.process", record, 1.0)
            assert supervisor.process == process.pid
            supervisor._drop(kill=True)

        if how == "asleep":
            with pytest.raises(WorkerStartFailed):
                asyncio.run(take_over())
        else:
            asyncio.run(take_over())
        assert record.find_process() is None
