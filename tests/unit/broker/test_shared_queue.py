"""The scheduler of many users: limits, places, reasons, and sizes that do not starve another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.broker.test_scheduling import Scene, told
from zerokernel.broker.devices.layout import read_layout
from zerokernel.broker.scheduling import (
    Account,
    Balance,
    BalanceTold,
    SessionClosed,
    SessionConnected,
    SessionLost,
    snapshot,
)
from zerokernel.messages import (
    Granted,
    LimitNear,
    Queued,
    Refused,
    TaskStarted,
    WorkerEnded,
)
from zerokernel.settings import BadSetting
from zerokernel.testing import simulated_slices


class Shared(Scene):
    """A scene in which each notebook has a user, a group and a tier."""

    def comes(self, session: str, user: str, group: str = "", tier: str = "") -> list[Any]:
        return self.does(SessionConnected(session, f"{session}.ipynb", user, (), group, tier))

    def asks_as(self, user: str, request: str, duration: float = 60.0, **more: Any) -> list[Any]:
        """One more notebook of a user, called as its request, asks."""
        self.comes(request, user, **more)
        return self.asks(request, request, duration=duration)

    def uses_up(self, user: str, seconds: float, **more: Any) -> None:
        """A user has a slice for a time, while nobody else waits."""
        session = f"past of {user}"
        self.asks_as(user, session, seconds, **more)
        self.now += seconds
        self.lets_go(session)
        self.does(SessionClosed(session))

    def lets_go(self, session: str) -> list[Any]:
        return self.does(WorkerEnded(session, self.lease(session), "exited", "", 1.0))

    def order(self, size: str = "simulated") -> list[str]:
        return [one.id for one in self.state.queue.in_order(size)]


def reasons(actions: list[Any]) -> dict[str, str]:
    return {one.request: one.reason for one in told(actions, Queued)}


# --- limits ------------------------------------------------------------------------------


def test_a_user_holds_no_more_leases_than_allowed() -> None:
    """Free slices go to others; the user's next follows when one of theirs ends."""
    scene = Shared(simulated_slices(3), leases_per_user=1)
    scene.asks_as("ada", "a1")
    actions = scene.asks_as("ada", "a2")
    assert reasons(actions) == {"a2": "you hold 1 lease, as many as you may"}
    assert told(scene.asks_as("bob", "b1"), Granted)
    assert [one.request for one in told(scene.lets_go("a1"), Granted)] == ["a2"]


def test_a_group_holds_no_more_leases_than_allowed() -> None:
    """Whoever of the group asks waits until one of the group's leases ends."""
    scene = Shared(simulated_slices(3), leases_per_group=2)
    for name in ("a", "b"):
        assert told(scene.asks_as(name, f"{name}1", group="lab"), Granted)
    actions = scene.asks_as("c", "c1", group="lab")
    assert reasons(actions) == {"c1": "the group 'lab' holds 2 leases, as many as it may"}
    assert told(scene.asks_as("d", "d1"), Granted), "who has no group has no group's limit"
    assert [one.request for one in told(scene.lets_go("a1"), Granted)] == ["c1"]


@pytest.mark.parametrize("limit", ["waiting_per_user", "waiting_per_group"])
def test_too_many_requests_in_the_queue_are_refused(limit: str) -> None:
    """All notebooks of a user or a group count together; what was granted waits no longer."""
    scene = Shared(**{limit: 2})
    for name in ("a0", "a1", "a2"):
        assert not told(scene.asks_as("ada", name, group="lab"), Refused)
    (refused,) = told(scene.asks_as("ada", "a3", group="lab"), Refused)
    assert refused.code == "RequestRefused"
    assert "2 requests waiting already" in refused.reason
    scene.lets_go("a0")
    scene.does(SessionClosed("a0"))
    assert not told(scene.asks_as("ada", "a4", group="lab"), Refused)


def test_a_limit_does_not_hold_up_others() -> None:
    """Hundreds of one user's requests that may not run are not in the way of the next user's."""
    scene = Shared(simulated_slices(2), leases_per_user=1)
    for number in range(300):
        scene.asks_as("ada", f"a{number}")
    assert told(scene.asks_as("bob", "b"), Granted)


def test_other_tiers_come_with_the_connection() -> None:
    """A notebook that comes back with another tier or group waits as such from then on."""
    scene = Shared(strict_tiers=True)
    scene.asks_as("eve", "running")
    scene.asks_as("ada", "a", tier="free")
    scene.asks_as("bob", "b", tier="free")
    assert scene.order() == ["a", "b"]
    scene.does(SessionConnected("b", "b.ipynb", "bob", ("b",), "lab", "enterprise"))
    assert scene.order() == ["b", "a"]
    assert scene.state.sessions["b"].account == Account("bob", "lab", "enterprise")
    assert [one.request for one in told(scene.lets_go("running"), Granted)] == ["b"]


