"""What users of a shared broker see of each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from zerokernel.broker.access import SOMEBODY, Access
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import User
from zerokernel.broker.ledger import MemoryLedger
from zerokernel.broker.scheduling import (
    LeaseBooked,
    NotebookSaid,
    Policy,
    SchedulerState,
    SessionConnected,
    Tell,
    Tick,
    snapshot,
)
from zerokernel.messages import EndWorker, RequestLease, WorkerForked
from zerokernel.testing import FakeClock, FakeEngine, simulated_slices

ADA, BOB, ROOT = User("ada"), User("bob"), User("root", admin=True)
SECRETS = {"ada": ("a" * 32, "ada's thesis", "ask-a"), "bob": ("b" * 32, "bob's secret", "ask-b")}


@pytest.fixture
def status() -> dict[str, Any]:
    """Bob runs, Ada and Bob's second notebook wait."""
    state, clock = SchedulerState(simulated_slices()), FakeClock()
    for user in ("bob", "ada"):
        session, name, request = SECRETS[user]
        state.handle(SessionConnected(session, name, user, tier="pro"), clock())
        state.handle(NotebookSaid(session, RequestLease(request, "", 60.0)), clock.advance(1))
    state.handle(SessionConnected("c" * 32, "bob's other", "bob"), clock())
    state.handle(NotebookSaid("c" * 32, RequestLease("ask-c", "", 60.0)), clock())
    broker = Broker(state, FakeEngine(), MemoryLedger(), clock)
    status = broker.status()
    own = {"user": "ada", "python": "/home/ada/python"}
    status["engine"]["supervisors"] = [own, {"user": "bob", "python": "/home/bob/python"}]
    return status


def test_of_others_only_what_says_how_long_one_waits(status: dict[str, Any]) -> None:
    """Slices, places and times; nothing by which a person, notebook or request is known."""
    seen = Access().visible(status, ADA)
    text = json.dumps(seen)
    for secret in (*SECRETS["bob"], "c" * 32, "bob", "ask-c"):
        assert secret not in text
    (leased,) = seen["slices"]
    assert (leased["state"], leased["session_name"]) == ("leased", SOMEBODY)
    assert leased["remaining"] is not None
    assert [row["place"] for row in seen["queue"]] == [1, 2]
    assert sorted(row["session_name"] for row in seen["queue"]) == ["ada's thesis", SOMEBODY]
    assert [one["session"] for one in seen["sessions"]] == [SECRETS["ada"][0]]
    assert [one["user"] for one in seen["engine"]["supervisors"]] == ["ada"]


def test_what_is_ones_own_is_shown_whole(status: dict[str, Any]) -> None:
    """As if there were nobody else."""
    seen = Access().visible(status, BOB)
    assert seen["slices"] == status["slices"]
    assert [one["session"] for one in seen["sessions"]] == [SECRETS["bob"][0], "c" * 32]
    assert [row["request"] for row in seen["queue"]].count("ask-c") == 1


@pytest.mark.parametrize(
    ("access", "user"), [(Access(show_users=True), ADA), (Access(), ROOT)], ids=["set", "admin"]
)
def test_names_of_users_where_that_is_set_or_to_administrators(
    status: dict[str, Any], access: Access, user: User
) -> None:
    """Who it is, and still neither notebook, session nor request."""
    seen = access.visible(status, user)
    assert seen["slices"][0]["session_name"] == "bob"
    for secret in (*SECRETS["bob"], "c" * 32, "ask-c"):
        assert secret not in json.dumps(seen)


def test_a_worker_that_does_not_end_is_not_said_to_be_somebodys() -> None:
    """Neither in the status nor to those who wait for its slice."""
    state = SchedulerState(simulated_slices(), Policy(stop_seconds=10.0, kernel_grace_seconds=5.0))
    state.handle(SessionConnected("b" * 32, "bob's secret", "bob"), 0.0)
    state.handle(NotebookSaid("b" * 32, RequestLease("ask-b", "", 60.0)), 0.0)
    state.handle(LeaseBooked(state.slices["simulated-1"].lease.id), 0.0)
    state.handle(WorkerForked("b" * 32, 7), 0.0)
    state.handle(SessionConnected("a" * 32, "ada's thesis", "ada"), 0.0)
    state.handle(NotebookSaid("a" * 32, RequestLease("ask-a", "", 60.0)), 0.0)
    told = state.handle(NotebookSaid("b" * 32, EndWorker("b" * 32)), 1.0)
    told += state.handle(Tick(), 20.0)
    (aside,) = snapshot(state, 20.0)["slices"]
    assert "does not end" in aside["reason"]
    reasons = [
        one.message.reason for one in told if isinstance(one, Tell) and one.session[0] == "a"
    ]
    assert "does not end" in "".join(reasons)
    assert "bob" not in "".join(reasons) + aside["reason"]


def test_hosts() -> None:
    """Loopback always, others where they are named."""
    access = Access(frozenset({"gpu.example.org"}))
    assert access.is_host("localhost")
    assert access.is_host("gpu.example.org")
    assert not access.is_host("evil.example")
    assert not access.is_host(None)
