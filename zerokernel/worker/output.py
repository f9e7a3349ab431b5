"""What the worker shows, on its way to the kernel: one Jupyter message after another."""

from __future__ import annotations

import codecs
import contextlib
import contextvars
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

FLUSH_SECONDS = 0.02
"""Written text waits so long for more of it; a person reads none of it sooner."""

Publish = Callable[[str, dict[str, Any], dict[str, Any], Sequence[bytes | memoryview]], None]
"""Takes a message's type, content, metadata and buffers."""


class PublishingSession(Session):
    """A jupyter_client session whose messages go to ``publish`` instead of a ZeroMQ socket."""

    publish: Publish | None = None
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
            self.publish(
                message["header"]["msg_type"],
                message["content"],
                message.get("metadata") or {},
                tuple(memoryview(b).cast("B") for b in buffers or message.get("buffers") or ()),
            )
        return message


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
        self._owner = os.getpid()
        self._text = io.StringIO()
        self._lock = threading.RLock()
        self._written = written
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def write(self, string: str) -> int:
        """Takes text; a forked child's goes to the file descriptor, which the worker reads."""
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string).__name__}")
        if os.getpid() != self._owner:
            return os.write(self._descriptor, string.encode(errors="replace")) and len(string)
        with self._lock:
            self._text.write(string)
        self._written.set()
        return len(string)

    def write_bytes(self, data: bytes) -> None:
        """Takes what arrived at the file descriptor; a character may come in two parts."""
        self.write(self._decoder.decode(data))

    def flush(self) -> None:
        """Publishes what was written."""
        if os.getpid() != self._owner:
            return
        with self.session.held(), self._lock:
            text = self._text.getvalue()
            if not text:
                return
            self._text = io.StringIO()
            self.session.send(None, "stream", {"name": self.name, "text": text})

    def close(self) -> None:
        """Does nothing: a cell that closes sys.stdout does not end the worker's output."""


class OutputCapture:
    """Publishes what the cell prints: Python's streams, and file descriptors 1 and 2."""

    def __init__(self, session: PublishingSession) -> None:
        self._written = threading.Event()
        self.stdout = WorkerStream(session, "stdout", 1, self._written)
        self.stderr = WorkerStream(session, "stderr", 2, self._written)
        self._pipes: dict[int, WorkerStream] = {}
        self._reading = threading.Lock()

    def start(self) -> None:
        """Takes sys.stdout, sys.stderr and the descriptors over and starts the two threads."""
        sys.stdout, sys.stderr = self.stdout, self.stderr
        for stream, descriptor in ((self.stdout, 1), (self.stderr, 2)):
            read_end, write_end = os.pipe()
            os.dup2(write_end, descriptor)
            os.close(write_end)
            os.set_blocking(read_end, False)
            self._pipes[read_end] = stream
        for target in (self._watch_descriptors, self._flush_regularly):
            threading.Thread(target=target, daemon=True, name=target.__name__.strip("_")).start()

    def drain(self) -> None:
        """Publishes all that was written so far, on this thread."""
        self._read_pipes()
        self.stdout.flush()
        self.stderr.flush()

    def _watch_descriptors(self) -> None:
        while True:
            select.select(list(self._pipes), [], [])
            self._read_pipes()

    def _read_pipes(self) -> None:
        with self._reading:
            for pipe, stream in self._pipes.items():
                while data := _read_available(pipe):
                    stream.write_bytes(data)

    def _flush_regularly(self) -> None:
        while True:
            self._written.wait()
            time.sleep(FLUSH_SECONDS)
            self._written.clear()
            self.stdout.flush()
            self.stderr.flush()


def _read_available(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""
