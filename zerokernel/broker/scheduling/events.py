"""What may happen to the scheduler.

What notebooks and supervisors say reaches it as their own messages: a notebook's wrapped
in `NotebookSaid`, which says who spoke; a supervisor's as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerokernel.broker.scheduling.quota import Balance
from zerokernel.broker.scheduling.records import Slice
from zerokernel.messages import (
    CancelRequest,
    EndWorker,
    Heartbeat,
    LimitNear,
    RequestLease,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
    WorkerKept,
    WorkerParked,
)


@dataclass(frozen=True)
class SessionConnected:
    """A notebook opened its session, or came back to it; `requests` are those it still wants.

    With `user`, `group` and `tier` are the `Account` for which it asks.
    """

    session: str
    name: str
    user: str
    requests: tuple[str, ...] = ()
    group: str = ""
    tier: str = ""


@dataclass(frozen=True)
class SessionLost:
    """The connection to a notebook ended. It may come back within the grace time."""

    session: str


@dataclass(frozen=True)
class WorkerAdopted:
    """A supervisor that an earlier broker left behind still has this worker.

    Attributes:
        weight: How its lease counts in the books; 0 where it runs beyond the quota.
    """

    kept: WorkerKept
    user: str
    group: str = ""
    tier: str = ""
    weight: int = 1000


@dataclass(frozen=True)
class SessionClosed:
    """A session is over; nobody comes back."""

    session: str


@dataclass(frozen=True)
class BrokerBegan:
    """Workers of an earlier broker are adopted; what else is on the slices nobody knows."""


@dataclass(frozen=True)
class NotebookSaid:
    """A notebook sent a message within its session."""

    session: str
    message: RequestLease | CancelRequest | EndWorker


@dataclass(frozen=True)
class SlicesChanged:
    """These are all slices there are now."""

    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class SliceSetAside:
    """A slice must not be leased for the reason given; "" makes it usable again.

    Attributes:
        lost: Whether what is on it is gone too: its lease ends at once, uncharged.
        spoils: Whether what runs on it may go on, and is not charged.
    """

    slice: str
    reason: str
    lost: bool = False
    spoils: bool = False


@dataclass(frozen=True)
class SliceCleaned:
    """The answer to a `Clean`: the slice's memory is free, or why it is not.

    Attributes:
        reason: "" where it is; else the slice is set aside until `SliceSetAside` says otherwise.
        scrubbed: Whether nothing of what was in it can be read any more.
    """

    slice: str
    reason: str = ""
    scrubbed: bool = False


@dataclass(frozen=True)
class BalanceTold:
    """What the books say of a user's quota window: at first, and whenever another changed it."""

    user: str
    balance: Balance


@dataclass(frozen=True)
class LeaseBooked:
    """The answer to a `Reserve`: the books have it."""

    lease: str


@dataclass(frozen=True)
class BooksClosed:
    """Nothing can be written in the books, so nothing is granted; "" when they are open again."""

    reason: str


@dataclass(frozen=True)
class Tick:
    """Time went by. Needed at the latest when `SchedulerState.next_deadline` says."""


Event = (
    BrokerBegan
    | SessionConnected
    | SessionLost
    | SessionClosed
    | NotebookSaid
    | SlicesChanged
    | SliceSetAside
    | SliceCleaned
    | BalanceTold
    | LeaseBooked
    | BooksClosed
    | Tick
    | WorkerForked
    | TaskStarted
    | TaskReturning
    | TaskEnded
    | LimitNear
    | Heartbeat
    | WorkerParked
    | WorkerEnded
    | WorkerAdopted
)
