"""What the worker shows, on its way to the kernel: one Jupyter message after another."""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import fcntl
import functools
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ipykernel.iostream import OutStream
from jupyter_client.session import Message as JupyterMessage
from jupyter_client.session import Session

from zerokernel.worker.cuts import OutputLimits
from zerokernel.worker.limiter import OutputLimiter, Publish

Show = Callable[..., None]
"""Takes what Publish takes and, for another request than the cell's, its ``parent`` header."""

FLUSH_SECONDS = 0.02
"""Written text waits so long for more of it; a person reads none of it sooner."""

FLUSH_CHARACTERS = 256 << 10
"""So much of it does not wait, which bounds what a flood collects."""

ALL_WAKE = 64
"""The first pieces wake the flusher, which looks for later ones by itself."""

PIPE_BYTES = 1 << 20
"""Read at once from a file descriptor."""


class PublishingSession(Session):
    """A jupyter_client session whose messages go to ``publish`` instead of a ZeroMQ socket."""

    publish: Show | None = None
    running = ""
    """Id of the request whose cell runs, "" between cells."""
    held: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Entered while output is moved on, so that an interrupt loses none of it."""

    def send(
        self,
        stream: Any,
        msg_or_type: Any,
        content: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
        ident: Any = None,
        buffers: Sequence[Any] | None = None,
        track: bool = False,
        header: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Hands one message on; the signature is jupyter_client's."""
        if isinstance(msg_or_type, (JupyterMessage, dict)):
            message: dict[str, Any] = dict(msg_or_type)  # type: ignore[arg-type]  # has keys
        else:
            message = self.msg(msg_or_type, content, parent, header, metadata)
        if self.publish is not None:
            views = tuple(memoryview(b).cast("B") for b in buffers or message.get("buffers") or ())
            parts = (message["header"]["msg_type"], message["content"])
            with self.held():
                self.publish(*parts, message.get("metadata") or {}, views, **self._other(message))
        return message

    def _other(self, message: dict[str, Any]) -> dict[str, Any]:
        """Names the request that the message belongs to, where that is not the cell's."""
        parent = message.get("parent_header") or {}
        identity = parent.get("msg_id", "")
        return {"parent": parent} if identity and identity != self.running else {}


class WorkerStream(OutStream):
    """sys.stdout or sys.stderr of a cell.

    An OutStream by type, for the libraries that look, without its ZeroMQ thread: text is
    collected and published by a flusher, or at once by ``flush``.
    """

    flush_interval = FLUSH_SECONDS

    def __init__(
        self, session: PublishingSession, name: str, descriptor: int, written: threading.Event
    ) -> None:
        io.TextIOBase.__init__(self)
        self.session = session
        self.name = name
        self.topic = f"stream.{name}".encode()
        self.echo = None
        self.pub_thread = self  # not None: "open", to OutStream.closed
        self._isatty = False
        self._should_watch = False
        self._local = threading.local()
        self._parent_header = contextvars.ContextVar("parent_header")
        self._parent_header_global: dict[str, Any] = {}
        self._original_stdstream_copy = os.dup(descriptor)
        self._descriptor = descriptor
        self._forked = False
        os.register_at_fork(after_in_child=self._note_fork)
        # What threads and tasks of other cells wrote, by the id of their request.
        self._others: dict[str, tuple[dict[str, Any], list[str]]] = {}
        self._pieces: list[str] = []  # appended to without the lock, emptied under it
        self._collected = 0  # about their characters: threads may race
        self._lock = threading.RLock()
        self._written = written
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def _note_fork(self) -> None:
        self._forked = True

    def write(self, string: str) -> int:
        """Takes text; a forked child's goes to the file descriptor, which the worker reads."""
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string).__name__}")
        size = len(string)
        if self._forked:
            return self._write_through(string) and size
        # None in a thread that never chose: it writes to the cell that runs.
        own = self._parent_header.get(None)
        if own is not None and own is not self._parent_header_global and self._keep(own, string):
            return size
        pieces = self._pieces
        pieces.append(string)
        self._collected += size
        if self._collected > FLUSH_CHARACTERS:
            self.flush()
        elif len(pieces) < ALL_WAKE and not self._written.is_set():
            self._written.set()
        return size

    def _keep(self, header: dict[str, Any], string: str) -> bool:
        """Keeps what belongs to another request than the current; False where it does not."""
        identity = header.get("msg_id", "")
        if identity == self._parent_header_global.get("msg_id", ""):
            return False
        with self._lock:
            _, pieces = self._others.setdefault(identity, (header, []))
            pieces.append(string)
            many = sum(map(len, pieces)) > FLUSH_CHARACTERS if len(pieces) % 64 == 0 else False
        self._written.set()
        if many:
            self.flush()
        return True

    def _is_master_process(self) -> bool:
        return not self._forked

    def _write_through(self, string: str) -> int:
        return os.write(self._descriptor, string.encode(errors="replace"))

    def write_bytes(self, data: bytes) -> None:
        """Takes what arrived at the file descriptor; a character may come in two parts."""
        self.write(self._decoder.decode(data))

    def flush(self) -> None:
        """Publishes what was written; what cannot be passed on yet makes the writer wait."""
        if self._forked or not (self._pieces or self._others):
            return
        with self.session.held(), self._lock:
            self._collected = 0
            self._send(self._pieces, self._parent_header_global)
            for header, pieces in self._others.values():
                self._send(pieces, header)
            self._others = {key: one for key, one in self._others.items() if one[1]}
        if self._pieces or self._others:
            self._written.set()

    def _send(self, collected: list[str], header: dict[str, Any]) -> None:
        pieces = collected[:]
        del collected[: len(pieces)]  # another thread may have added to them since
        if text := "".join(pieces):
            self.session.send(None, "stream", {"name": self.name, "text": text}, header)

    def close(self) -> None:
        """Does nothing: a cell that closes sys.stdout does not end the worker's output."""


