"""What notebook, broker and worker say to each other.

Frozen dataclasses, one per message, grouped by who speaks to whom. They travel as JSON
objects with a ``kind``; large bytes travel beside them as buffers of a channel.
Durations are seconds, and relative: no two processes are assumed to share a clock.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zerokernel.errors import MalformedMessage, ProtocolMismatch

PROTOCOL_VERSION = 1
"""Raised by one with each incompatible change of a message."""


@dataclass(frozen=True)
class Message:
    """One message. Its class name is its kind on the wire."""


# --- every connection begins with this --------------------------------------------------


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


# --- notebook → broker (WebSocket) ------------------------------------------------------


@dataclass(frozen=True)
class OpenSession(Message):
    """The first message of a session. Repeating it with the same id resumes the session.

    Attributes:
        session: Made by the client, 32 hex digits.
        name: What people call it, for instance the notebook's file name.
        python: The kernel's interpreter; workers run it.
        environment: Environment variables for the forkserver's start.
    """

    session: str
    name: str
    python: str
    environment: dict[str, str]
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class RequestLease(Message):
    """Asks for a lease. Repeating it with the same id changes nothing."""

    request: str
    size: str
    duration: float


@dataclass(frozen=True)
class CancelRequest(Message):
    """Withdraws a waiting request, or releases its lease if it was granted meanwhile."""

    request: str


@dataclass(frozen=True)
class ReleaseLease(Message):
    """The kernel has everything back (or gives up). Repeating it changes nothing."""

    lease: str


@dataclass(frozen=True)
class EndWorker(Message):
    """Ends the session's worker, parked or running (`%gpu restart`)."""

    session: str


# --- broker → notebook (WebSocket) ------------------------------------------------------


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
class Refused(Message):
    """The request will not be granted. ``code`` names the class of errors.py."""

    request: str
    code: str
    reason: str


@dataclass(frozen=True)
class LeaseEnded(Message):
    """A lease is over and settled.

    Attributes:
        reason: "finished", "deadline", "killed", "out of memory", "cancelled", "evicted"…
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
        cause: "killed", "out of memory", "deadline", "evicted", "restart", "exited".
        detail: For the user.
        process: Which worker, 0 where none was forked: the session may have the next one.
    """

    session: str
    cause: str
    detail: str = ""
    process: int = 0


# --- broker ↔ supervisor (channel) ------------------------------------------------------


