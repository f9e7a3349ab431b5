"""The scheduler by examples: what each event leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from zerokernel.broker.scheduling import (
    LeaseBooked,
    NotebookSaid,
    Order,
    Policy,
    Reserve,
    SchedulerState,
    SessionConnected,
    SessionLost,
    Settle,
    Slice,
    SlicesChanged,
    SliceSetAside,
    Tell,
    Tick,
    WorkerAdopted,
    snapshot,
)
from zerokernel.messages import (
    Bind,
    CancelRequest,
    EndWorker,
    Granted,
    LeaseEnded,
    Park,
    Queued,
    Refused,
    RequestLease,
    StopWorker,
    TaskEnded,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
    WorkerGone,
    WorkerKept,
)
from zerokernel.testing import simulated_slices


class Scene:
    """A scheduler and its clock, with words for what notebooks and workers do."""

    def __init__(self, slices: list[Slice] | None = None, **policy: Any) -> None:
        self.state = SchedulerState(slices or simulated_slices(), Policy(**policy))
        self.now = 0.0

    def does(self, event: Any) -> list[Any]:
        """What follows from the event, by books that have each lease at once."""
        actions = self.state.handle(event, self.now)
        for one in [one for one in actions if isinstance(one, Reserve)]:
            actions += self.state.handle(LeaseBooked(one.lease), self.now)
        return actions

    def opens(self, *sessions: str) -> None:
        for session in sessions:
            self.does(SessionConnected(session, f"{session}.ipynb", "ada"))

    def asks(self, session: str, request: str, size: str = "", duration: float = 60.0) -> list[Any]:
        return self.does(NotebookSaid(session, RequestLease(request, size, duration)))

    def says(self, session: str, message: Any) -> list[Any]:
        return self.does(NotebookSaid(session, message))

    def lease(self, session: str) -> str:
        lease = self.state.sessions[session].lease
        assert lease is not None
        return lease.id

    def runs(self, session: str, request: str) -> list[Any]:
        """A whole cell: granted, forked if need be, started and ended at once."""
        self.asks(session, request)
        if self.state.sessions[session].worker is None:
            self.does(WorkerForked(session, 7))
        lease = self.lease(session)
        self.does(TaskStarted(session, lease))
        return self.does(TaskEnded(session, lease, 0.0))

    def ticks(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.does(Tick())

    def stops_ended(self, session: str, cause: str = "evicted") -> list[Any]:
        return self.does(WorkerEnded(session, "", cause, "", 0.0))


def told(actions: list[Any], kind: type[Any] | None = None) -> list[Any]:
    messages = [a.message for a in actions if isinstance(a, Tell)]
    return [m for m in messages if kind is None or isinstance(m, kind)]


def ordered(actions: list[Any]) -> list[Any]:
    """What supervisors are told, whichever process is meant."""
    orders = [a.message for a in actions if isinstance(a, Order)]
    named = (StopWorker, Park)
    return [replace(one, process=0) if isinstance(one, named) else one for one in orders]


def test_a_free_slice_is_granted_at_once() -> None:
    """A request meets a free slice: quota is reserved, the worker bound, the notebook told."""
    scene = Scene()
    scene.opens("a")
    actions = scene.asks("a", "r1", duration=60)
    lease = scene.lease("a")
    assert actions == [
        Reserve("ada", lease, 60_000),
        Order(
            "a",
            Bind(
                "a",
                lease,
                {"CUDA_VISIBLE_DEVICES": ""},
                "simulated 1",
                True,
                60.0,
                60.0,
                "r1",
                "simulated-1",
            ),
        ),
        Tell("a", Granted("r1", lease, "simulated 1", 60.0, 0.0, True)),
    ]


def test_the_second_waits_with_place_and_expected_start() -> None:
    """Who waits is told the place, the start by declared limits, and for whom they wait."""
    scene = Scene()
    scene.opens("a", "b", "c")
    scene.asks("a", "r1", duration=30)
    scene.now = 10.0
    (first,) = told(scene.asks("b", "r2", duration=40))
    (second,) = told(scene.asks("c", "r3"))
    assert first == Queued("r2", 1, 20.0, "next: simulated 1 is used by 'a.ipynb'")
    assert second == Queued("r3", 2, 60.0, "first come, first served: 1 before you")


def test_a_cell_is_charged_by_the_millisecond_it_ran() -> None:
    """What is settled is the run, not the wait, binding or way home."""
    scene = Scene()
    scene.opens("a")
    scene.asks("a", "r1")
    lease = scene.lease("a")
    scene.does(WorkerForked("a", 7))
    scene.now = 1.0
    scene.does(TaskStarted("a", lease))
    scene.now = 4.0
    actions = scene.does(TaskEnded("a", lease, 2.3456))
    assert actions == [
        Settle("ada", lease, 2346, 4000),
        Tell("a", LeaseEnded(lease, "finished", 2.3456, 4.0)),
        Order("a", Park("a", 7)),
    ]


@pytest.mark.parametrize("ran", [float("nan"), float("inf"), 1e9, -5.0])
def test_a_worker_cannot_report_an_impossible_run(ran: float) -> None:
    """What a worker says it ran is held against the time its slice was held."""
    scene = Scene()
    scene.opens("a")
    scene.asks("a", "r1")
    scene.now = 3.0
    (settle,) = [
        a for a in scene.does(TaskEnded("a", scene.lease("a"), ran)) if isinstance(a, Settle)
    ]
    assert 0 <= settle.amount <= settle.held == 3000


def test_the_next_in_line_evicts_and_is_granted_when_the_memory_is_free() -> None:
    """The worker of the last cell is not parked but ended; the grant follows its end."""
    scene = Scene()
    scene.opens("a", "b")
    scene.asks("a", "r1")
    scene.does(WorkerForked("a", 7))
    scene.asks("b", "r2")
    ended = scene.does(TaskEnded("a", scene.lease("a"), 0.0))
    assert ordered(ended) == [StopWorker("a", "evicted")]
    assert not told(ended, Granted)
    gone = scene.stops_ended("a")
    assert told(gone, WorkerGone) == [WorkerGone("a", "evicted", "")]
    assert [m.request for m in told(gone, Granted)] == ["r2"]


def test_a_session_gets_its_parked_worker_back() -> None:
    """With two free slices the one with the own parked worker is taken."""
    scene = Scene(simulated_slices(2))
    scene.opens("a", "b")
    scene.asks("b", "r0")
    scene.runs("a", "r1")
    scene.does(TaskEnded("b", scene.lease("b"), 0.0))
    (granted,) = told(scene.asks("a", "r2"), Granted)
    assert granted.slice == "simulated 2"


def test_affinity_is_never_waited_for() -> None:
    """If the own worker's slice is in use, the worker ends and another slice is granted."""
    scene = Scene([*simulated_slices(1, "small"), *simulated_slices(1, "large", 16 << 30)])
    scene.opens("a")
    scene.runs("a", "r1")
    actions = scene.asks("a", "r2", size="large")
    assert ordered(actions) == [StopWorker("a", "evicted: another slice")]
    (granted,) = told(scene.stops_ended("a"), Granted)
    assert granted.slice == "large 1"


