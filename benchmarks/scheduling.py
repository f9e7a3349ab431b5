"""What a decision of the scheduler takes with many who wait.

A decision is the whole of `SchedulerState.handle` and `next_deadline` for an event: one more
asks; a cell ends and its slice goes to the next in line. Beside it, in the same run: the same
with few who wait, and finding the next by sorting them all. Takes some seconds; no device.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable

from report import Row, median, percentile, plain, table, write

from zerokernel.broker.scheduling import (
    QUOTAS,
    Event,
    LeaseBooked,
    NotebookSaid,
    Policy,
    Reserve,
    SchedulerState,
    SessionConnected,
    Tick,
)
from zerokernel.messages import RequestLease, WorkerEnded
from zerokernel.testing import simulated_slices

TIERS = ("free", "free", "free", "pro", "enterprise")


class Crowd:
    """A scheduler whose slices are all in use, and many who wait.

    Half of the users belong to groups of a hundred; every tenth has ten notebooks that wait.
    """

    def __init__(self, waiting: int, slices: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.state = SchedulerState(simulated_slices(slices), Policy(quotas=QUOTAS))
        self.now = 0.0
        self._sessions = 0
        self._users = 0
        while len(self.state.queue) < waiting:
            self.now += 0.001
            self.asks()

    def asks(self) -> float:
        """One more asks. Gives the seconds that it took."""
        number, self._sessions = self._sessions, self._sessions + 1
        if number % 20 >= 10 or number % 20 == 0:
            self._users += 1
        user = self._users
        group = f"group {user % 1000 // 100}" if user % 2 else ""
        session, name = f"s{number}", f"user {user}"
        tier = TIERS[user % len(TIERS)]
        self.state.handle(SessionConnected(session, session, name, (), group, tier), self.now)
        duration = self._random.choice((5.0, 30.0, 60.0, 600.0))
        return self.timed(NotebookSaid(session, RequestLease(f"r{number}", "", duration)))

    def ends(self) -> float:
        """A cell ends, and its slice is the next one's. Gives the seconds that it took."""
        leases = [one.lease for one in self.state.slices.values() if one.lease is not None]
        lease = self._random.choice(leases)
        waited = len(self.state.queue)
        seconds = self.timed(WorkerEnded(lease.session.id, lease.id, "exited", "", 1.0))
        assert len(self.state.queue) == waited - 1, "the next has the slice"
        return seconds

    def tells(self) -> float:
        """Places are told. Gives the seconds that it took."""
        self.ends()
        self.now += 1.0
        return self.timed(Tick())

    def timed(self, event: Event) -> float:
        """Gives the seconds that an event takes, and to say when the scheduler is next due.

        The ledger's answers to what it reserves are handled too: its own time is not in it.
        """
        started = time.perf_counter()
        for action in self.state.handle(event, self.now):
            if isinstance(action, Reserve):
                self.state.handle(LeaseBooked(action.lease), self.now)
        self.state.next_deadline()
        return time.perf_counter() - started

    def sorts(self) -> float:
        """Finding the next by sorting all who wait: what a plain list takes."""
        everyone = [(one.since, one.arrival) for one in self.state.queue.in_order("simulated")]
        random.Random(2).shuffle(everyone)
        started = time.perf_counter()
        sorted(everyone)
        return time.perf_counter() - started


def main() -> int:
    options = _parser().parse_args()
    few = Crowd(16, options.slices)
    many = Crowd(options.waiting, options.slices)
    gc.collect()
    gc.freeze()
    rows = [
        *compared("a cell ends, the next has its slice", few.ends, many.ends, options),
        *compared("one more asks", few.asks, many.asks, options),
        Row("finding the next by sorting them all", many.sorts()),
        Row("telling 1,000 places", median([many.tells() for _ in range(5)])),
    ]
    print(table(rows))
    content = {"slices": ["no slice"], "repetitions": vars(options), "rows": plain(rows)}
    print(f"wrote {write('scheduling', 'cpu', content).name}")
    return 0


def compared(
    what: str,
    alone: Callable[[], float],
    crowded: Callable[[], float],
    options: argparse.Namespace,
) -> list[Row]:
    """Median and 99th percentile with many who wait, beside the median with few."""
    few = median([alone() for _ in range(8)])
    times = [crowded() for _ in range(options.repetitions)]
    named = f"{what}, {options.waiting:,} waiting"
    return [
        Row(f"{named}, p50", median(times), "with up to 24", few, target_seconds=50e-6),
        Row(f"{named}, p99", percentile(times, 0.99), "with up to 24", few),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=1000)
    return parser


if __name__ == "__main__":
    sys.exit(main())
