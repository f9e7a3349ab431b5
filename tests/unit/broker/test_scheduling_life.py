"""What the scheduler makes of losses: adopted workers, extended limits, lost devices, memory."""

from __future__ import annotations

import pytest

from tests.unit.broker.test_scheduling import Scene, ordered, told
from zerokernel.broker.scheduling import (
    Beats,
    Extend,
    NotebookSaid,
    Reserve,
    SessionClosed,
    SessionConnected,
    SessionLost,
    Settle,
    SliceSetAside,
    WorkerAdopted,
)
from zerokernel.lifecycle import RULES, Cause
from zerokernel.messages import (
    ExtendLimit,
    Granted,
    Heartbeat,
    LeaseEnded,
    LimitExtended,
    LimitNear,
    Refused,
    RequestLease,
    StopWorker,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
    WorkerGone,
    WorkerKept,
    WorkerParked,
)
from zerokernel.testing import simulated_slices


def running(scene: Scene, session: str = "a", request: str = "r1", duration: float = 60.0) -> str:
    """Lets a session's cell begin; gives its lease."""
    scene.opens(session)
    scene.asks(session, request, duration=duration)
    scene.does(WorkerForked(session, 7))
    lease = scene.lease(session)
    scene.does(TaskStarted(session, lease))
    return lease


# --- limits -----------------------------------------------------------------------------------


def test_a_notebook_that_comes_back_waits_for_nothing_else() -> None:
    """What it withdrew while it was away, or while nobody heard it, keeps no place."""
    scene = Scene(kernel_grace_seconds=10.0)
    scene.opens("a", "b")
    scene.asks("b", "r1")
    scene.asks("a", "r2")
    scene.does(SessionLost("a"))
    scene.does(SessionConnected("a", "a.ipynb", "ada", ("r3",)))
    assert not scene.state.queue.of_session("a")


def test_a_lease_that_nobody_uses_is_taken_from_a_notebook_that_comes_back() -> None:
    """Its cell gave up before it began; one that began ends by itself."""
    for begun in (False, True):
        scene = Scene(kernel_grace_seconds=10.0)
        scene.opens("a")
        scene.asks("a", "r1")
        scene.does(WorkerForked("a", 7))
        if begun:
            scene.does(TaskStarted("a", scene.lease("a")))
        scene.does(SessionLost("a"))
        scene.does(SessionConnected("a", "a.ipynb", "ada", ()))
        stopped = StopWorker("a", "cancelled") in ordered(scene.ticks(1.0))
        assert stopped is not begun


def test_a_limit_is_extended_while_nobody_waits() -> None:
    """Books, worker and notebook hear of it, and the scheduler's own deadline moves."""
    scene = Scene(extension_seconds=60.0, deadline_slack=5.0)
    lease = running(scene, duration=30.0)
    actions = scene.does(LimitNear("a", lease))
    assert [a for a in actions if isinstance(a, Extend)] == [Extend(lease, 60_000)]
    assert ordered(actions) == [ExtendLimit("a", lease, 60.0)]
    assert told(actions, LimitExtended) == [LimitExtended(lease, 60.0)]
    assert scene.state.next_deadline() == 65.0


def test_a_long_limit_is_extended_a_part_at_a_time() -> None:
    """Who comes next does not wait for another whole hour."""
    scene = Scene(extension_seconds=60.0)
    lease = running(scene, duration=3600.0)
    assert told(scene.does(LimitNear("a", lease)), LimitExtended)[0].limit == 3660.0


def test_a_limit_is_not_extended_when_somebody_waits_or_it_is_firm() -> None:
    """Nor where the policy says so, nor for a lease that is over."""
    scene = Scene()
    lease = running(scene)
    scene.opens("b")
    scene.asks("b", "r2")
    assert scene.does(LimitNear("a", lease)) == []
    assert scene.does(LimitNear("a", "another")) == []
    firm = Scene()
    firm.opens("a")
    firm.does(NotebookSaid("a", RequestLease("r1", "", 60.0, firm=True)))
    assert firm.does(LimitNear("a", firm.lease("a"))) == []
    strict = Scene(extend_limits=False)
    assert strict.does(LimitNear("a", running(strict))) == []