def test_an_empty_slice_is_preferred_to_an_eviction() -> None:
    """Nobody's worker is ended while a slice is empty."""
    scene = Scene(simulated_slices(2))
    scene.opens("a", "b")
    scene.runs("a", "r1")
    actions = scene.asks("b", "r2")
    assert [type(m) for m in ordered(actions)] == [Bind]
    assert told(actions, Granted)[0].slice == "simulated 2"


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf"), 1e10])
def test_an_impossible_duration_is_refused(duration: float) -> None:
    """The refusal names its error and what was asked for."""
    scene = Scene()
    scene.opens("a")
    (refused,) = told(scene.asks("a", "r1", duration=duration))
    assert refused.code == "BadDuration"
    assert str(duration) in refused.reason


def test_an_unknown_size_is_refused_with_what_there_is() -> None:
    """The refusal lists the sizes, smallest first; the empty size is the smallest."""
    scene = Scene([*simulated_slices(1, "large", 16 << 30), *simulated_slices(1, "small")])
    scene.opens("a")
    (refused,) = told(scene.asks("a", "r1", size="huge"))
    assert refused.code == "UnknownSize"
    assert "There is: 'small' (simulated, 8 GB, capability 9.0); 'large' (" in refused.reason
    assert told(scene.asks("a", "r2"), Granted)[0].slice == "small 1"


def test_a_repeated_request_gets_its_answer_again() -> None:
    """Waiting, granted, ended, refused and cancelled requests answer a repeat as before."""
    scene = Scene()
    scene.opens("a", "b")
    granted = told(scene.asks("a", "r1"), Granted)
    assert told(scene.asks("a", "r1")) == granted
    queued = told(scene.asks("b", "r2"))
    assert told(scene.asks("b", "r2")) == queued
    cancelled = told(scene.says("b", CancelRequest("r2")))
    assert cancelled[0].code == "RequestCancelled"
    assert told(scene.asks("b", "r2")) == cancelled
    assert not told(scene.says("b", CancelRequest("r2")))
    ended = told(scene.does(TaskEnded("a", scene.lease("a"), 0.0)))
    assert told(scene.asks("a", "r1")) == ended
    refused = told(scene.asks("a", "r3", duration=-1))
    assert told(scene.asks("a", "r3", duration=-1)) == refused


