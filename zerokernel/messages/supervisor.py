"""What broker and supervisor say to each other, and what begins a connection to one."""

from __future__ import annotations

from dataclasses import dataclass, field

from zerokernel.messages.base import PROTOCOL_VERSION, Message, check_protocol


@dataclass(frozen=True)
class Hello(Message):
    """Introduces a peer on a channel to the supervisor.

    Attributes:
        role: "broker" or "kernel".
        session: The session whose worker a kernel wants; empty for a broker.
        process: Process id of the peer, 0 if it is on another host.
        protocol: The peer's PROTOCOL_VERSION.
    """

    role: str
    session: str = ""
    process: int = 0
    protocol: int = PROTOCOL_VERSION

    def check(self) -> None:
        """Raises ProtocolMismatch where the peer speaks another version."""
        check_protocol(self.protocol)


@dataclass(frozen=True)
class Bind(Message):
    """Binds the session's worker to a slice and lets it run (thaws a parked one).

    Attributes:
        environment: Variables that show the worker exactly its slice.
        simulated: The slice is a simulated one.
        limit: Seconds that the task may run, counted from its start.
        hold: Seconds within which the task must have begun.
        request: The request that the lease was granted to.
        slice_id: The slice's, for a broker that takes the supervisor over.
        limits: What the worker's processes may use together: "cores", "memory" in bytes.
    """

    session: str
    lease: str
    environment: dict[str, str]
    slice: str
    simulated: bool
    limit: float
    hold: float
    request: str
    slice_id: str = ""
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Park(Message):
    """Freezes the session's worker; it keeps its memory and does not run.

    Attributes:
        process: Which worker is meant; 0 means whichever the session has.
    """

    session: str
    process: int = 0


@dataclass(frozen=True)
class StopWorker(Message):
    """Kills the session's worker as a process tree.

    Attributes:
        cause: Told to the kernel: "evicted", "restart", "cancelled", "kernel lost"…
        process: Which worker is meant: the session may have its next one by now; 0 means
            whichever it has.
        lease: Takes back this lease's Bind, and ends the worker only if it has it; ""
            means whichever the worker has.
    """

    session: str
    cause: str
    process: int = 0
    lease: str = ""


@dataclass(frozen=True)
class Shutdown(Message):
    """Ends all workers and the supervisor."""


@dataclass(frozen=True)
class SupervisorReady(Message):
    """The forkserver has its imports done and can fork.

    Attributes:
        process: Its process id.
        kept: So many WorkerKept follow: what it has of an earlier broker's.
    """

    process: int
    kept: int = 0
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class WorkerKept(Message):
    """A worker that outlived the broker under which it was forked.

    Attributes:
        lease: Under which it is bound, "" if it is parked or was never bound.
        request: What the lease was granted to.
        slice_id: Where it has memory, "" before its first Bind.
        limit: Seconds that its task may run.
        ran: Seconds that its task has run, -1 where it has not begun.
        held: Seconds since its Bind, 0 where it has no lease.
    """

    session: str
    process: int
    lease: str
    request: str
    slice_id: str
    limit: float
    ran: float
    held: float = 0.0


@dataclass(frozen=True)
class Heartbeat(Message):
    """Once a second: the supervisor lives, and its tasks have run so far.

    Attributes:
        running: Lease → seconds that its task has run; only those that have begun.
    """

    running: dict[str, float]


@dataclass(frozen=True)
class WorkerForked(Message):
    """A worker process exists for the session; it has no slice yet."""

    session: str
    process: int


@dataclass(frozen=True)
class TaskStarted(Message):
    """The cell's first line runs: from here on it is charged (worker → supervisor → broker)."""

    session: str
    lease: str


@dataclass(frozen=True)
class LimitNear(Message):
    """The task asks for more time, which is nearly over (worker → supervisor → broker)."""

    session: str
    lease: str


@dataclass(frozen=True)
class ExtendLimit(Message):
    """The task may run until ``limit`` seconds after its start (broker → … → worker).

    Attributes:
        why: Why it may not run for as long as it was granted; "" where it may run longer.
    """

    session: str
    lease: str
    limit: float
    why: str = ""


@dataclass(frozen=True)
class TaskStuck(Message):
    """The task does not react to its deadline; ``where`` says what it does, for the user."""

    session: str
    lease: str
    where: str


@dataclass(frozen=True)
class TaskReturning(Message):
    """The cell's last line is over; its results are on their way (worker → supervisor).

    Attributes:
        ran: Seconds from the cell's first line to its last: what is charged.
    """

    session: str
    lease: str
    ran: float


@dataclass(frozen=True)
class WorkerParked(Message):
    """The worker is frozen, and keeps so many bytes of memory (supervisor → broker)."""

    session: str
    process: int
    memory: int


@dataclass(frozen=True)
class TaskEnded(Message):
    """The cell is over and its results were delivered (worker → supervisor → broker).

    Attributes:
        ran: Seconds from the cell's first line to its last.
    """

    session: str
    lease: str
    ran: float


@dataclass(frozen=True)
class WorkerEnded(Message):
    """A worker's process tree is dead (supervisor → broker).

    Attributes:
        lease: The lease under which it ran, "" if it was parked or not yet bound.
        cause: As in WorkerGone.
        ran: Seconds that its task had run under that lease.
        process: Which worker, 0 where none was forked.
    """

    session: str
    lease: str
    cause: str
    detail: str
    ran: float
    process: int = 0