# --- charging ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_is_charged_by_its_rule(cause: Cause) -> None:
    """What zerokernel or the hardware took away costs nothing; the slice's time is noted."""
    scene = Scene()
    lease = running(scene)
    scene.now = 10.0
    actions = scene.does(WorkerEnded("a", lease, cause, "", 8.0, 7))
    charged = 8_000 if RULES[cause].charged else 0
    assert [a for a in actions if isinstance(a, Settle)] == [
        Settle("ada", lease, charged, 10_000, cause)
    ]


def test_the_way_home_is_not_charged() -> None:
    """A worker that ends while it returns results had run until its cell's last line."""
    scene = Scene(return_seconds=30.0, deadline_slack=5.0)
    lease = running(scene)
    scene.now = 4.0
    scene.does(TaskReturning("a", lease, 3.5))
    assert scene.state.next_deadline() == 39.0
    actions = scene.ticks(39.0)
    assert [a for a in actions if isinstance(a, Settle)] == [
        Settle("ada", lease, 3_500, 43_000, "results not taken")
    ]


def test_heartbeats_reach_the_books() -> None:
    """Bounded by the scheduler's own clock; of a lease that nobody holds they tell nothing."""
    scene = Scene()
    lease = running(scene)
    scene.now = 5.0
    assert scene.does(Heartbeat({lease: 4.0, "unknown": 9.0})) == [Beats({lease: (4_000, 5_000)})]
    assert scene.does(Heartbeat({lease: 1e9})) == [Beats({lease: (5_000, 5_000)})]
    assert scene.does(Heartbeat({})) == []


# --- devices ----------------------------------------------------------------------------------


def test_a_lost_device_ends_its_lease_uncharged() -> None:
    """The notebook is told which device, the slice is set aside until it is back."""
    scene = Scene(simulated_slices(1))
    lease = running(scene)
    scene.now = 9.0
    actions = scene.does(SliceSetAside("simulated-1", "it fell off the bus", lost=True))
    assert told(actions, LeaseEnded) == [
        LeaseEnded(lease, "device lost: it fell off the bus", 9.0, 9.0)
    ]
    assert [a.amount for a in actions if isinstance(a, Settle)] == [0]
    assert ordered(actions) == [StopWorker("a", "device lost: it fell off the bus")]
    gone = scene.does(WorkerEnded("a", "", "device lost: it fell off the bus", "", 0.0, 7))
    assert told(gone, WorkerGone)[0].cause.startswith("device lost")
    scene.asks("a", "r2")
    assert scene.state.sessions["a"].lease is None
    assert told(scene.does(SliceSetAside("simulated-1", "")), Granted)[0].request == "r2"


def test_a_parked_worker_on_a_lost_device_is_ended() -> None:
    """Its memory is gone with the device."""
    scene = Scene(simulated_slices(1))
    scene.opens("a")
    scene.runs("a", "r1")
    actions = scene.does(SliceSetAside("simulated-1", "gone", lost=True))
    assert ordered(actions) == [StopWorker("a", "device lost: gone")]


# --- memory -----------------------------------------------------------------------------------


def test_parked_workers_keep_within_their_budget() -> None:
    """The one that is parked longest gives way; a report of another worker changes nothing."""
    scene = Scene(simulated_slices(3), parked_memory=100)
    for number, session in enumerate("abc", 1):
        scene.now = float(number)
        scene.opens(session)
        scene.runs(session, f"r{number}")
    assert scene.does(WorkerParked("a", 7, 60)) == []
    assert scene.does(WorkerParked("b", 99, 60)) == []
    assert ordered(scene.does(WorkerParked("b", 7, 60))) == [
        StopWorker("a", "evicted: parked workers kept too much memory")
    ]
    assert scene.does(WorkerParked("c", 7, 40)) == []


# --- starts that fail -------------------------------------------------------------------------


