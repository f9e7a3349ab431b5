"""A broker whose grants must be in the books, on a disk that is full for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.broker.test_device_watch import Notebook, grants, until
from tests.integration.ledger.mounts import mounted_tmpfs
from tests.integration.ledger.test_sql import fill, reserve_until_full
from zerokernel.broker import bookkeeping
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import User
from zerokernel.broker.ledger import PatientLedger
from zerokernel.broker.ledger.sql import SqlLedger
from zerokernel.broker.scheduling import SchedulerState
from zerokernel.messages import LeaseEnded, OpenSession, Queued, RequestLease
from zerokernel.testing import FakeEngine, simulated_slices


class Counted(PatientLedger):
    """Counts how often it was tried to write what could not be."""

    tried = 0

    def catch_up(self) -> None:
        self.tried += 1
        super().catch_up()


def test_nothing_is_granted_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs ends and is settled, who waits is told why, and is served when there is room."""
    monkeypatch.setattr(bookkeeping, "_TRY_AGAIN_SECONDS", 0.01)

    async def run(disk: Path) -> None:
        inner = SqlLedger(disk / "ledger.sqlite", durable_grants=True)
        ledger = Counted(inner, durable_grants=True)
        engine, notebook = FakeEngine(), Notebook()
        broker = Broker(SchedulerState(simulated_slices(2)), engine, ledger)
        for session in ("a", "b"):
            opening = OpenSession(session, f"{session}.ipynb", "python", {})
            assert broker.connect(opening, User("bob"), notebook)
        broker.said("a", RequestLease("first", "", 60.0))
        engine.fork("a")
        engine.start_task("a")
        ballast = fill(disk)
        reserve_until_full(inner)
        broker.said("b", RequestLease("second", "", 60.0))
        assert grants(notebook) == ["first"]
        (queued,) = [one for one in notebook.heard if isinstance(one, Queued)]
        assert "No space left" in queued.reason or "full" in queued.reason, queued.reason
        assert broker.status()["books_closed"]
        engine.end_task("a")
        assert any(isinstance(one, LeaseEnded) for one in notebook.heard), "what ran ends"
        tried = ledger.tried
        await until(lambda: ledger.tried > tried + 1)
        assert grants(notebook) == ["first"]
        ballast.unlink()
        await until(lambda: grants(notebook) == ["first", "second"])
        assert not broker.status()["books_closed"]
        entries = {one.lease.split(".")[0]: one for one in ledger.recent("bob") if one.open}
        assert list(entries) == ["second"]
        assert sum(not one.open for one in ledger.recent("bob")) >= 1, "the first is settled"
        await broker.close()
        ledger.close()

    with mounted_tmpfs(tmp_path, 1 << 20) as disk:
        asyncio.run(run(disk))