def test_who_is_lost_is_passed_over_and_keeps_the_place() -> None:
    """A slice is not kept for a notebook that does not answer; back, it is first again."""
    scene = Shared(kernel_grace_seconds=100.0)
    scene.asks_as("eve", "running")
    scene.asks_as("ada", "a")
    scene.asks_as("bob", "b")
    scene.does(SessionLost("a"))
    assert [one.request for one in told(scene.lets_go("running"), Granted)] == ["b"]
    scene.does(SessionConnected("a", "a.ipynb", "ada", ("a",)))
    scene.asks_as("eve", "e")
    assert scene.order() == ["a", "e"]


def test_a_limit_is_extended_only_while_nobody_waits() -> None:
    """Another request of the same notebook is nobody; of another user's it is somebody."""
    scene = Shared()
    scene.asks_as("ada", "a")
    lease = scene.lease("a")
    scene.does(TaskStarted("a", lease))
    scene.asks("a", "a-next")
    assert scene.does(LimitNear("a", lease))
    scene.asks_as("bob", "b")
    assert not scene.does(LimitNear("a", lease))


# --- places ------------------------------------------------------------------------------


def crowd(count: int = 50, **policy: Any) -> Shared:
    scene = Shared(**policy)
    scene.asks_as("eve", "running")
    for number in range(count):
        scene.asks_as(f"user {number}", f"r{number}")
    return scene


def test_few_are_told_at_once() -> None:
    """While few wait, each event tells the places that it changed."""
    scene = crowd(5)
    scene.lets_go("running")
    assert scene.order() == ["r1", "r2", "r3", "r4"]
    assert [one.place for one in map(scene.state.queue.find, scene.order()) if one] == [1, 2, 3, 4]


def test_many_are_told_twice_a_second() -> None:
    """With many who wait nothing is told until half a second went by, then only what changed."""
    scene = crowd(50)
    scene.ticks(1.0)
    before = scene.now
    assert not told(scene.lets_go("running"), Queued)
    assert scene.state.next_deadline() == before + 0.5
    assert not told(scene.ticks(0.4), Queued)
    pushed = told(scene.ticks(0.1), Queued)
    assert [one.place for one in pushed] == list(range(1, 50))
    assert not told(scene.ticks(1.0), Queued), "nothing changed"


def test_a_clock_that_jumps_back_does_not_silence_places() -> None:
    """Places are told as if the time had gone by."""
    scene = crowd(50)
    scene.ticks(1.0)
    scene.now -= 10_000.0
    assert told(scene.lets_go("running"), Queued)


def test_who_is_far_back_is_told_how_many_wait() -> None:
    """Places are looked up for the first ones only; those behind learn theirs as they come up."""
    scene = crowd(40, places_told=10)
    pushed = {one.request: one for one in told(scene.ticks(1.0), Queued)}
    assert pushed["r39"] == Queued("r39", 40, None, "more than 10 requests ahead")
    scene.lets_go("running")
    assert {one.place for one in told(scene.ticks(1.0), Queued)} == set(range(1, 11))


def test_places_stay_while_only_time_goes_by() -> None:
    """What is told stays true: where nobody comes or goes, nobody's place changes."""
    scene = Shared()
    scene.asks_as("eve", "running", 86_400.0)
    scene.does(TaskStarted("running", scene.lease("running")))
    for name in ("a1", "a2", "a3"):
        scene.asks_as("ada", name, 600.0)
    scene.asks_as("bob", "b1")
    scene.asks_as("bob", "b2")
    before = scene.order()
    for _ in range(10):
        scene.ticks(300.0)
        places = [one.place for one in map(scene.state.queue.find, scene.order()) if one]
        assert (scene.order(), places) == (before, [1, 2, 3, 4, 5])


def test_who_comes_back_reads_why_the_place_is_worse() -> None:
    """A place that got worse while a notebook was away is told with its reason."""
    scene = Shared(kernel_grace_seconds=100.0)
    scene.uses_up("ada", 600.0)
    scene.asks_as("eve", "running", 600.0)
    scene.asks_as("ada", "a")
    scene.does(SessionLost("a"))
    scene.asks_as("bob", "b")
    (back,) = told(scene.does(SessionConnected("a", "a.ipynb", "ada", ("a",))), Queued)
    assert back.place == 2
    assert back.reason.startswith("others who used less recently")


# --- reasons -----------------------------------------------------------------------------


