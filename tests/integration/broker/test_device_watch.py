"""A broker and its devices: a real loop, threads and locks over the recording of a machine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.unit.broker.recordings import GIB, gpu, halves, machine, stranger
from zerokernel.broker.device_watch import DeviceWatch, lock_slices
from zerokernel.broker.devices import DeviceLocks, NvidiaDevices, ReplayNvml
from zerokernel.broker.devices.owners import owner_of
from zerokernel.broker.devices.scrub import scrub_device
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import User
from zerokernel.broker.ledger import MemoryLedger
from zerokernel.broker.scheduling import Policy, SchedulerState
from zerokernel.messages import Granted, Message, OpenSession, Queued, RequestLease
from zerokernel.testing import FakeEngine


class Notebook:
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Message] = []

    def tell(self, message: Message) -> None:
        self.heard.append(message)

    def replaced(self) -> None:
        raise AssertionError("nobody takes the session over")

    def ending(self, reason: str = "") -> None:
        """The broker ends."""


class Site:
    """A broker over a recording, its watch, and notebooks of two users."""

    def __init__(self, folder: Path, recording: dict[str, Any], **policy: Any) -> None:
        self.file = folder / "machine.json"
        self.write(recording)
        self.nvml = ReplayNvml(self.file)
        owner, scrub = self.nvml.owner, self.nvml.scrub
        self.devices = NvidiaDevices(self.nvml, owner=owner, scrub=scrub)
        self.locks = DeviceLocks(folder / "locks")
        slices = lock_slices(self.devices, self.locks)
        self.engine, self.ledger = FakeEngine(), MemoryLedger()
        state = SchedulerState(slices, Policy(**policy))
        self.broker = Broker(state, self.engine, self.ledger, owner="ada")
        self.watch = DeviceWatch(self.broker, self.devices, self.locks, slices)

    def write(self, recording: dict[str, Any]) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(recording))
        os.replace(new, self.file)

    def open(self, session: str, user: str) -> Notebook:
        notebook = Notebook()
        opening = OpenSession(session, f"{session}.ipynb", "python", {})
        assert self.broker.connect(opening, User(user), notebook)
        return notebook

    def ask(self, session: str, request: str, size: str = "") -> None:
        self.broker.said(session, RequestLease(request, size, 60.0))

    def run(self, session: str, request: str) -> None:
        self.ask(session, request)
        if session not in self.engine.workers:
            self.engine.fork(session)
        self.engine.start_task(session)
        self.engine.end_task(session)

    def slice(self, name: str) -> dict[str, Any]:
        return next(one for one in self.broker.status()["slices"] if one["name"].endswith(name))


@asynccontextmanager
async def site(folder: Path, recording: dict[str, Any], **policy: Any) -> AsyncIterator[Site]:
    made = Site(folder, recording, **policy)
    try:
        yield made
    finally:
        await made.watch.close()
        await made.broker.close()
        made.locks.release()
        assert made.nvml.sessions == 0


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(20):
        while not (value := condition()):
            await asyncio.sleep(0.005)
        return value


def grants(notebook: Notebook) -> list[str]:
    return [one.request for one in notebook.heard if isinstance(one, Granted)]


def test_another_users_cell_gets_a_slice_that_was_overwritten(tmp_path: Path) -> None:
    """The grant follows the scrub; the same user's next notebook needs none."""

    async def run() -> None:
        async with site(tmp_path, machine(gpu("GPU-0"))) as here:
            mine, also_mine = here.open("a", "ada"), here.open("b", "ada")
            theirs = here.open("c", "bob")
            here.run("a", "r1")
            here.ask("b", "r2")
            assert not grants(also_mine)
            await until(lambda: grants(also_mine))
            assert here.nvml.scrubbed == []
            here.engine.fork("b")
            here.engine.start_task("b")
            here.engine.end_task("b")
            here.ask("c", "r3")
            await until(lambda: grants(theirs))
            assert here.nvml.scrubbed == ["GPU-0"]
            assert grants(mine) == ["r1"]

    asyncio.run(run())


def test_a_foreign_process_is_named_to_who_waits_and_the_slice_comes_back(tmp_path: Path) -> None:
    """The running cell goes on and is not charged; the next waits with the reason."""

    async def run() -> None:
        async with site(tmp_path, machine(gpu("GPU-0"))) as here:
            mine = here.open("a", "ada")
            here.ask("a", "r1")
            here.engine.fork("a")
            here.engine.start_task("a")
            here.write(machine(gpu("GPU-0", processes=[stranger()])))
            await here.watch.look()
            here.engine._clock.advance(5.0)  # type: ignore[attr-defined]  # a FakeClock
            here.engine.end_task("a")
            assert here.slice("full H200")["state"] == "set aside"
            here.ask("a", "r2")
            queued = [one for one in mine.heard if isinstance(one, Queued)][-1]
            assert "process 4242 (python) of user mallory" in queued.reason
            (entry,) = here.ledger.recent("ada")
            assert entry.charged == 0
            assert "mallory" in entry.cause
            here.write(machine(gpu("GPU-0")))
            await here.watch.look()
            assert grants(mine) == ["r1", "r2"]

    asyncio.run(run())