def test_a_cancel_that_overtakes_its_request_holds() -> None:
    """A request that was cancelled before it arrived is not granted when it does."""
    scene = Scene()
    scene.opens("a")
    scene.says("a", CancelRequest("r1"))
    assert [type(m) for m in told(scene.asks("a", "r1"))] == [Refused]


def test_a_request_id_of_another_session_is_refused() -> None:
    """Nobody gets at another notebook's request by its id."""
    scene = Scene()
    scene.opens("a", "b")
    scene.asks("a", "r1")
    assert [type(m) for m in told(scene.asks("b", "r1"))] == [Refused]
    assert not scene.says("b", CancelRequest("r1"))
    assert scene.lease("a")


def test_a_release_that_overtakes_the_tasks_end_keeps_the_worker() -> None:
    """The kernel's release and the worker's report race; either order parks the worker."""
    scene = Scene()
    scene.opens("a")
    scene.asks("a", "r1")
    scene.does(WorkerForked("a", 7))
    assert not scene.says("a", CancelRequest("r1"))
    actions = scene.does(TaskEnded("a", scene.lease("a"), 0.0))
    assert ordered(actions) == [Park("a")]


def test_a_release_while_the_task_runs_ends_the_worker_soon() -> None:
    """A kernel that gave up gets its lease ended within a second, and pays for what ran."""
    scene = Scene()
    scene.opens("a")
    scene.asks("a", "r1")
    lease = scene.lease("a")
    scene.does(WorkerForked("a", 7))
    scene.does(TaskStarted("a", lease))
    scene.now = 2.0
    scene.says("a", CancelRequest("r1"))
    due = scene.state.next_deadline()
    assert due is not None
    assert due - scene.now < 1.0
    actions = scene.ticks(due - scene.now)
    assert ordered(actions) == [StopWorker("a", "cancelled")]
    assert told(actions, LeaseEnded)[0].ran == pytest.approx(due)


def test_a_released_lease_without_a_worker_ends_at_once() -> None:
    """The kernel gave up before its worker was forked: the slice is free for the next."""
    scene = Scene()
    scene.opens("a", "b")
    scene.asks("a", "r1")
    scene.asks("b", "r2")
    lease = scene.lease("a")
    actions = scene.says("a", CancelRequest("r1"))
    assert ordered(actions)[0] == StopWorker("a", "replaced", lease=lease)
    assert [m.request for m in told(actions, Granted)] == ["r2"]


def test_a_lost_notebook_gives_everything_back() -> None:
    """Its request is withdrawn, its lease ended, its worker killed."""
    scene = Scene()
    scene.opens("a", "b")
    scene.asks("a", "r1")
    scene.does(WorkerForked("a", 7))
    scene.asks("a", "r2")
    scene.asks("b", "r3")
    actions = scene.does(SessionLost("a"))
    assert StopWorker("a", "kernel lost") in ordered(actions)
    granted = scene.stops_ended("a", "kernel lost")
    assert [m.request for m in told(granted, Granted)] == ["r3"]
    assert list(scene.state.sessions) == ["b"]


def test_a_notebook_may_come_back_within_the_grace() -> None:
    """Within the grace time it finds its lease again, after it the lease is gone."""
    scene = Scene(kernel_grace_seconds=10.0)
    scene.opens("a")
    scene.asks("a", "r1")
    assert not scene.does(SessionLost("a"))
    scene.ticks(9.0)
    assert told(scene.does(SessionConnected("a", "a.ipynb", "ada", ("r1",))), Granted)
    scene.does(SessionLost("a"))
    actions = scene.ticks(10.0)
    assert StopWorker("a", "kernel lost") in ordered(actions)


def test_a_parked_worker_ends_when_it_is_idle_for_long() -> None:
    """After park_seconds it is stopped, and the slice is free once it ended."""
    scene = Scene(park_seconds=100.0)
    scene.opens("a")
    scene.runs("a", "r1")
    assert scene.state.next_deadline() == 100.0
    assert not ordered(scene.ticks(99.0))
    assert ordered(scene.ticks(1.0)) == [StopWorker("a", "idle")]
    assert told(scene.stops_ended("a", "idle")) == [WorkerGone("a", "idle", "")]


