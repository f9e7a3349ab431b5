"""What notebook and broker say to each other, over a WebSocket."""

from __future__ import annotations

from dataclasses import dataclass

from zerokernel.messages.base import PROTOCOL_VERSION, Message

# --- notebook → broker ------------------------------------------------------------------


@dataclass(frozen=True)
class OpenSession(Message):
    """The first message of a session. Repeating it with the same id resumes the session.

    Attributes:
        session: Made by the client, 32 hex digits.
        name: What people call it, for instance the notebook's file name.
        python: The kernel's interpreter; workers run it.
        environment: Environment variables for the forkserver's start.
        process: The kernel's process id, 0 if it is not to be watched.
        namespace: Where that id is valid: boot and PID namespace.
        requests: Those that the notebook still wants. Others that it made over an earlier
            connection, whose withdrawal may have been lost with that, are withdrawn.
    """

    session: str
    name: str
    python: str
    environment: dict[str, str]
    process: int = 0
    namespace: str = ""
    requests: tuple[str, ...] = ()
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class RequestLease(Message):
    """Asks for a lease. Repeating it with the same id changes nothing.

    Attributes:
        size: Its name, "" for the smallest that has what else is asked for.
        duration: Seconds that the cell may run.
        firm: Whether that holds even while nobody waits; else the limit is extended then.
        memory: Bytes that the slice must have.
        capability: Compute capability (major, minor) that it must have, () for any.
    """

    request: str
    size: str
    duration: float
    firm: bool = False
    memory: int = 0
    capability: tuple[int, ...] = ()


@dataclass(frozen=True)
class CancelRequest(Message):
    """Withdraws a waiting request, or releases its lease if it was granted meanwhile."""

    request: str


@dataclass(frozen=True)
class EndWorker(Message):
    """Ends the session's worker, parked or running.

    Attributes:
        cause: "restart", or "interrupt ignored" where the cell did not react to one.
    """

    session: str
    cause: str = "restart"


# --- broker → notebook ------------------------------------------------------------------


@dataclass(frozen=True)
class SessionOpened(Message):
    """Answer to OpenSession; where and how to reach the supervisor.

    Attributes:
        address: "unix:PATH" or "tcp:HOST:PORT".
        secret: Proves to the supervisor that the broker sent this kernel (hex).
        sizes: Names of the sizes that may be asked for, smallest first.
    """

    session: str
    address: str
    secret: str
    sizes: tuple[str, ...]
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class Queued(Message):
    """The request's place in the queue changed.

    Attributes:
        place: 1 is next.
        starts_in: Seconds until the expected start, None where nothing is known.
        reason: Why the place is what it is, in words for the user.
    """

    request: str
    place: int
    starts_in: float | None
    reason: str = ""


@dataclass(frozen=True)
class Granted(Message):
    """The request became a lease and the worker is being bound to its slice.

    Attributes:
        slice: What people call it, such as "half H200" or "simulated 1".
        limit: Seconds that the cell may run.
    """

    request: str
    lease: str
    slice: str
    limit: float
    waited: float
    simulated: bool = False


@dataclass(frozen=True)
class LimitExtended(Message):
    """Nobody waits, so the cell may run on until ``limit`` seconds after its first line.

    Attributes:
        why: Why it must end earlier than it was granted; "" where it may run longer.
    """

    lease: str
    limit: float
    why: str = ""


@dataclass(frozen=True)
class Refused(Message):
    """The request will not be granted. ``code`` names the class of errors.py."""

    request: str
    code: str
    reason: str


@dataclass(frozen=True)
class LeaseEnded(Message):
    """A lease is over and settled.

    Attributes:
        reason: A Cause of lifecycle.py.
        ran: Seconds from the cell's first line to its end: what is charged.
        held: Seconds that the slice was held.
    """

    lease: str
    reason: str
    ran: float
    held: float


@dataclass(frozen=True)
class WorkerGone(Message):
    """The session's worker ended, parked or not; what it held is gone.

    Attributes:
        cause: A Cause of lifecycle.py; a remark may follow after a colon.
        detail: For the user.
        process: Which worker, 0 where none was forked: the session may have the next one.
    """

    session: str
    cause: str
    detail: str = ""
    process: int = 0
