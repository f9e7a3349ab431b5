"""What the scheduler wants done. Whoever carries it out decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zerokernel.messages import (
    Bind,
    ExtendLimit,
    Granted,
    LeaseEnded,
    LimitExtended,
    Park,
    Queued,
    Refused,
    StopWorker,
    WorkerGone,
)


@dataclass(frozen=True)
class Tell:
    """Send this to the session's notebook."""

    session: str
    message: Queued | Granted | LimitExtended | Refused | LeaseEnded | WorkerGone


@dataclass(frozen=True)
class Order:
    """Send this to the supervisor of the session's worker."""

    session: str
    message: Bind | ExtendLimit | Park | StopWorker


@dataclass(frozen=True)
class Reserve:
    """Reserve quota for a lease; `LeaseBooked` or `BooksClosed` answers.

    Attributes:
        amount: Milliseconds.
        weight: Thousandths of a millisecond of quota for each; 0 where it runs beyond the quota.
        opens_window: Whether the user's quota window opens with it.
    """

    user: str
    lease: str
    amount: int
    weight: int = 1000
    opens_window: bool = False


@dataclass(frozen=True)
class Settle:
    """Replace a lease's reservation by what it used.

    Attributes:
        amount: Milliseconds that the cell ran; 0 for a start that failed.
        held: Milliseconds that the slice was held.
    """

    user: str
    lease: str
    amount: int
    held: int
    cause: str = "finished"


@dataclass(frozen=True)
class Extend:
    """Let a lease's reservation grow to this many milliseconds."""

    lease: str
    amount: int


@dataclass(frozen=True)
class Beats:
    """Note, by lease, how many milliseconds its cell has run and its slice was held."""

    running: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Clean:
    """Verify that a slice's memory is free, and overwrite it if asked; `SliceCleaned` answers."""

    slice: str
    scrub: bool


Action = Tell | Order | Reserve | Settle | Extend | Beats | Clean
