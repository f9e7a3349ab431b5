"""A queue and those who wait in it, without the rest of a broker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from zerokernel.broker.scheduling import Account, Policy
from zerokernel.broker.scheduling.records import Lease, Request, Session, SliceRecord
from zerokernel.broker.scheduling.waiting import Queue
from zerokernel.testing import simulated_slices

SIZE = "simulated"


@dataclass(frozen=True)
class Grant:
    """Who was served, and when by the queue's clock."""

    at: float
    request: Request


class Crowd:
    """A queue, its clock and what was granted; each request has a notebook of its own."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.queue = Queue(policy)
        self.clock = 0.0
        self.numbers: Counter[str] = Counter()
        self.grants: list[Grant] = []
        self.leases: list[Lease] = []
        self.pass_time(0.0)

    @property
    def now(self) -> float:
        return self.queue.standings.time

    def pass_time(self, seconds: float) -> None:
        """The clock is moved, maybe back."""
        self.clock += seconds
        self.queue.standings.pass_time(self.clock)

    def asks(self, account: Account, duration: float = 60.0, session: str = "") -> Request:
        number = self.numbers.total()
        self.numbers[account.user] += 1
        name = session or f"s{number}"
        one = Request(
            f"r{number}", Session(name, name, account), SIZE, duration, number, self.clock
        )
        self.queue.add(one)
        return one

    def serves(self) -> Lease | None:
        """Grants a slice to the next in line, if anybody could have it."""
        request = self.queue.first(SIZE)
        if request is None:
            return None
        lease = Lease(request, SliceRecord(simulated_slices()[0]))
        request.session.lease = lease
        self.queue.began(lease)
        self.grants.append(Grant(self.now, request))
        self.leases.append(lease)
        return lease

    def ends(self, lease: Lease, used: float) -> None:
        self.leases.remove(lease)
        lease.session.lease = None
        self.queue.ended(lease, used)

    def serves_in_turn(self, seconds: float) -> None:
        """One slice, always in use: cells run as long as they may; who was served asks again."""
        until = self.now + seconds
        while self.now < until:
            lease = self.serves()
            assert lease is not None
            self.pass_time(lease.request.duration)
            self.ends(lease, lease.request.duration)
            self.asks(lease.session.account, lease.request.duration)

    def used(self, user: str) -> float:
        """Gives the seconds that a user was granted."""
        mine = [one.request for one in self.grants if one.request.session.user == user]
        return sum(one.duration for one in mine)