def test_three_failing_starts_pause_the_session() -> None:
    """The fourth request is refused with what to do, and a restart lifts the pause."""
    scene = Scene(failing_starts=3)
    scene.opens("a")
    for number in range(3):
        scene.asks("a", f"r{number}")
        actions = scene.does(WorkerEnded("a", scene.lease("a"), "start failed", "no memory", 0.0))
        assert [a.amount for a in actions if isinstance(a, Settle)] == [0]
    (refused,) = told(scene.asks("a", "r3"), Refused)
    assert refused.code == "WorkerStartFailed"
    assert "%gpu restart" in refused.reason
    from zerokernel.messages import EndWorker

    scene.says("a", EndWorker("a"))
    assert told(scene.asks("a", "r4"), Granted)


def test_a_cell_that_ends_well_forgets_failing_starts() -> None:
    """Only starts in a row count."""
    scene = Scene(failing_starts=2)
    scene.opens("a")
    scene.asks("a", "r1")
    scene.does(WorkerEnded("a", scene.lease("a"), "start failed", "", 0.0))
    scene.runs("a", "r2")
    scene.asks("a", "r3")
    scene.does(WorkerEnded("a", scene.lease("a"), "start failed", "", 0.0))
    assert told(scene.asks("a", "r4"), Granted)


# --- another broker ---------------------------------------------------------------------------


def kept(lease: str = "r1.1", ran: float = 5.0, slice_id: str = "simulated-1") -> WorkerKept:
    request = lease.partition(".")[0]
    return WorkerKept("a", 7, lease, request, slice_id, 60.0, ran)


def test_an_adopted_lease_goes_on() -> None:
    """Reserved again, due when it was, told to its notebook when that comes back, and settled."""
    scene = Scene(deadline_slack=5.0)
    scene.now = 100.0
    actions = scene.does(WorkerAdopted(kept(), "ada"))
    assert [a for a in actions if isinstance(a, Reserve)] == [Reserve("ada", "r1.1", 60_000)]
    back = scene.does(SessionConnected("a", "a.ipynb", "ada", ("r1",)))
    assert told(back, Granted)[0].lease == "r1.1"
    assert scene.state.next_deadline() == 160.0
    repeated = scene.does(NotebookSaid("a", RequestLease("r1", "", 60.0)))
    assert told(repeated, Granted)[0].lease == "r1.1"
    scene.now = 110.0
    ended = scene.does(TaskEnded("a", "r1.1", 15.0))
    assert [a.amount for a in ended if isinstance(a, Settle)] == [15_000]


def test_an_adopted_session_whose_notebook_stays_away_is_closed() -> None:
    """Its worker ends after the grace time, and the slice is free."""
    scene = Scene(kernel_grace_seconds=10.0)
    scene.does(WorkerAdopted(kept(), "ada"))
    actions = scene.ticks(10.0)
    assert ordered(actions) == [StopWorker("a", "kernel lost")]
    scene.does(WorkerEnded("a", "", "kernel lost", "", 0.0, 7))
    assert "a" not in scene.state.sessions


def test_an_adopted_worker_may_be_parked_or_unbound() -> None:
    """A parked one occupies its slice, one that was never bound none."""
    scene = Scene()
    scene.does(WorkerAdopted(kept(lease="", ran=-1.0), "ada"))
    assert scene.state.slices["simulated-1"].occupant is scene.state.sessions["a"]
    other = Scene()
    other.does(WorkerAdopted(kept(lease="", ran=-1.0, slice_id=""), "ada"))
    assert other.state.slices["simulated-1"].occupant is None


def test_a_worker_on_a_slice_that_is_not_offered_any_more_is_ended() -> None:
    """Nobody may be given what it holds."""
    scene = Scene()
    actions = scene.does(WorkerAdopted(kept(slice_id="another"), "ada"))
    assert [type(order) for order in ordered(actions)] == [StopWorker]


# --- connections ------------------------------------------------------------------------------


def test_a_session_outlives_its_connection_while_its_kernel_lives() -> None:
    """A kernel that is gone does not come back: its session is closed at once."""
    scene = Scene(kernel_grace_seconds=10.0)
    lease = running(scene)
    assert scene.does(SessionLost("a")) == []
    assert (
        told(scene.does(SessionConnected("a", "a.ipynb", "ada", ("r1",))), Granted)[0].lease
        == lease
    )
    assert ordered(scene.does(SessionClosed("a"))) == [StopWorker("a", "kernel lost")]
