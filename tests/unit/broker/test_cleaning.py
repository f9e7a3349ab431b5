"""What happens to a slice between two sessions, and which size a request means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.broker.test_scheduling import Scene, ordered, told
from zerokernel.broker.scheduling import (
    BrokerBegan,
    Clean,
    NotebookSaid,
    SessionConnected,
    Settle,
    Slice,
    SliceCleaned,
    SliceSetAside,
    WorkerAdopted,
    snapshot,
)
from zerokernel.messages import (
    Bind,
    Granted,
    LeaseEnded,
    Queued,
    RequestLease,
    StopWorker,
    TaskEnded,
    TaskStarted,
    WorkerForked,
    WorkerGone,
    WorkerKept,
)
from zerokernel.testing import simulated_slices


def cleaned_slices(count: int = 1) -> list[Slice]:
    return [replace(one, is_cleaned=True) for one in simulated_slices(count)]


def cleanings(actions: list[Any]) -> list[Clean]:
    return [one for one in actions if isinstance(one, Clean)]


def scene_of_two(users: tuple[str, str] = ("ada", "ada"), **policy: Any) -> Scene:
    """Session a had the slice and parks; b asks for it, and a's worker ends."""
    scene = Scene(cleaned_slices(), **policy)
    for session, user in zip("ab", users, strict=True):
        scene.does(SessionConnected(session, f"{session}.ipynb", user))
    scene.runs("a", "r1")
    return scene


def test_a_slice_is_verified_before_another_session_has_it() -> None:
    """The grant waits for the report, and the notebook is told what it waits for."""
    scene = scene_of_two()
    assert ordered(scene.asks("b", "r2")) == [StopWorker("a", "evicted")]
    gone = scene.stops_ended("a")
    assert cleanings(gone) == [Clean("simulated-1", scrub=False)]
    assert not told(gone, Granted)
    assert snapshot(scene.state, scene.now)["slices"][0]["state"] == "cleaning"
    clean = scene.does(SliceCleaned("simulated-1"))
    assert [one.request for one in told(clean, Granted)] == ["r2"]


@pytest.mark.parametrize(
    ("scrub", "wanted"), [("between users", True), ("always", True), ("never", False)]
)
def test_what_was_there_before_the_broker_is_nobodys(scrub: str, wanted: bool) -> None:
    """A slice is looked after when the broker begins, and granted when that is done."""
    scene = Scene(cleaned_slices(), scrub=scrub)
    assert cleanings(scene.does(BrokerBegan())) == [Clean("simulated-1", scrub=wanted)]
    scene.opens("a")
    assert not told(scene.asks("a", "r1"), Granted)
    assert told(scene.does(SliceCleaned("simulated-1", scrubbed=wanted)), Granted)


def test_a_worker_that_is_taken_over_keeps_its_memory() -> None:
    """Its slice is not overwritten when the broker begins, and neither is one without memory."""
    scene = Scene([*cleaned_slices(2), *simulated_slices(3)[2:]])
    scene.does(WorkerAdopted(WorkerKept("a", 7, "", "", "simulated-1", 0.0, -1.0, 0.0), "ada"))
    assert cleanings(scene.does(BrokerBegan())) == [Clean("simulated-2", scrub=True)]


def test_ones_own_worker_needs_no_cleaning() -> None:
    """The next cell of a session whose worker is parked there begins at once."""
    scene = scene_of_two()
    actions = scene.asks("a", "r2")
    assert told(actions, Granted)
    assert not cleanings(actions)


@pytest.mark.parametrize(
    ("scrub", "users", "asked"),
    [
        ("between users", ("ada", "bob"), [False, True]),
        ("between users", ("ada", "ada"), [False]),
        ("always", ("ada", "ada"), [True]),
        ("always", ("ada", "bob"), [True]),
        ("never", ("ada", "bob"), [False]),
    ],
)
def test_memory_is_overwritten_when_the_policy_says_so(
    scrub: str, users: tuple[str, str], asked: list[bool]
) -> None:
    """Between two users, always or never; that it is free is verified in any case."""
    scene = scene_of_two(users, scrub=scrub)
    scene.asks("b", "r2")
    orders = cleanings(scene.stops_ended("a"))
    for _ in asked:
        (order,) = orders[-1:]
        actions = scene.does(SliceCleaned(order.slice, scrubbed=order.scrub))
        orders += cleanings(actions)
    assert [one.scrub for one in orders] == asked
    assert told(actions, Granted)


def test_a_slice_that_is_not_clean_is_set_aside_with_the_reason() -> None:
    """Who waits for it waits on, and is told why; it is leased again when it is clean."""
    scene = scene_of_two()
    scene.asks("b", "r2")
    scene.stops_ended("a")
    (queued,) = told(scene.does(SliceCleaned("simulated-1", "30 GB are in use there")), Queued)
    assert "30 GB are in use there" in queued.reason
    assert queued.starts_in is None
    assert snapshot(scene.state, scene.now)["slices"][0]["state"] == "set aside"
    assert told(scene.does(SliceSetAside("simulated-1", "")), Granted)