@dataclass(frozen=True)
class Bind(Message):
    """Binds the session's worker to a slice and lets it run (thaws a parked one).

    Attributes:
        environment: Variables that show the worker exactly its slice.
        simulated: The slice is a simulated one.
        limit: Seconds that the task may run, counted from its start.
        hold: Seconds from now after which the lease ends whatever happens.
        request: The request that the lease was granted to.
    """

    session: str
    lease: str
    environment: dict[str, str]
    slice: str
    simulated: bool
    limit: float
    hold: float
    request: str


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
    """

    session: str
    cause: str
    process: int = 0


@dataclass(frozen=True)
class Shutdown(Message):
    """Ends all workers and the supervisor."""


@dataclass(frozen=True)
class SupervisorReady(Message):
    """The forkserver has its imports done and can fork.

    Attributes:
        process: Its process id.
        sessions: Sessions whose workers it still has, after a restart of the broker.
    """

    process: int
    sessions: tuple[str, ...] = ()
    protocol: int = PROTOCOL_VERSION


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


# --- notebook ↔ worker (channel) --------------------------------------------------------


@dataclass(frozen=True)
class WorkerReady(Message):
    """First message of a forked worker to its kernel."""

    process: int


@dataclass(frozen=True)
class Stage(Message):
    """Captures as bytes: buffer 0 is the payload, the rest as ``specs`` say.

    The worker keeps them and unpickles nothing until its slice is bound.
    """

    specs: tuple[Any, ...]


@dataclass(frozen=True)
class RunCell(Message):
    """Run this cell, on what was staged, once the slice of its lease is bound.

    Attributes:
        request: The request under which it may run. A cell whose request was withdrawn is
            passed over; what was staged for it is kept.
        code: The cell's body as the user wrote it.
        file: The name under which the kernel compiled it, for tracebacks and inspect.
        execution_count: The kernel's In[n].
        closed: Whether static analysis saw every name; else missing ones are fetched.
        absent: Captured names that could not travel: name → message for the user.
        parent: Header of the execute request under which outputs appear.
        history: The kernel's store_history; a silent cell shows no result.
        sources: Earlier cells that the worker does not know yet, for tracebacks and
            inspect: file name → their ``source`` and the ``number`` of their In[n].
        output_limits: How much the cell may show: the settings that begin with ``output_``,
            by name.
    """

    request: str
    code: str
    file: str
    execution_count: int
    closed: bool
    absent: dict[str, str]
    parent: dict[str, Any]
    history: bool = True
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    output_limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CellStarted(Message):
    """The worker is bound, has its captures and begins the cell's first line.

    Attributes:
        binding: Seconds of device binding. loading: seconds of unpickling.
    """

    binding: float
    loading: float


@dataclass(frozen=True)
class Output(Message):
    """One Jupyter message of the cell, with its buffers, as jupyter_client formats it."""

    type: str
    content: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InputRequest(Message):
    """The cell asks the person a question; the kernel answers with InputReply."""

    prompt: str
    password: bool


@dataclass(frozen=True)
class InputReply(Message):
    """What the person typed; ``interrupted`` where they pressed stop instead."""

    value: str
    interrupted: bool = False


@dataclass(frozen=True)
class FetchName(Message):
    """The cell reads a name that was not captured."""

    name: str


@dataclass(frozen=True)
class FetchedName(Message):
    """Answer to FetchName: buffer 0 is the payload, the rest as ``specs`` say.

    Attributes:
        found: False where the notebook has no such name.
        absent: Why it cannot travel, "" if it does.
    """

    name: str
    found: bool
    absent: str = ""
    specs: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Interrupt(Message):
    """Raise KeyboardInterrupt in the cell."""


@dataclass(frozen=True)
class CellFinished(Message):
    """The cell is over: buffer 0 is the payload of what comes back, the rest as ``specs`` say.

    Attributes:
        status: "ok", "error", or "stuck": objects could not cross, and why is in
            ``error``.
        error: For an error its ``ename``, ``evalue`` and ``traceback`` as Jupyter shows them.
        ran: Seconds from the cell's first line to its last.
        display_failed: Whether showing a result raised; the error was shown as an output.
        payload: What the cell asks of the front end, such as a pager.
    """

    status: str
    ran: float
    specs: tuple[Any, ...]
    error: dict[str, Any] = field(default_factory=dict)
    display_failed: bool = False
    payload: tuple[dict[str, Any], ...] = ()


# --- to and from JSON -------------------------------------------------------------------

_T = TypeVar("_T", bound=Message)


@cache
def _kinds() -> dict[str, type[Message]]:
    return {kind.__name__: kind for kind in Message.__subclasses__()}


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (
            f.name,
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    )


def encode(message: Message) -> bytes:
    """Gives the message as UTF-8 JSON."""
    kind = type(message)
    body: dict[str, Any] = {"kind": kind.__name__}
    for name, _, _ in _fields(kind):  # type: ignore[arg-type]  # mypy takes Message.__hash__ for the class's
        body[name] = getattr(message, name)
    return json.dumps(body, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> object:
    """Turns what Jupyter puts into message contents into JSON: dates and bytes."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    return str(value)


def decode(data: bytes | str) -> Message:
    """Reads a message that anybody may have sent.

    Raises:
        MalformedMessage: It is not JSON, of no known kind, or a field is missing, unknown
            or of another type.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"A message is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise MalformedMessage("A message is not a JSON object.")
    name = body.pop("kind", None)
    kind = _kinds().get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedMessage(f"There is no message of kind {name!r}.")
    return _build(kind, body)


def decode_as(kind: type[_T], data: bytes | str) -> _T:
    """Like decode, and raises MalformedMessage where it is of another kind."""
    message = decode(data)
    if not isinstance(message, kind):
        raise MalformedMessage(f"Expected {kind.__name__}, got {type(message).__name__}.")
    return message


def _build(kind: type[Message], body: dict[str, Any]) -> Message:
    values: dict[str, Any] = {}
    for name, hint, required in _fields(kind):  # type: ignore[arg-type]  # mypy takes Message.__hash__ for the class's
        if name in body:
            values[name] = _checked(kind, name, hint, body.pop(name))
        elif required:
            raise MalformedMessage(f"{kind.__name__} lacks {name!r}.")
    if body:
        raise MalformedMessage(f"{kind.__name__} has no field {next(iter(body))!r}.")
    return kind(**values)


def _checked(kind: type[Message], name: str, hint: Any, value: Any) -> Any:
    if not _fits(hint, value):
        raise MalformedMessage(f"{kind.__name__}.{name} is not of type {hint}.")
    if get_origin(hint) is tuple:
        return tuple(value)
    return float(value) if hint is float else value


def _fits(hint: Any, value: Any) -> bool:
    """Whether a JSON value is of the annotated type (those that messages use)."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(option, value) for option in get_args(hint))
    if origin is tuple:
        item = get_args(hint)[0]
        return isinstance(value, list) and all(_fits(item, one) for one in value)
    if origin is dict:
        _, item = get_args(hint)
        return isinstance(value, dict) and all(_fits(item, one) for one in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def check_protocol(theirs: int) -> None:
    """Raises ProtocolMismatch where the peer speaks another version."""
    if theirs != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            f"The other side speaks protocol {theirs}, this one {PROTOCOL_VERSION}: their "
            "zerokernel versions differ. Restart the older side after upgrading it."
        )