def test_a_place_has_its_true_reason() -> None:
    """Each of those ahead is counted for what puts it there, and for that alone."""
    scene = Shared()
    scene.uses_up("ada", 300.0)
    scene.uses_up("pam", 400.0, tier="enterprise")
    scene.asks_as("eve", "running")
    scene.asks_as("ada", "a", 60.0)
    scene.now += 1.0
    scene.asks_as("pam", "weighs", tier="enterprise")
    actions = scene.asks_as("new", "unused", 60.0)
    assert scene.order() == ["unused", "weighs", "a"]
    assert reasons(actions)["a"].endswith(
        "2 requests ahead: 1 of higher weight, 1 of less recent use"
    )
    assert "others who used less recently" in reasons(actions)["a"], "why it is worse than before"
    why = scene.state.why("a", scene.now)
    assert why == (
        "2 requests ahead: 1 of higher weight, 1 of less recent use; next slice free in about 60 s"
    )
    assert scene.state.why("nothing", scene.now) == ""


def test_a_shorter_request_and_one_that_came_before_are_told_apart() -> None:
    """Of those ahead the shorter are named; who only came before is not."""
    scene = Shared()
    scene.asks_as("eve", "running")
    scene.asks_as("ada", "before", 600.0)
    scene.now += 1.0
    scene.asks_as("bob", "mine", 600.0)
    scene.now += 1.0
    scene.asks_as("cyd", "short", 5.0)
    assert scene.order() == ["short", "before", "mine"]
    assert scene.state.why("mine", scene.now).startswith("2 requests ahead: 1 shorter; ")
    assert scene.state.why("before", scene.now).startswith("1 request ahead: 1 shorter; ")


def test_who_came_before_is_reason_enough() -> None:
    """Where all are alike it is the time of waiting, and the limit of who runs."""
    scene = Shared()
    scene.asks_as("eve", "running", 600.0)
    scene.asks_as("ada", "a")
    scene.asks_as("bob", "b")
    scene.now += 300.0
    expected = "1 request ahead, waiting longer; next slice free in about 5 min"
    assert scene.state.why("b", scene.now) == expected


def test_a_user_alone_reads_what_an_embedded_broker_says() -> None:
    """One's own notebooks are named and counted; other people's are not named."""
    scene = Shared()
    scene.asks_as("ada", "running")
    assert reasons(scene.asks_as("ada", "a")) == {
        "a": "next: simulated 1 is used by 'running.ipynb'"
    }
    assert reasons(scene.asks_as("ada", "b")) == {"b": "first come, first served: 1 before you"}
    other = Shared()
    other.asks_as("ada", "secret plan")
    assert reasons(other.asks_as("bob", "b")) == {"b": "next: simulated 1 is in use"}


def test_quota_and_tier_are_reasons() -> None:
    """Who is behind a wall reads which."""
    scene = Shared(strict_tiers=True, quotas={"pro": 100.0})
    scene.asks_as("eve", "running", tier="pro")
    scene.asks_as("ada", "a", tier="free")
    scene.asks_as("pam", "p", tier="pro")
    assert scene.state.why("a", scene.now).startswith("1 request ahead: 1 of a higher tier; ")
    scene.does(BalanceTold("pam", Balance(opened_ago=3600.0, charged=100_000)))
    assert scene.order() == ["a", "p"]
    assert scene.state.why("p", scene.now).startswith(
        "Your quota of 2 min on a GPU is used up; it resets in 23 h; "
        "1 request ahead: 1 within quota; "
    )
    names = {one["session"]: one["tier"] for one in snapshot(scene.state, scene.now)["sessions"]}
    assert names["a"] == "free"


# --- sizes -------------------------------------------------------------------------------

MIXED = [
    *(replace(one, device="gpu-0") for one in simulated_slices(2, "half", 70 << 30)),
    *(replace(one, device="gpu-1") for one in simulated_slices(1, "whole", 141 << 30)),
]


@pytest.mark.parametrize(
    "layout", ['{"0": ["full", "1/2"]}', '{"0": ["full", "3g.71gb"]}', '{"0": ["1/2", "3g.71gb"]}']
)
def test_sizes_never_share_a_device_in_part(layout: str) -> None:
    """A layout in which one slice is part of another is not accepted: slices are disjoint."""
    with pytest.raises(BadSetting):
        read_layout(layout)


def test_a_whole_gpu_is_not_starved_by_halves() -> None:
    """However many ask for halves, who asks for a whole has it as soon as one is free."""
    scene = Shared(MIXED)
    scene.comes("first", "ada")
    scene.asks("first", "w0", "whole")
    scene.comes("w", "bob")
    scene.asks("w", "w1", "whole")
    for number in range(40):
        scene.comes(f"h{number}", f"user {number}")
        scene.asks(f"h{number}", f"h{number}", "half", 1.0)
    held = [s for s in scene.state.sessions.values() if s.lease and s.lease.request.size == "half"]
    assert len(held) == 2
    assert [one.request for one in told(scene.lets_go("first"), Granted)] == ["w1"]
    assert [one.request for one in told(scene.lets_go(held[0].id), Granted)] == ["h2"]