class OutputCapture:
    """Publishes what the cell shows: Python's streams, file descriptors 1 and 2, displays."""

    def __init__(self, session: PublishingSession) -> None:
        self._written = threading.Event()
        self.stdout = WorkerStream(session, "stdout", 1, self._written)
        self.stderr = WorkerStream(session, "stderr", 2, self._written)
        self._pipes: dict[int, WorkerStream] = {}
        self._reading = threading.Lock()
        self._session = session
        self._limiter: OutputLimiter | None = None
        self._limits = OutputLimits()
        self._others: dict[str, OutputLimiter] = {}  # of earlier cells, by their request
        self._publish: Show | None = None

    @property
    def running(self) -> str:
        """Id of the request whose cell runs, "" between cells."""
        return self._session.running

    @running.setter
    def running(self, identity: str) -> None:
        self._session.running = identity

    def publish_to(self, publish: Show) -> None:
        """Names who takes the session's messages, as far as they are within the limits."""
        self._publish = publish
        self._limiter = OutputLimiter(publish)
        self._session.publish = self._take

    def start(self) -> None:
        """Takes sys.stdout, sys.stderr and the descriptors over and starts the two threads."""
        sys.stdout, sys.stderr = self.stdout, self.stderr
        for stream, descriptor in ((self.stdout, 1), (self.stderr, 2)):
            read_end, write_end = os.pipe()
            with contextlib.suppress(OSError):  # this user's pipes have all the room there is
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.dup2(write_end, descriptor)
            os.close(write_end)
            os.set_blocking(read_end, False)
            self._pipes[read_end] = stream
        for target in (self._watch_descriptors, self._flush_regularly):
            threading.Thread(target=target, daemon=True, name=target.__name__.strip("_")).start()

    def begin(self, limits: OutputLimits) -> None:
        """A cell begins, which may show so much."""
        self._limits = limits
        if self._limiter is not None:
            self._limiter.begin(limits)

    def finish(self) -> None:
        """The cell is over: publishes, on this thread, all that it wrote and what was cut."""
        self._read_pipes()
        self.stdout.flush()
        self.stderr.flush()
        if self._limiter is not None:
            self._limiter.finish()
        others, self._others = self._others, {}
        for limiter in others.values():
            limiter.finish()

    def _take(self, kind: str, *message: Any, parent: dict[str, Any] | None = None) -> None:
        limiter = self._limiter if parent is None else self._limiter_of(parent)
        assert limiter is not None
        limiter.take(kind, *message)
        if limiter.waits:
            self._written.set()

    def _limiter_of(self, parent: dict[str, Any]) -> OutputLimiter:
        """What an earlier cell's threads and tasks show has limits of its own, until the next."""
        assert self._publish is not None
        publish: Publish = functools.partial(self._publish, parent=parent)
        limiter = self._others.setdefault(parent["msg_id"], OutputLimiter(publish))
        limiter.begin(self._limits)
        return limiter

    def _watch_descriptors(self) -> None:
        while True:
            select.select(list(self._pipes), [], [])
            self._read_pipes()

    def _read_pipes(self) -> None:
        """Takes what is in the pipes now: a process that goes on writing does not keep us."""
        with self._reading:
            for pipe, stream in self._pipes.items():
                if data := _read_available(pipe):
                    stream.write_bytes(data)

    def _flush_regularly(self) -> None:
        while True:
            self._written.wait()
            time.sleep(FLUSH_SECONDS)
            self._written.clear()
            self.stdout.flush()
            self.stderr.flush()
            for limiter in (self._limiter, *list(self._others.values())):
                if limiter is not None and limiter.waits:
                    limiter.tick()
                    self._written.set()


def _read_available(pipe: int) -> bytes:
    try:
        return os.read(pipe, PIPE_BYTES)
    except BlockingIOError:
        return b""
