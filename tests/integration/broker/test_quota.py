"""Quotas of a broker with books on a disk, over its restarts."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from tests.integration.broker.test_device_watch import Notebook
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import User
from zerokernel.broker.ledger import PatientLedger
from zerokernel.broker.ledger.sql import SqlLedger
from zerokernel.broker.scheduling import Policy, SchedulerState
from zerokernel.messages import (
    Granted,
    OpenSession,
    RequestLease,
    TaskEnded,
    TaskStarted,
    WorkerForked,
    WorkerKept,
)
from zerokernel.testing import FakeClock, FakeEngine, simulated_slices

ADA = User("ada", "free")
NOON = 1_800_000_000.0


class Site:
    """A broker on books that outlive it, by a clock of its own; `now` is the time of day."""

    def __init__(self, books: Path, now: float, arrivals: int) -> None:
        self.clock = FakeClock()
        self.engine = FakeEngine(self.clock)
        self.ledger = PatientLedger(SqlLedger(books, durable_grants=True), durable_grants=True)
        policy = Policy(quotas={"free": 300.0})
        state = SchedulerState(simulated_slices(2), policy, arrivals)
        self.broker = Broker(
            state,
            self.engine,
            self.ledger,
            self.clock,
            lambda: now + self.clock(),
            accounts={"ada": ADA}.get,
        )

    def open(self, session: str) -> Notebook:
        notebook = Notebook()
        opening = OpenSession(session, f"{session}.ipynb", "python", {})
        assert self.broker.connect(opening, ADA, notebook)
        return notebook

    def begins(self, session: str, request: str, limit: float) -> str:
        """A cell is granted and begins; gives its lease."""
        self.broker.said(session, RequestLease(request, "", limit))
        lease = self.broker.state.sessions[session].lease
        assert lease is not None
        self.broker.reported(WorkerForked(session, 7))
        self.broker.reported(TaskStarted(session, lease.id))
        return lease.id

    @property
    def left(self) -> float:
        return float(self.broker.allowance("ada")["left"])


def test_a_restart_changes_no_quota(tmp_path: Path) -> None:
    """What was used counts, what an unknown lease reserved counts until it is settled."""
    books = tmp_path / "ledger.sqlite"

    async def before() -> None:
        site = Site(books, NOON, 0)
        site.open("a")
        lease = site.begins("a", "r1", 60.0)
        site.clock.now += 20.0
        site.broker.reported(TaskEnded("a", lease, 20.0))
        site.begins("a", "r2", 100.0)
        assert site.left == 180.0
        site.broker.let_go()
        site.ledger.close()

    async def after() -> None:
        site = Site(books, NOON + 3600.0, 1000)
        site.open("b")
        assert site.left == 180.0
        site.broker.recover()
        assert site.left == 280.0, "its cell had not been seen to run"
        assert 22 * 3600 < site.broker.allowance("ada")["resets_in"] < 23 * 3600 + 1
        site.broker.let_go()
        site.ledger.close()

    async def next_day() -> None:
        site = Site(books, NOON + 86_401.0, 2000)
        site.open("c")
        assert site.left == 300.0
        site.broker.let_go()
        site.ledger.close()

    for life in (before, after, next_day):
        asyncio.run(life())


def test_a_lease_that_is_taken_over_counts_as_it_did(tmp_path: Path) -> None:
    """Beyond the quota it costs nothing, also under the next broker; within it what it ran."""
    books = tmp_path / "ledger.sqlite"
    leases: dict[str, str] = {}

    async def before() -> None:
        site = Site(books, NOON, 0)
        within, beyond = site.open("a"), site.open("b")
        leases["a"] = site.begins("a", "r1", 298.0)
        leases["b"] = site.begins("b", "r2", 100.0)
        assert [one.limit for one in within.heard if isinstance(one, Granted)] == [298.0]
        assert [one.limit for one in beyond.heard if isinstance(one, Granted)] == [100.0]
        site.broker.let_go()
        site.ledger.close()

    async def after() -> None:
        site = Site(books, NOON + 10.0, 1000)
        for name, place, limit in (("a", "simulated-1", 298.0), ("b", "simulated-2", 100.0)):
            request = leases[name].partition(".")[0]
            kept = WorkerKept(name, 7, leases[name], request, place, limit, ran=10.0, held=10.0)
            site.broker.adopted(kept, "ada")
        assert site.left == 2.0
        for name in "ab":
            site.broker.reported(TaskEnded(name, leases[name], 12.0))
        assert site.left > 285.0
        with closing(site.ledger):
            window = site.ledger.window("ada", NOON + 10.0)
            assert window is not None
            assert (window.charged, window.reserved) == (300_000 - 1000 * site.left, 0)
            site.broker.let_go()

    for life in (before, after):
        asyncio.run(life())