def test_a_tick_does_all_that_is_due() -> None:
    """A grace and a kill that end at the same moment are both over after one tick."""
    scene = Scene(kernel_grace_seconds=10.0, stop_seconds=10.0)
    scene.opens("a")
    scene.runs("a", "r1")
    scene.says("a", EndWorker("a"))
    scene.does(SessionLost("a"))
    scene.ticks(10.0)
    assert scene.state.next_deadline() is None
    scene.stops_ended("a")
    assert not scene.state.sessions


def test_a_dead_worker_ends_its_lease_and_its_run_is_charged() -> None:
    """The notebook hears how the lease ended and why the worker is gone."""
    scene = Scene()
    scene.opens("a")
    scene.asks("a", "r1")
    lease = scene.lease("a")
    scene.does(WorkerForked("a", 7))
    scene.now = 5.0
    actions = scene.does(WorkerEnded("a", lease, "out of memory", "the machine ran out", 4.5))
    assert actions == [
        Settle("ada", lease, 4500, 5000, "out of memory"),
        Tell("a", LeaseEnded(lease, "out of memory", 4.5, 5.0)),
        Tell("a", WorkerGone("a", "out of memory", "the machine ran out")),
    ]


def test_a_start_that_failed_costs_nothing() -> None:
    """A worker that ended before its task began is not charged."""
    scene = Scene()
    scene.opens("a")
    scene.asks("a", "r1")
    scene.now = 9.0
    actions = scene.does(WorkerEnded("a", scene.lease("a"), "start failed", "", 0.0))
    assert [a.amount for a in actions if isinstance(a, Settle)] == [0]


def test_a_hanging_supervisor_does_not_keep_the_lease() -> None:
    """Some seconds after its hold a lease ends, whatever the supervisor does."""
    scene = Scene(bind_seconds=60.0, deadline_slack=5.0)
    scene.opens("a")
    scene.asks("a", "r1", duration=10)
    scene.does(WorkerForked("a", 7))
    assert scene.state.next_deadline() == 65.0
    scene.does(TaskStarted("a", scene.lease("a")))
    assert scene.state.next_deadline() == 15.0
    actions = scene.ticks(15.0)
    assert told(actions, LeaseEnded)[0].reason == "deadline"
    assert ordered(actions) == [StopWorker("a", "deadline")]


def test_a_worker_that_does_not_die_sets_its_slice_aside() -> None:
    """Those who wait are told why; its own notebook is refused; all is well once it ended."""
    scene = Scene(stop_seconds=10.0)
    scene.opens("a", "b", "c")
    scene.runs("a", "r1")
    scene.asks("b", "r2")
    (before,) = told(scene.asks("c", "r3"))
    assert before.place == 1  # r2 has the slice already, and waits for its memory
    actions = scene.ticks(10.0)
    waiting = {m.request: m for m in told(actions, Queued)}
    assert waiting["r2"].place == 1
    assert waiting["r3"].place == 2
    assert "does not end" in waiting["r3"].reason
    assert snapshot(scene.state, scene.now)["slices"][0]["state"] == "set aside"
    (refused,) = told(scene.asks("a", "r4"))
    assert refused.code == "WorkerStartFailed"
    assert [m.request for m in told(scene.stops_ended("a"), Granted)] == ["r2"]


def test_end_worker_ends_lease_and_worker() -> None:
    """`%gpu restart` works on a parked and on a running worker, and only on one's own."""
    scene = Scene()
    scene.opens("a")
    scene.does(SessionConnected("x", "x.ipynb", "eve"))
    scene.runs("a", "r1")
    assert not scene.says("x", EndWorker("a"))
    assert ordered(scene.says("a", EndWorker("a"))) == [StopWorker("a", "restart")]
    scene.stops_ended("a", "restart")
    scene.asks("a", "r2")
    scene.does(WorkerForked("a", 8))
    actions = scene.says("a", EndWorker("a"))
    assert told(actions, LeaseEnded)[0].reason == "restart"
    assert ordered(actions) == [StopWorker("a", "restart")]


def test_a_removed_slice_is_drained() -> None:
    """Its lease runs to its end, then its worker goes; who waits for its size is refused."""
    scene = Scene()
    scene.opens("a", "b")
    scene.asks("a", "r1")
    scene.does(WorkerForked("a", 7))
    scene.asks("b", "r2")
    (refused,) = told(scene.does(SlicesChanged(())))
    assert (refused.request, refused.code) == ("r2", "UnknownSize")
    actions = scene.does(TaskEnded("a", scene.lease("a"), 0.0))
    assert [type(m) for m in ordered(actions)] == [StopWorker]
    scene.stops_ended("a")
    assert not scene.state.slices


