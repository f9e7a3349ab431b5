"""What notebook and worker say to each other, over a channel with buffers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zerokernel.messages.base import Message


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
        control_parent: The latest request on the kernel's control channel.
        silent: Whether it runs without side effects such as showing its result.
        linger: Seconds that what it leaves running may go on, on its lease.
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
    control_parent: dict[str, Any] = field(default_factory=dict)
    silent: bool = False
    linger: float = 0.0


@dataclass(frozen=True)
class NextCell(Message):
    """Another cell asks for a lease: what the last one left running keeps it no longer."""


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
    """One Jupyter message of the cell, with its buffers, as jupyter_client formats it.

    Attributes:
        parent: Header of the request that it belongs to, where that is not the cell that runs:
            a thread or task of an earlier cell made it.
    """

    type: str
    content: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    parent: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CommMessage(Message):
    """What the front end says on a comm that the worker opened, with its buffers.

    Attributes:
        type: "comm_msg" or "comm_close".
    """

    type: str
    content: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


END_OF_INPUT = "\x04"
"""An answer to InputRequest that is none: Jupyter's word for the end of the input."""


@dataclass(frozen=True)
class InputRequest(Message):
    """The cell asks the person a question; the kernel answers with InputReply."""

    prompt: str
    password: bool


@dataclass(frozen=True)
class InputReply(Message):
    """What the person typed.

    Attributes:
        interrupted: Whether they pressed stop instead.
        refused: Why they cannot be asked, "" if they were.
    """

    value: str
    interrupted: bool = False
    refused: str = ""


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
class InterruptSeen(Message):
    """The interrupt reached Python: what becomes of it now is the cell's own affair."""


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
        left_running: Whether threads or tasks of cells go on, which use names of the notebook.
        exits: Whether the cell asked the kernel to end, as `exit` does.
        frees: Whether the worker lets go of everything now, as the cell asked.
    """

    status: str
    ran: float
    specs: tuple[Any, ...]
    error: dict[str, Any] = field(default_factory=dict)
    display_failed: bool = False
    payload: tuple[dict[str, Any], ...] = ()
    left_running: bool = False
    exits: bool = False
    frees: bool = False
