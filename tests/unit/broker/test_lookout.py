"""An event costs by what it changes."""

from __future__ import annotations

import pytest

from zerokernel.broker.scheduling import (
    Event,
    LeaseBooked,
    NotebookSaid,
    Reserve,
    SchedulerState,
    SessionConnected,
    Tick,
)
from zerokernel.broker.scheduling.lookout import Lookout
from zerokernel.messages import RequestLease, TaskEnded, TaskStarted, WorkerForked
from zerokernel.testing import simulated_slices

SLICES = 300


def handle(state: SchedulerState, event: Event, now: float) -> None:
    """As a broker does whose books have each lease at once."""
    for action in state.handle(event, now):
        if isinstance(action, Reserve):
            state.handle(LeaseBooked(action.lease), now)


@pytest.fixture
def busy() -> SchedulerState:
    """All slices run a cell of a notebook each."""
    state = SchedulerState(simulated_slices(SLICES))
    for number in range(SLICES):
        name = f"s{number}"
        handle(state, SessionConnected(name, name, name), 0.0)
        handle(state, WorkerForked(name, number + 1), 0.0)
        handle(state, NotebookSaid(name, RequestLease(f"r{number}", "", 60.0)), 0.0)
        handle(state, TaskStarted(name, state.leases[f"r{number}"].id), 0.0)
    state.next_deadline()
    return state


def test_a_cell_that_ends_is_all_that_is_looked_at(
    busy: SchedulerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three hundred slices the one is looked at that changed hands, and nothing is at a tick."""
    looked: list[str] = []
    look = Lookout._look_at_slice
    monkeypatch.setattr(
        Lookout,
        "_look_at_slice",
        lambda self, record: (looked.append(record.slice.id), look(self, record))[1],
    )
    handle(busy, Tick(), 1.0)
    busy.next_deadline()
    assert looked == []
    lease = busy.leases["r7"]
    handle(busy, TaskEnded("s7", lease.id, 1.0), 2.0)
    handle(busy, SessionConnected("new", "new", "new"), 3.0)
    handle(busy, NotebookSaid("new", RequestLease("rnew", "", 60.0)), 3.0)
    busy.next_deadline()
    assert set(looked) == {lease.slice.slice.id}
    assert busy.leases["rnew"].slice is lease.slice


def test_starts_are_expected_from_the_first_slices_alone(busy: SchedulerState) -> None:
    """The slices that are free first come first, also those whose limit has changed."""
    for number, limit in ((5, 10.0), (3, 20.0)):
        busy.leases[f"r{number}"].limit = limit
        busy.lookout.touch(busy.sessions[f"s{number}"])
    assert busy.lookout.free_in("simulated", 3, 4.0) == [6.0, 16.0, 56.0]
    assert busy.lookout.supply("simulated").usable == SLICES