def test_a_slice_set_aside_is_not_leased_until_it_is_back() -> None:
    """The reason is shown to those who wait."""
    scene = Scene()
    scene.opens("a")
    scene.does(SliceSetAside("simulated-1", "a foreign process is on it"))
    (queued,) = told(scene.asks("a", "r1"))
    assert "a foreign process is on it" in queued.reason
    assert queued.starts_in is None
    assert told(scene.does(SliceSetAside("simulated-1", "")), Granted)


def test_one_lease_a_session() -> None:
    """A second request of a notebook waits for its first lease, also beside a free slice."""
    scene = Scene(simulated_slices(2))
    scene.opens("a", "b")
    scene.asks("a", "r1")
    (queued,) = told(scene.asks("a", "r2"))
    assert queued.reason == "your notebook's previous cell still holds its lease"
    assert told(scene.asks("b", "r3"), Granted)
    actions = scene.does(TaskEnded("a", scene.lease("a"), 0.0))
    assert [m.request for m in told(actions, Granted)] == ["r2"]


def test_a_queue_is_bounded_for_each_session() -> None:
    """One notebook cannot fill the broker's memory with requests."""
    scene = Scene(waiting_per_session=3)
    scene.opens("a", "b")
    scene.asks("b", "r0")
    answers = [told(scene.asks("a", f"q{n}"))[0] for n in range(5)]
    assert [type(one) for one in answers] == [Queued] * 3 + [Refused] * 2


def test_an_order_names_its_worker() -> None:
    """A stop that arrives late cannot hit the session's next worker."""
    scene = Scene()
    scene.opens("a")
    scene.runs("a", "r1")
    actions = scene.says("a", EndWorker("a"))
    assert Order("a", StopWorker("a", "restart", 7)) in actions


def test_a_worker_forked_for_a_closed_session_is_ended() -> None:
    """And if the session comes back, its lease is not bound to that dying worker."""
    scene = Scene()
    scene.opens("a")
    scene.does(SessionLost("a"))
    assert ordered(scene.does(WorkerForked("a", 7))) == [StopWorker("a", "kernel lost")]
    scene.opens("a")
    assert not ordered(scene.asks("a", "r1"))
    assert told(scene.stops_ended("a", "kernel lost"), Granted)


def test_a_lease_survives_the_death_of_a_worker_that_was_not_bound() -> None:
    """A parked worker that dies as its next lease is granted costs a new fork, not the lease."""
    scene = Scene()
    scene.opens("a")
    scene.runs("a", "r1")
    scene.asks("a", "r2")
    lease = scene.lease("a")
    actions = scene.does(WorkerEnded("a", "", "killed", "", 0.0))
    assert told(actions) == [WorkerGone("a", "killed", "")]
    assert scene.lease("a") == lease


def test_the_snapshot_is_plain_data() -> None:
    """Slices, queue and sessions with names, states and times, as JSON can carry them."""
    import json

    scene = Scene(simulated_slices(2))
    scene.opens("a", "b", "c")
    scene.runs("a", "r1")
    scene.asks("b", "r2", duration=30)
    scene.asks("b", "r3", duration=30)
    scene.now = 10.0
    seen = json.loads(json.dumps(snapshot(scene.state, scene.now)))
    assert [one["state"] for one in seen["slices"]] == ["parked", "leased"]
    assert [one["session_name"] for one in seen["slices"]] == ["a.ipynb", "b.ipynb"]
    assert seen["slices"][1]["remaining"] == 20.0
    assert seen["slices"][0]["display"] == "simulated 1 · 8 GB"
    assert [(q["request"], q["place"], q["waited"]) for q in seen["queue"]] == [("r3", 1, 10.0)]
    workers = [one["worker"] and one["worker"]["state"] for one in seen["sessions"]]
    assert workers == ["parked", None, None]
    assert "1 of 2 slices leased" in repr(scene.state)


def test_a_lease_that_was_taken_over_is_charged_whole() -> None:
    """It was held a moment longer than its cell ran, by clocks of two processes."""
    scene = Scene()
    place = next(iter(scene.state.slices))
    kept = WorkerKept("a", 7, "r1.1", "r1", place, 60.0, ran=2.0, held=2.5)
    scene.now = 10.0
    scene.does(WorkerAdopted(kept, "ada"))
    actions = scene.does(TaskEnded("a", "r1.1", 2.02))
    assert Settle("ada", "r1.1", 2020, 2500, "finished") in actions