def test_a_hardware_error_ends_what_runs_there_and_nothing_else(tmp_path: Path) -> None:
    """The worker is stopped with the reason; its neighbour on the same GPU goes on."""

    async def run() -> None:
        async with site(tmp_path, machine(halves(0))) as here:
            for session, request in (("a", "r1"), ("b", "r2")):
                here.open(session, "ada")
                here.ask(session, request)
                here.engine.fork(session)
                here.engine.start_task(session)
            event = {"xid": 94, "gpu": "GPU-0", "gi": 1, "ci": 0}
            here.write(machine(halves(0), events=[event]))
            await here.watch.look()
            assert list(here.engine.workers) == ["b"]
            assert "Xid 94" in here.slice("#1")["reason"]
            (entry,) = [one for one in here.ledger.recent("ada") if one.lease.startswith("r1")]
            assert entry.charged == 0
            assert here.slice("#2")["state"] == "leased"

    asyncio.run(run())


def test_a_layout_that_is_restored_with_new_instances_is_leased_again(tmp_path: Path) -> None:
    """A reboot without the instances stops leasing; once they are made, the new ones are locked."""

    async def run() -> None:
        async with site(tmp_path, machine(halves(0))) as here:
            mine = here.open("a", "ada")
            here.write(machine(gpu("GPU-0", mig=True, instances=[])))
            await here.watch.look()
            here.ask("a", "r1", "large")
            queued = [one for one in mine.heard if isinstance(one, Queued)][-1]
            assert "should be 2 x MIG 3g.71gb, and is without any instance" in queued.reason
            fresh = halves(0)
            for one in fresh["instances"]:
                if one is not None:
                    one["uuid"] = one["uuid"].replace("MIG-0", "MIG-new")
            here.write(machine(fresh))
            await here.watch.look()
            await until(lambda: grants(mine) == ["r1"])
            assert here.nvml.scrubbed == ["MIG-newa"], "nobody knows what is in new instances"
            names = {file.name for file in (tmp_path / "locks").iterdir()}
            assert {"MIG-newa.lock", "MIG-newb.lock"} <= names

    asyncio.run(run())


def test_a_slice_that_does_not_come_back_clean_waits_until_it_is(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """After the wait it is set aside with the reason, and leased once it is clean."""
    monkeypatch.setattr("zerokernel.broker.devices.nvidia.FREE_SECONDS", 0.1)

    async def run() -> None:
        async with site(tmp_path, machine(gpu("GPU-0"))) as here:
            here.open("a", "ada")
            theirs = here.open("b", "ada")
            here.run("a", "r1")
            here.write(machine(gpu("GPU-0", used=30 * GIB)))
            here.ask("b", "r2")
            queued = await until(lambda: [one for one in theirs.heard if isinstance(one, Queued)])
            assert "did not come back clean: 30.0 GB are in use" in queued[-1].reason
            await here.watch.look()
            assert not grants(theirs)
            here.write(machine(gpu("GPU-0")))
            await here.watch.look()
            assert grants(theirs) == ["r2"]

    asyncio.run(run())


def test_a_driver_that_hangs_sets_its_slices_aside(tmp_path: Path, monkeypatch: Any) -> None:
    """The broker goes on, asks no second time meanwhile, and leases again once it answers."""
    monkeypatch.setattr("zerokernel.broker.device_watch.HANG_SECONDS", 0.1)
    answers, asked = threading.Event(), []

    async def run() -> None:
        async with site(tmp_path, machine(gpu("GPU-0"))) as here:
            discover = here.devices.discover

            def hang() -> Any:
                asked.append(1)
                answers.wait(20)
                return discover()

            monkeypatch.setattr(here.devices, "discover", hang)
            mine = here.open("a", "ada")
            for _ in range(2):
                await here.watch.look()
            here.ask("a", "r1")
            assert "has not answered" in here.slice("full H200")["reason"]
            assert len(asked) == 1
            answers.set()
            await until(lambda: here.watch._asking is None or here.watch._asking.done())
            await here.watch.look()
            assert grants(mine) == ["r1"]

    asyncio.run(run())


# --- real processes ---------------------------------------------------------------------------


def test_a_process_is_ours_by_its_ancestors() -> None:
    """A child of ours is; one that we did not start has a name and a user; a dead one neither."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert owner_of(child.pid, frozenset({os.getpid()})) == ""
        stranger_here = owner_of(child.pid, frozenset({2**22 + 1}))
        assert stranger_here is not None
        assert str(child.pid) in stranger_here
        assert "of user" in stranger_here
    finally:
        child.communicate(b"\n")
    assert owner_of(child.pid, frozenset({os.getpid()})) is None


def test_a_device_that_is_not_there_cannot_be_overwritten() -> None:
    """The helper process says why, in one line, and the device is not taken for clean."""
    reason = scrub_device("GPU-that-is-nowhere")
    assert reason.startswith("it could not be overwritten: ")
    assert "\n" not in reason
