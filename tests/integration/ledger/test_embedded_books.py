"""The embedded broker's books, through real kernels, workers and kills."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kernels import Kernel, wait_until
from tests.leftovers import ended
from zerokernel.client import ensure_broker, find_broker
from zerokernel.client.rest import fetch_status, fetch_usage, shut_down
from zerokernel.settings import Settings, as_environment


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a broker with books in SQL; it is ended on the way out."""
    url = request.param == "postgresql" and request.getfixturevalue("postgres").new_schema()
    made = Settings(
        tmp_path / "rt",
        devices="simulated",
        ledger="sql",
        ledger_url=url or "",
        broker_grace_seconds=0.5,
    )
    yield made
    end_broker(made)


def end_broker(settings: Settings) -> None:
    if address := find_broker(settings):
        broker = psutil.Process(address.pid)
        shut_down(address)
        wait_until(lambda: ended(broker), "the end of the broker")


def books(settings: Settings) -> dict[str, Any]:
    return fetch_usage(ensure_broker(settings))


def test_cells_are_in_the_books_of_the_next_broker(settings: Settings) -> None:
    """A broker that ended properly leaves nothing open, and its successor knows all of it."""
    with Kernel(as_environment(settings)) as kernel:
        kernel.load_extension()
        for _ in range(3):
            assert kernel.run("%%gpu --duration 20\npass").status == "ok"
        wait_until(lambda: not books(settings)["reserved"], "the settlement")
    before = books(settings)
    assert before["leases"] == 3
    end_broker(settings)
    assert books(settings) == before
    assert [entry["cause"] for entry in before["recent"]] == ["finished"] * 3


def test_a_machine_that_dies_leaves_a_charge_by_its_last_heartbeat(settings: Settings) -> None:
    """The next broker charges what had run by then and a second, and releases the rest."""
    with Kernel(as_environment(settings)) as kernel:
        kernel.load_extension()
        kernel.submit("%%gpu --duration 50\nimport time\ntime.sleep(40)")
        ran = wait_until(lambda: (books(settings)["recent"] or [{"ran": 0}])[0]["ran"], "a beat")
        address = ensure_broker(settings)
        supervisors = fetch_status(address)["engine"]["supervisors"]
        os.kill(address.pid, signal.SIGSTOP)  # so that nothing is settled in between
        for process in (*(one["process"] for one in supervisors), address.pid):
            os.kill(process, signal.SIGKILL)
        kernel.kill()
    ensure_broker(settings)
    wait_until(lambda: not books(settings)["reserved"], "the recovery")
    after = books(settings)
    assert after["reserved"] == 0
    entry = after["recent"][0]
    assert (entry["cause"], entry["open"]) == ("recovered", False)
    assert ran + 1000 <= entry["charged"] == entry["ran"] + 1000 < 20_000
