"""Random lives of the scheduler, against a model of what may never happen."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zerokernel.broker.ledger import MemoryLedger
from zerokernel.broker.scheduling import (
    BooksClosed,
    BrokerBegan,
    Clean,
    Event,
    Extend,
    LeaseBooked,
    NotebookSaid,
    Order,
    Policy,
    Reserve,
    SchedulerState,
    SessionClosed,
    SessionConnected,
    SessionLost,
    Settle,
    SliceCleaned,
    SlicesChanged,
    SliceSetAside,
    Tell,
    Tick,
    snapshot,
)
from zerokernel.broker.scheduling.waiting import remaining
from zerokernel.messages import (
    Bind,
    CancelRequest,
    EndWorker,
    Granted,
    LeaseEnded,
    Queued,
    Refused,
    RequestLease,
)
from zerokernel.testing import FakeClock, FakeEngine, simulated_slices

SESSIONS = ("a", "b", "c", "d")
SLICES = [
    *simulated_slices(1, "small", 8 << 30),
    *(replace(one, is_cleaned=True) for one in simulated_slices(2, "small", 8 << 30)[1:]),
    *(replace(one, is_cleaned=True) for one in simulated_slices(1, "large", 16 << 30)),
]
USERS = dict(zip(SESSIONS, ("ada", "ada", "bob", "bob"), strict=True))
SETBACKS = (
    "set aside",
    "changed",
    "does not end",
    "removed",
    "suspect",
    "not clean",
    "others who used",
    "could not be written",
    "quota is used up",
)

sessions = st.sampled_from(SESSIONS)
numbers = st.integers(0, 5)


class SchedulerLife(RuleBasedStateMachine):
    """Notebooks, workers and time do what they like; the promises hold."""

    @initialize(
        grace=st.sampled_from([0.0, 5.0]),
        at_once=st.booleans(),
        scrub=st.sampled_from(["always", "between users", "never"]),
        busy=st.lists(sessions, max_size=6),
        quota=st.sampled_from([None, 40.0]),
        over_quota=st.sampled_from(["when idle", "refuse"]),
        unknown=st.booleans(),
    )
    def begin(
        self,
        grace: float,
        at_once: bool,
        scrub: str,
        busy: list[str],
        quota: float | None,
        over_quota: str,
        unknown: bool,
    ) -> None:
        self.clock = FakeClock()
        policy = Policy(
            kernel_grace_seconds=grace,
            park_seconds=20.0,
            waiting_per_session=4,
            scrub=scrub,
            quotas={} if quota is None else {"free": quota},
            quota_window=60.0,
            over_quota=over_quota,
            size_factors={"large": 2.0},
        )
        self.ledger = MemoryLedger(window_seconds=60.0)
        self.to_clean: list[Clean] = []
        self.left: dict[str, str] = {}  # whose memory may be read on a slice
        self.state = SchedulerState(SLICES, policy)
        self.engine = FakeEngine(self.clock, stops_at_once=at_once)
        self.engine.observe(self)
        self.waiting: list[Event] = []
        self.handling = False
        self.reserved: dict[str, int] = {}
        self.settled: dict[str, int] = {}
        # Whether the books answer "at once", later ("slow"), or that they are "closed".
        self.books = "at once"
        self.entering: list[str] = []
        self.booked: set[str] = set()
        self.answers: dict[str, list[str]] = {}
        self.places: dict[int, Queued] = {}
        self.asked: dict[str, str] = {}
        if unknown:
            self.left = {one.id: "somebody" for one in SLICES if one.is_cleaned}
            self.handle(BrokerBegan())
        for session in SESSIONS:
            self.connect(session, set(range(6)))
        for session in busy:
            self.good_request(session, 0)
            self.go_on(session)

    # --- carrying out, and checking what is asked for -----------------------------------

    def reported(self, report: Any) -> None:
        self.handle(report)

    def moved(self, session: str, door: Any) -> None:
        raise AssertionError("a fake engine does not move")

    def handle(self, event: Event) -> None:
        self.waiting.append(event)
        if self.handling:
            return
        self.handling = True
        try:
            while self.waiting:
                for action in self.state.handle(self.waiting.pop(0), self.clock()):
                    self.carry_out(action)
        finally:
            self.handling = False
            self.waiting.clear()
        for session in self.state.take_forgotten():
            self.engine.forget(session)

    def carry_out(self, action: Any) -> None:
        match action:
            case Order(session, Bind() as bind):
                self.check_bind(session, bind)
                self.engine.send(bind)
            case Order(_, message):
                self.engine.send(message)
            case Reserve(user, lease, amount, weight, opens_window):
                assert lease not in self.reserved, "a lease is reserved once"
                self.reserved[lease] = amount
                self.ledger.reserve(user, lease, amount, self.clock(), weight, opens_window)
                self.answer_of_the_books(lease)
            case Extend(lease, amount):
                self.ledger.extend(lease, amount)
            case Settle(user, lease, amount, held):
                self.ledger.settle(user, lease, amount, held)
                assert lease in self.reserved, "only what was reserved is settled"
                assert lease not in self.settled, "a lease is settled once"
                assert 0 <= amount <= held
                self.settled[lease] = amount
            case Clean():
                self.to_clean.append(action)
            case Tell(_, message):
                self.check_told(message)

    def answer_of_the_books(self, lease: str) -> None:
        if self.books == "slow":
            self.entering.append(lease)
        elif self.books == "closed":
            self.waiting.append(BooksClosed("the disk is full"))
        else:
            self.booked.add(lease)
            self.waiting.append(LeaseBooked(lease))

    def check_bind(self, session: str, bind: Bind) -> None:
        on_slice = {s: w.slice for s, w in self.engine.workers.items() if w.slice}
        on_slice |= {s: b.slice for s, b in self.engine.unclaimed.items()}
        others = [s for s, name in on_slice.items() if name == bind.slice and s != session]
        assert not others, "no other session's worker is on the slice"
        assert on_slice.get(session, bind.slice) == bind.slice, "one slice a session"
        worker = self.engine.workers.get(session)
        assert worker is None or not worker.stopping, "a dying worker is not bound"
        assert bind.hold > bind.limit > 0
        assert bind.lease in self.booked, "what is granted is in the books"
        record = self.state.slices[bind.slice_id]
        if record.slice.is_cleaned:
            assert bind.slice_id not in {one.slice for one in self.to_clean}, "it is verified"
            before = self.left.get(bind.slice_id, USERS[session])
            if self.state.policy.scrub == "between users":
                assert before == USERS[session], "nobody reads what another user left"
            self.left[bind.slice_id] = USERS[session]

    def check_told(self, message: Any) -> None:
        match message:
            case Queued(request, place, _, reason):
                waiting = self.state.queue.find(request)
                assert waiting is not None, "who is told a place waits"
                before = self.places.get(waiting.arrival)  # its id may be used again later
                if before is not None and place > before.place:
                    assert any(word in reason for word in SETBACKS), reason
                self.places[waiting.arrival] = message
            case Granted(request) | Refused(request):
                self.answers.setdefault(request, []).append(type(message).__name__)
            case LeaseEnded(lease):
                assert lease in self.settled

    # --- what notebooks do --------------------------------------------------------------

    @rule(session=sessions, wanted=st.sets(numbers))
    def connect(self, session: str, wanted: set[int]) -> None:
        """Connects, maybe anew: what it does not want any more waits no longer."""
        requests = tuple(f"{session}{number}" for number in wanted)
        self.handle(SessionConnected(session, f"{session}.ipynb", USERS[session], requests))
        waiting = self.state.queue.of_session(session) if session in self.state.sessions else ()
        assert {one.id for one in waiting} <= set(requests)

    @rule(session=sessions)
    def lose(self, session: str) -> None:
        self.handle(SessionLost(session))

    @rule(session=sessions)
    def close(self, session: str) -> None:
        self.handle(SessionClosed(session))

    @rule(
        session=sessions,
        number=numbers,
        size=st.sampled_from(["", "small", "large", "huge"]),
        duration=st.sampled_from([1.0, 30.0, 0.0, -1.0, float("nan"), float("inf"), 1e12]),
    )
    def request(self, session: str, number: int, size: str, duration: float) -> None:
        request = f"{session}{number}"
        self.asked[request] = session
        self.say(session, RequestLease(request, size, duration))

    @rule(session=sessions, number=numbers)
    def good_request(self, session: str, number: int) -> None:
        self.request(session, number, "small", 30.0)

    @rule(session=sessions, other=sessions, number=numbers)
    def foreign_request(self, session: str, other: str, number: int) -> None:
        if f"{other}{number}" in self.asked:
            self.say(session, RequestLease(f"{other}{number}", "small", 1.0))

    @rule(session=sessions, number=numbers)
    def cancel(self, session: str, number: int) -> None:
        self.say(session, CancelRequest(f"{session}{number}"))

    @rule(session=sessions)
    def release(self, session: str) -> None:
        """Gives up the cell whose lease it holds."""
        live = self.state.sessions[session].lease if session in self.state.sessions else None
        if live is not None:
            self.say(session, CancelRequest(live.request.id))

    @rule(session=sessions, whose=sessions)
    def end_worker(self, session: str, whose: str) -> None:
        self.say(session, EndWorker(whose))

    def say(self, session: str, message: Any) -> None:
        self.handle(NotebookSaid(session, message))

    # --- what workers and devices do ----------------------------------------------------

    @rule(session=sessions)
    def fork(self, session: str) -> None:
        self.engine.fork(session)

    @rule(session=sessions)
    def go_on(self, session: str) -> None:
        """The most usual next thing happens to a session's cell."""
        worker = self.engine.workers.get(session)
        if worker is None:
            self.fork(session)
        elif worker.started_at is None:
            self.start_task(session)
        else:
            self.end_task(session)

    @rule(session=sessions, number=numbers)
    def run_a_cell(self, session: str, number: int) -> None:
        self.connect(session, set(range(6)))
        self.good_request(session, number)
        for _ in range(3):
            self.go_on(session)

    @rule(session=sessions)
    def start_task(self, session: str) -> None:
        worker = self.engine.workers.get(session)
        if worker and worker.lease and worker.started_at is None:
            self.engine.start_task(session)

    @rule(session=sessions)
    def end_task(self, session: str) -> None:
        worker = self.engine.workers.get(session)
        if worker and worker.lease and worker.started_at is not None:
            self.engine.end_task(session)

    @rule(session=sessions)
    def die(self, session: str) -> None:
        if session in self.engine.workers:
            self.engine.die(session)

    @rule()
    def finish_stops(self) -> None:
        self.engine.finish_stops()

    @rule(reason=st.sampled_from(["", "", "not clean"]))
    def clean(self, reason: str) -> None:
        """The slice that waits longest is reported clean, or not."""
        if self.to_clean:
            order = self.to_clean.pop(0)
            scrubbed = order.scrub and not reason
            if scrubbed:
                self.left.pop(order.slice, None)
            self.handle(SliceCleaned(order.slice, reason, scrubbed))

    @rule(one=st.sampled_from(SLICES), reason=st.sampled_from(["", "suspect"]))
    def mark(self, one: Any, reason: str) -> None:
        self.handle(SliceSetAside(one.id, reason))

    @rule(kept=st.sets(st.sampled_from(range(len(SLICES)))))
    def change_slices(self, kept: set[int]) -> None:
        self.handle(SlicesChanged(tuple(SLICES[i] for i in sorted(kept))))

    @rule(seconds=st.sampled_from([0.1, 0.3, 6.0, 11.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while (due := self.state.next_deadline()) is not None and due <= until:
            self.clock.now = max(self.clock.now, due)
            self.handle(Tick())
            again = self.state.next_deadline()
            assert again is None or again > due, "a tick takes what was due"
        self.clock.now = until
        self.handle(Tick())

    @rule(books=st.sampled_from(["at once", "slow", "closed"]))
    def change_books(self, books: str) -> None:
        """The ledger answers, is slow, or cannot be written and says so at the next lease."""
        self.books = books
        if books == "slow":
            return
        entering, self.entering = self.entering, []
        for lease in entering:
            if books == "closed":
                self.handle(BooksClosed("the disk is full"))
            else:
                self.booked.add(lease)
                self.handle(LeaseBooked(lease))
        if books == "at once":
            self.handle(BooksClosed(""))

    # --- what always holds --------------------------------------------------------------

    @invariant()
    def places_are_ranks(self) -> None:
        """Those who wait for a size have the places 1..n, in the order of the queue."""
        for size in self.state.queue.sizes():
            places = [r.place for r in self.state.queue.in_order(size)]
            assert places == list(range(1, len(places) + 1))

    @invariant()
    def quotas_hold(self) -> None:
        """Nobody has used and reserved more than the quota, and who has is behind who has not."""
        for user in set(USERS.values()) if self.state.policy.quotas else ():
            if window := self.ledger.window(user, self.clock()):
                used = window.charged + window.reserved
                assert used <= 1000 * self.state.policy.quotas["free"], user
            for request in self.state.queue.of_user(user):
                beyond = self.state.quotas.is_beyond(request, self.state.queue.standings.time)
                assert request.beyond_quota == beyond

    @invariant()
    def records_agree(self) -> None:
        """Slices and sessions tell the same story, and the snapshot can tell it."""
        for record in self.state.slices.values():
            if record.lease is not None:
                assert record.lease.session.lease is record.lease
                assert record.lease.slice is record
        held = [s.lease for s in self.state.sessions.values() if s.lease is not None]
        assert len(held) == sum(r.lease is not None for r in self.state.slices.values())
        snapshot(self.state, self.clock())

    @invariant()
    def what_was_touched_is_all_that_changed(self) -> None:
        """Looking at everything finds what looking at what was touched has found."""
        state, lookout, policy = self.state, self.state.lookout, self.state.policy
        records, everyone = state.slices.values(), state.sessions.values()
        leases = [one.lease for one in records if one.lease is not None]
        due = [policy.lease_due(one) for one in leases]
        due += [policy.session_due(one) for one in everyone]
        assert lookout.due() == min(due, default=math.inf)
        assert state.leases == {one.request.id: one for one in leases}
        free = {one.slice.size: 0 for one in records} | Counter(
            one.slice.size for one in records if one.is_free
        )
        assert {size: lookout.free(size) for size in free} == free
        for size in free:
            usable = [r for r in records if r.slice.size == size and not r.set_aside]
            left = sorted(remaining(r.lease, self.clock()) if r.lease else 0.0 for r in usable)
            assert lookout.supply(size).usable == len(usable)
            for count in (1, len(usable)):
                assert lookout.free_in(size, count, self.clock()) == pytest.approx(left[:count])
        parked = [one.worker for one in everyone if one.worker and one.worker.stopping_at is None]
        memory = [one.memory for one in parked if one.parked_at is not None]
        assert lookout.parked_memory() == sum(memory)
        assert all(
            one.slices == {r.slice.id: r for r in records if r.occupant is one} for one in everyone
        )

    @invariant()
    def idle_workers_are_parked(self) -> None:
        """Whoever has memory on a slice without a lease is frozen, or told to end."""
        for record in self.state.slices.values():
            worker = record.occupant.worker if record.occupant and not record.lease else None
            assert not worker or worker.stopping_at is not None or worker.parked_at is not None

    @invariant()
    def no_usable_slice_idles(self) -> None:
        """A slice is not left free while somebody who could have it waits."""
        for record in self.state.slices.values() if not self.state.books_closed else ():
            if record.lease is None and not record.set_aside:
                for request in self.state.queue.in_order(record.slice.size):
                    assert not request.session.connected or request.session.lease is not None

    def teardown(self) -> None:
        """Once workers end, tasks end, slices and books are back, nobody waits; all is settled."""
        self.change_books("at once")
        self.handle(SlicesChanged(tuple(SLICES)))
        for one in SLICES:
            self.handle(SliceSetAside(one.id, ""))
        for session in SESSIONS:
            self.connect(session, set(range(6)))
        for _ in range(40):
            self.engine.finish_stops()
            while self.to_clean:
                self.clean("")
            for session in list(self.engine.unclaimed):
                self.engine.fork(session)
            for session, worker in list(self.engine.workers.items()):
                if worker.lease and not worker.stopping:
                    if worker.started_at is None:
                        self.engine.start_task(session)
                    if session in self.engine.workers:
                        self.engine.end_task(session)
        assert len(self.state.queue) == 0, "every request is granted or refused in the end"
        open_leases = set(self.reserved) ^ set(self.settled)
        assert not open_leases, (open_leases, self.state.slices, self.engine.workers)
        for session in SESSIONS:
            self.handle(SessionClosed(session))
        self.pass_time(100.0)
        self.engine.finish_stops()
        assert not self.state.sessions, "a closed session is forgotten"


TestSchedulerLife = SchedulerLife.TestCase
TestSchedulerLife.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
