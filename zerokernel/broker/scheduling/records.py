"""What the scheduler remembers. `Slice` is a value; the others change, and only by events."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from zerokernel.messages import LeaseEnded, Refused


@dataclass(frozen=True)
class Slice:
    """A part of a device that one worker at a time may use.

    Attributes:
        id: The device's or MIG instance's UUID, or a made one for a simulated slice or a share.
        name: What people call it, such as "half H200 (MIG 3g.71gb)" or "simulated 1".
        size: The name under which it is asked for.
        memory: Bytes.
        environment: Variables that show a worker exactly this slice.
        device: The id of the whole device; "" where that is the slice's own.
        kind: What the size stands for: "MIG 3g.71gb", "whole GPU", "share 1/2", "simulated".
        capability: Compute capability (major, minor).
        is_cleaned: Whether its memory is looked after before another session has it.
        limits: What its worker may use of the machine: "cores", "memory", "shm", "scratch";
            cores and bytes. What is not named is not limited.
    """

    id: str
    name: str
    size: str
    memory: int
    simulated: bool
    environment: Mapping[str, str] = field(hash=False)
    device: str = ""
    kind: str = "simulated"
    capability: tuple[int, int] = (9, 0)
    is_cleaned: bool = False
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def display(self) -> str:
        """Gives name and memory, such as "half H200 · 70 GB"."""
        # Rounded up: of what is sold as 80 GB a driver reports 79.6 GiB.
        return f"{self.name} · {-(-self.memory // (1 << 30))} GB"


@dataclass(frozen=True)
class Account:
    """For whom a session asks, as whoever let it in knows.

    Attributes:
        group: Whose members count as one beside other groups; "" for a user who has none.
        tier: By it the policy weighs what is used; "" weighs 1.
    """

    user: str
    group: str = ""
    tier: str = ""

    @property
    def party(self) -> tuple[str, str]:
        """Who takes turns with others: the group, or the user who has none."""
        return (self.group, "") if self.group else ("", self.user)


@dataclass
class Worker:
    """A session's worker process, from its fork to the report of its end.

    Attributes:
        memory: Bytes that it keeps while it is parked; 0 until they are counted.
        stuck: It was killed long ago and its end was not reported.
        successor: Forked before this one's end was reported.
    """

    process: int
    parked_at: float | None = None
    memory: int = 0
    stopping_at: float | None = None
    stuck: bool = False
    successor: Worker | None = None


@dataclass
class Session:
    """One notebook. It has at most one worker and at most one lease.

    Attributes:
        slices: Those that it occupies, by id; kept by `SliceRecord.occupant`.
    """

    id: str
    name: str
    account: Account
    connected: bool = True
    closed: bool = False
    lost_at: float | None = None
    worker: Worker | None = None
    lease: Lease | None = None
    waiting: int = 0
    failed_starts: int = 0
    answers: OrderedDict[str, LeaseEnded | Refused] = field(default_factory=OrderedDict)
    slices: dict[str, SliceRecord] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def user(self) -> str:
        """Whose it is; "" where that is not known yet."""
        return self.account.user

    @property
    def stuck(self) -> bool:
        """Whether its worker was killed and does not end."""
        return self.worker is not None and self.worker.stuck


@dataclass
class Request:
    """A request that waits.

    Attributes:
        firm: Its limit is not extended.
        beyond_quota: It is served only where nobody within quota waits.
        since: When it came by the queue's own clock, which never goes back.
        number: What makes the id of its next lease unlike any before.
        place: What its notebook was told last, as ``reason``; 0 before that.
        setback: Why its place became worse, until its notebook was told.
    """

    id: str
    session: Session
    size: str
    duration: float
    arrival: int
    arrived_at: float
    firm: bool = False
    beyond_quota: bool = False
    since: float | None = None
    number: int = 0
    place: int = 0
    reason: str = ""
    setback: str = ""


@dataclass(frozen=True)
class Counted:
    """What a lease counts as recent use while it lasts.

    Attributes:
        amount: Weighed seconds.
        at: Since when, by the queue's clock.
    """

    account: Account
    amount: float
    at: float


@dataclass
class Lease:
    """A slice given to a request.

    Not granted yet while a worker that must go still ends, or the books do not have it.

    Attributes:
        entered: Whether the books were asked to set its limit aside.
        booked: Whether they have done so.
        limit: Seconds that its task may run; grows while nobody waits.
        ended_at: When its task's last line was over; results may still be on their way.
        ended_after: Seconds that the task had run by then.
        spoiled: Why it is not charged, whatever becomes of it; "" where it is.
        gives_way: Whether it was told to end because others are within quota.
        counted: What it counts as use, to whom, and since when, until it ends.
    """

    request: Request
    slice: SliceRecord
    entered: bool = False
    booked: bool = False
    granted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    ended_after: float | None = None
    release_at: float | None = None
    limit: float = 0.0
    spoiled: str = ""
    gives_way: bool = False
    counted: Counted | None = None

    @cached_property
    def id(self) -> str:
        """Made from the request's id, and unique also where that has another lease later."""
        return f"{self.request.id}.{self.request.number or self.request.arrival}"

    @property
    def session(self) -> Session:
        """Whose it is."""
        return self.request.session

    def ran(self, now: float) -> float:
        """Gives the seconds that its task has run."""
        if self.ended_after is not None:
            return self.ended_after
        return 0.0 if self.started_at is None else now - self.started_at


@dataclass
class SliceRecord:
    """A slice and who is on it.

    Attributes:
        reason: Why it is set aside by order from outside; "" if it is not.
        cleaning: Whether its memory is being verified or scrubbed, until that is reported.
        last_user: Whose memory was there, until it is scrubbed; None for nobody's.
    """

    slice: Slice
    lease: Lease | None = None
    reason: str = ""
    removed: bool = False
    cleaning: bool = False
    last_user: str | None = None
    _occupant: Session | None = field(default=None, init=False)

    @property
    def occupant(self) -> Session | None:
        """Whose worker has memory there: bound, parked or dying."""
        return self._occupant

    @occupant.setter
    def occupant(self, session: Session | None) -> None:
        if self._occupant is not None:
            self._occupant.slices.pop(self.slice.id, None)
        self._occupant = session
        if session is not None:
            session.slices[self.slice.id] = self

    @property
    def set_aside(self) -> str:
        """Why it cannot be leased, "" if it can."""
        if self.removed:
            return f"{self.slice.name} was removed"
        if self.reason:
            return self.reason
        if self.occupant is not None and self.occupant.stuck:
            return "its last worker was killed and does not end"  # whose, is not for everybody
        return ""

    @property
    def is_free(self) -> bool:
        """Whether it can be leased; a worker that must go first may still be on it."""
        return self.lease is None and not self.set_aside

    @property
    def preference(self) -> tuple[int, float]:
        """Gives what it is chosen by for another session than its own, lowest first.

        Best is an empty slice, then one whose worker is ending already, then the one whose
        parked worker was used least recently.
        """
        worker = self.occupant.worker if self.occupant is not None else None
        if worker is None:
            return (0, 0.0)
        if worker.stopping_at is not None:
            return (1, 0.0)
        return (2, math.inf if worker.parked_at is None else worker.parked_at)