def test_while_one_slice_is_cleaned_another_is_leased() -> None:
    """A request that waits for cleaning is not bound to it where it is set aside."""
    scene = Scene(cleaned_slices(2))
    scene.opens("a", "b", "c")
    scene.runs("a", "r1")
    scene.asks("b", "r2")
    scene.does(WorkerForked("b", 8))
    scene.asks("c", "r3")
    scene.stops_ended("a")
    scene.does(TaskEnded("b", scene.lease("b"), 0.0))
    scene.does(SliceCleaned("simulated-1", "it is not clean"))
    gone = scene.stops_ended("b")
    assert cleanings(gone) == [Clean("simulated-2", scrub=False)]
    (granted,) = told(scene.does(SliceCleaned("simulated-2")), Granted)
    assert (granted.request, granted.slice) == ("r3", "simulated 2")


def test_a_cell_whose_slice_failed_is_not_charged() -> None:
    """A hardware error ends it at once; the reason is the notebook's and the books'."""
    scene = scene_of_two()
    scene.asks("a", "r2")
    scene.does(TaskStarted("a", scene.lease("a")))
    scene.now = 20.0
    actions = scene.does(SliceSetAside("simulated-1", "Xid 48", lost=True))
    (settle,) = [one for one in actions if isinstance(one, Settle)]
    assert (settle.amount, settle.cause) == (0, "device lost: Xid 48")
    (stop,) = ordered(actions)
    assert "Xid 48" in stop.cause
    (ended,) = told(actions, LeaseEnded)
    assert ended.reason == "device lost: Xid 48"


def test_a_cell_disturbed_by_a_stranger_goes_on_and_is_not_charged() -> None:
    """Its results are good; it shared its slice, also if that is over by its end."""
    scene = scene_of_two()
    scene.asks("a", "r2")
    lease = scene.lease("a")
    scene.does(TaskStarted("a", lease))
    scene.now = 20.0
    assert not ordered(scene.does(SliceSetAside("simulated-1", "mallory is there", spoils=True)))
    scene.does(SliceSetAside("simulated-1", ""))
    actions = scene.does(TaskEnded("a", lease, 15.0))
    (settle,) = [one for one in actions if isinstance(one, Settle)]
    assert (settle.amount, settle.held) == (0, 20_000)
    assert settle.cause == "finished: not charged, mallory is there"
    (ended,) = told(actions, LeaseEnded)
    assert ended.reason == "finished"
    assert not told(actions, WorkerGone)


# --- which size a request means ---------------------------------------------------------------

OFFERS = [
    Slice("1", "e", "small", 16 << 30, False, {}, kind="MIG 1g.18gb", capability=(9, 0)),
    Slice("2", "h", "large", 70 << 30, False, {}, kind="MIG 3g.71gb", capability=(9, 0)),
    Slice("3", "f", "old", 80 << 30, False, {}, kind="whole GPU", capability=(8, 0)),
    Slice("4", "g", "xlarge", 140 << 30, False, {}, kind="whole GPU", capability=(9, 0)),
]


def ask(**wish: Any) -> Any:
    scene = Scene(list(OFFERS))
    scene.opens("a")
    wanted = RequestLease("r1", wish.pop("size", ""), 60.0, False, **wish)
    return told(scene.does(NotebookSaid("a", wanted)))[0]


@pytest.mark.parametrize(
    ("wish", "slice"),
    [
        ({}, "e"),
        ({"memory": 17 * 10**9}, "e"),
        ({"memory": 40 * 10**9}, "h"),
        ({"memory": 80 * 10**9}, "f"),
        ({"memory": 80 * 10**9, "capability": (9, 0)}, "g"),
        ({"capability": (8, 6)}, "e"),
        ({"size": "large", "memory": 40 * 10**9, "capability": (9,)}, "h"),
    ],
)
def test_the_smallest_slice_that_has_what_is_asked_is_taken(
    wish: dict[str, Any], slice: str
) -> None:
    """Memory and capability are both enough, and nothing larger is held for them."""
    granted = ask(**wish)
    assert isinstance(granted, Granted)
    assert granted.slice == slice


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"memory": 200 * 10**9}, "with 200 GB of memory"),
        ({"capability": (10, 0)}, "of capability 10.0"),
        ({"size": "huge"}, "of size 'huge'"),
        ({"size": "small", "memory": 40 * 10**9}, "of size 'small' and with 40 GB of memory"),
        ({"size": "old", "capability": (9, 0)}, "of size 'old' and of capability 9.0"),
    ],
)
def test_what_cannot_be_had_is_refused_with_all_that_can(wish: dict[str, Any], words: str) -> None:
    """Each size is named as what it is; nothing is taken in its place."""
    refused = ask(**wish)
    assert refused.code == "UnknownSize"
    assert f"There is no slice {words} here." in refused.reason
    assert "'small' (MIG 1g.18gb, 16 GB, capability 9.0); 'large' (MIG 3g.71gb" in refused.reason
    assert "'xlarge' (whole GPU, 140 GB, capability 9.0)" in refused.reason


def test_a_worker_gets_what_its_size_carries() -> None:
    """The supervisor is told the limits with the grant."""
    scene = Scene([replace(OFFERS[0], limits={"cores": 4, "memory": 8 << 30})])
    scene.opens("a")
    (bind,) = [one for one in ordered(scene.asks("a", "r1")) if isinstance(one, Bind)]
    assert bind.limits == {"cores": 4, "memory": 8 << 30}
