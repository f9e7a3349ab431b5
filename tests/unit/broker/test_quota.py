"""Quotas by examples: what is left, what a limit shrinks to, and what happens beyond."""

from __future__ import annotations

from typing import Any

from tests.unit.broker.test_scheduling import told
from tests.unit.broker.test_shared_queue import Shared, reasons
from zerokernel.broker.scheduling import (
    Account,
    Balance,
    BalanceTold,
    Extend,
    Reserve,
    SessionConnected,
    Settle,
    Tick,
)
from zerokernel.broker.scheduling.allowance import next_reset, summary
from zerokernel.messages import Granted, LimitNear, Refused, TaskEnded, TaskStarted, WorkerForked

DAY = 86_400.0
FREE = {"free": 300.0}


def scene(**policy: Any) -> Shared:
    made = Shared(**{"quotas": FREE, **policy})
    made.comes("a", "ada", tier="free")
    return made


def reserves(actions: list[Any]) -> list[Reserve]:
    return [one for one in actions if isinstance(one, Reserve)]


def uses(one: Shared, session: str, request: str, limit: float, ran: float) -> list[Any]:
    """A cell from its request to its end; gives what its request led to."""
    asked = one.asks(session, request, duration=limit)
    if one.state.sessions[session].worker is None:
        one.does(WorkerForked(session, 7))
    lease = one.lease(session)
    one.does(TaskStarted(session, lease))
    one.now += ran
    one.does(TaskEnded(session, lease, ran))
    return asked


def left(one: Shared, user: str = "ada", tier: str = "free") -> float | None:
    seconds = summary(one.state, Account(user, "", tier))["left"]
    return None if seconds is None else float(seconds)


def test_a_reservation_takes_the_limit_and_its_end_gives_back_what_was_not_used() -> None:
    """300 s a day: a cell of 60 s leaves 240 s while it runs, and 290 s where it ran for 10 s."""
    here = scene()
    here.asks("a", "r1", duration=60.0)
    assert left(here) == 240.0
    here.does(WorkerForked("a", 7))
    here.does(TaskStarted("a", here.lease("a")))
    here.now += 10.0
    here.does(TaskEnded("a", here.lease("a"), 10.0))
    assert left(here) == 290.0


def test_the_first_lease_opens_the_window_and_no_other_does() -> None:
    """The books are told which; a day after the first use all is there again."""
    here = scene()
    first, second = uses(here, "a", "r1", 60.0, 10.0), uses(here, "a", "r2", 60.0, 10.0)
    assert [one.opens_window for one in reserves(first + second)] == [True, False]
    here.ticks(DAY - 21.0)
    assert left(here) == 280.0
    here.ticks(2.0)
    assert left(here) == 300.0
    here.stops_ended("a", "idle")
    assert [one.opens_window for one in reserves(uses(here, "a", "r3", 60.0, 1.0))] == [True]


def test_a_limit_shrinks_to_what_is_left() -> None:
    """It is granted for less, and the books and the supervisor are told the same."""
    here = scene()
    uses(here, "a", "r1", 280.0, 260.0)
    actions = here.asks("a", "r2", duration=60.0)
    assert told(actions, Granted)[0].limit == 40.0
    assert [one.amount for one in reserves(actions)] == [40_000]


def test_a_size_that_counts_twice_takes_twice() -> None:
    """And a limit shrinks to half of what is left."""
    here = scene(size_factors={"simulated": 2.0})
    actions = uses(here, "a", "r1", 100.0, 100.0)
    assert [one.weight for one in reserves(actions)] == [2000]
    assert left(here) == 100.0
    assert told(here.asks("a", "r2", duration=60.0), Granted)[0].limit == 50.0


def test_who_is_beyond_the_quota_is_served_when_nobody_within_it_waits() -> None:
    """It costs nothing of the quota, and waits behind a request that came later."""
    here = scene()
    uses(here, "a", "r1", 300.0, 298.0)
    actions = here.asks("a", "r2", duration=60.0)
    assert told(actions, Granted)[0].limit == 60.0
    assert [one.weight for one in reserves(actions)] == [0]
    here.comes("a2", "ada", tier="free")
    mine = here.asks("a2", "r3")
    assert reasons(mine)["r3"].startswith("Your quota of 5 min on a GPU is used up; it resets in")
    here.asks_as("bob", "b", tier="free")
    assert here.order() == ["b", "r3"]


def test_a_quota_can_refuse() -> None:
    """What waits is refused too, once its user's quota is used up by another cell."""
    here = scene(over_quota="refuse")
    here.asks("a", "r1", duration=300.0)
    here.comes("a2", "ada", tier="free")
    (refused,) = told(here.asks("a2", "r2"), Refused)
    assert (refused.code, refused.reason) == (
        "QuotaExceeded",
        "Your quota of 5 min on a GPU is used up; it resets in 24 h.",
    )


def test_the_end_of_the_window_brings_a_request_back_among_the_others() -> None:
    """The scheduler asks to be woken for it."""
    here = scene(quota_window=1000.0, longest_delay=0.0)
    uses(here, "a", "r1", 300.0, 300.0)
    here.stops_ended("a", "idle")
    here.asks_as("eve", "running", duration=900.0, tier="enterprise")
    here.does(WorkerForked("running", 8))
    here.does(TaskStarted("running", here.lease("running")))
    here.asks("a", "r2")
    here.asks_as("bob", "b")
    assert here.order() == ["b", "r2"]
    assert abs(next_reset(here.state) - 1000.0) < 1e-6
    here.now = next_reset(here.state)
    here.does(Tick())
    assert here.order() == ["r2", "b"], "it came first"


def test_a_limit_is_extended_as_far_as_the_quota_goes() -> None:
    """The books are told, and then it is not extended any more."""
    here = scene()
    here.asks("a", "r1", duration=200.0)
    here.does(WorkerForked("a", 7))
    here.does(TaskStarted("a", here.lease("a")))
    here.now += 190.0
    extends = [
        [one.amount for one in here.does(LimitNear("a", here.lease("a"))) if type(one) is Extend]
        for _ in range(3)
    ]
    assert extends == [[260_000], [300_000], []]
    assert left(here) == 0.0


def test_what_the_books_say_counts_from_the_start() -> None:
    """After a restart of the broker: what is charged, and what leases nobody knows reserve."""
    here = scene()
    here.does(BalanceTold("ada", Balance(3600.0, charged=200_000, reserved=60_000)))
    assert left(here) == 40.0
    here.does(BalanceTold("ada", Balance(3600.0, charged=210_000)))
    assert left(here) == 90.0


def test_tiers_without_a_quota_have_no_limit() -> None:
    """And neither has anybody where no quota is set."""
    here = scene()
    here.does(SessionConnected("e", "e.ipynb", "eve", (), "", "enterprise"))
    uses(here, "e", "r1", 1000.0, 900.0)
    assert left(here, "eve", "enterprise") is None


def test_a_start_that_failed_costs_nothing() -> None:
    """Its reservation is given back whole."""
    here = scene()
    here.asks("a", "r1", duration=100.0)
    actions = here.ticks(1000.0)
    assert [one.amount for one in actions if isinstance(one, Settle)] == [0]
    assert left(here) == 300.0
