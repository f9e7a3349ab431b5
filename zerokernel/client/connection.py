"""A session with a broker: one WebSocket in a thread of its own.

The notebook's main thread sends and drains without ever waiting for the network; it can
select on `BrokerClient.fileno` beside its worker's channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from tornado import httpclient, websocket

from zerokernel import errors
from zerokernel.client import rest
from zerokernel.client.address import BrokerAddress
from zerokernel.client.closing import DONE, CloseCode
from zerokernel.errors import (
    BrokerLost,
    BrokerUnavailable,
    MalformedMessage,
    ProtocolMismatch,
    RequestRefused,
    TokenRefused,
    WorkerStartFailed,
    ZeroKernelError,
)
from zerokernel.messages import (
    CancelRequest,
    Granted,
    Message,
    OpenSession,
    Refused,
    RequestLease,
    SessionOpened,
    WorkerGone,
    decode,
    encode,
)

PING_SECONDS = 1.0
SILENT_PINGS = 4
"""So many pings without any answer, and the broker is taken for lost. Pings are counted, not
seconds: a cell that holds the interpreter's lock for a minute must not look like a dead broker."""

_CONNECT_SECONDS = PING_SECONDS * SILENT_PINGS
_LARGEST_MESSAGE = 16 << 20
_UNAUTHORIZED = 401
_JOIN_SECONDS = 1.0
_HAND_OVER_SECONDS = 0.002
"""A sender waits so long for its message to be on its way: far more than that takes."""


class BrokerClient:
    """One session with a broker.

    All methods may be called from any thread.

    Args:
        address: Of the broker.
        opening: Sent first; its session id names this session.
        on_lost: Called in the client's thread when an open session's connection is lost, and
            neither side had ended it.
        silent_pings: So many without an answer mean that the broker hangs; one a second.
    """

    def __init__(
        self,
        address: BrokerAddress,
        opening: OpenSession,
        on_lost: Callable[[BrokerClient], None] = lambda client: None,
        silent_pings: int = SILENT_PINGS,
    ) -> None:
        self.address = address
        self._on_lost = on_lost
        self._silent_pings = silent_pings
        self._opening = opening
        self._readable = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        # Guarded by _lock, changed by the client's thread: what arrived and what became of it.
        self._lock = threading.Condition()
        self._inbox: deque[Message] = deque()
        self._opened: SessionOpened | None = None
        self._failure: ZeroKernelError | None = None
        # Only the client's thread touches these.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: websocket.WebSocketClientConnection | None = None
        self._unsent: deque[bytes] = deque()
        self._ended = asyncio.Event()
        self._silent = 0
        self._is_over = False  # one side said that the session is over

    def __repr__(self) -> str:
        state = "lost" if self._failure else "open" if self._opened else "opening"
        return f"<BrokerClient {self._opening.session} at {self.address.url}: {state}>"

    # --- the session --------------------------------------------------------------------

    def start(self) -> None:
        """Begins to connect and returns at once. Repeating it changes nothing."""
        with self._lock:
            if self._thread is not None:
                return
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._run, args=(self._loop,), name="zerokernel-broker", daemon=True
            )
            self._thread.start()

    def connect(self, timeout: float) -> SessionOpened:
        """Connects and waits until the session is open and its supervisor ready.

        Raises:
            BrokerUnavailable: Nobody answers, or not within ``timeout`` seconds.
            ProtocolMismatch: The broker speaks another version.
            WorkerStartFailed: The supervisor could not be started.
        """
        self.start()
        return self._wait_opened(timeout)

    @property
    def session_opened(self) -> SessionOpened:
        """The broker's answer; waits for it, and raises what `connect` raises."""
        return self._wait_opened(None)

    @property
    def is_open(self) -> bool:
        """Whether the session is open now."""
        return self._opened is not None and self._failure is None

    @property
    def is_over(self) -> bool:
        """Whether one side said that the session is over, so that nobody connects again."""
        return self._is_over

    @property
    def why_lost(self) -> str:
        """Why it is lost or over, "" while it is not."""
        return str(self._failure or "")

    def _wait_opened(self, timeout: float | None) -> SessionOpened:
        with self._lock:
            done = self._lock.wait_for(lambda: self._opened or self._failure, timeout)
            if self._failure is not None:
                raise self._failure
            if not done or self._opened is None:
                raise BrokerUnavailable(
                    f"The broker at {self.address.url} did not open the session within "
                    f"{timeout:g} s."
                )
            return self._opened

    def fileno(self) -> int:
        """Descriptor that is readable while `events` has something to give or to raise."""
        return self._readable

    def events(self) -> list[Message]:
        """Gives what arrived, without waiting; [] if nothing did.

        Raises:
            BrokerLost: The connection is gone, and everything that had arrived was given.
        """
        with self._lock:
            messages = list(self._inbox)
            self._inbox.clear()
            if self._failure is None:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._readable)
            elif not messages:
                raise self._failure
            return messages

    def send(self, message: Message) -> None:
        """Sends a message; returns at once. Raises BrokerLost if the connection is gone."""
        data = encode(message)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._loop is None:
                raise BrokerLost("The session is not connected.")
            written = threading.Lock()
            written.acquire()
            self._loop.call_soon_threadsafe(self._write_for, data, written)
        if threading.current_thread() is not self._thread:
            # A thread that computes on keeps the other from running for 5 ms: let it go first.
            written.acquire(timeout=_HAND_OVER_SECONDS)

    def close(self) -> None:
        """Ends the connection, and with it the session's lease and worker. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                self._loop.call_soon_threadsafe(self._stop)
            # One that still connects gives up by itself soon, and is not waited for.
            thread.join(_JOIN_SECONDS)
        with self._lock:
            self._failure = self._failure or BrokerLost("The session was closed.")
            descriptor, self._readable = self._readable, -1
        if descriptor >= 0:
            os.close(descriptor)

    # --- commands -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Gives slices, queue and sessions. Raises BrokerUnavailable."""
        return rest.fetch_status(self.address)

    def usage(self) -> dict[str, Any]:
        """Gives this person's books in milliseconds. Raises BrokerUnavailable."""
        return rest.fetch_usage(self.address)

    def cancel(self, request: str) -> None:
        """Cancels a request, or releases its lease if it was granted meanwhile."""
        self.send(CancelRequest(request))

    def end_worker(self, session: str | None = None) -> None:
        """Ends a session's worker, by default this one's. Raises LookupError."""
        rest.end_worker(self.address, session or self._opening.session)

    @contextlib.contextmanager
    def lease(self, size: str, duration: float, timeout: float | None = None) -> Iterator[Granted]:
        """Holds a lease for the block, for callers that do nothing else with the session.

        Raises:
            RequestRefused, BadDuration, UnknownSize: As the broker says.
            TimeoutError: It was not granted within ``timeout`` seconds.
        """
        request = uuid4().hex
        self.send(RequestLease(request, size, duration))
        try:
            yield self._wait_granted(request, timeout)
        finally:
            with contextlib.suppress(BrokerLost):
                self.send(CancelRequest(request))  # releases it where it was granted

    def _wait_granted(self, request: str, timeout: float | None) -> Granted:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            for message in self.events():
                if isinstance(message, Granted) and message.request == request:
                    return message
                if isinstance(message, Refused) and message.request == request:
                    raise refusal(message)
            wait = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self], [], [], wait)[0]:
                raise TimeoutError

    # --- in the client's thread ---------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._serve())
        except ZeroKernelError as error:
            self._lose(error)
        except Exception as error:
            self._lose(BrokerLost(f"The connection to the broker failed: {error!r}"))
        finally:
            self._lose(BrokerLost("The connection to the broker ended."))
            _finish(loop)
            if self._opened is not None and not self._is_over:
                self._on_lost(self)

    async def _serve(self) -> None:
        self._socket = await self._open_socket()
        self._socket.on_pong = self._heard  # type: ignore[method-assign]  # tornado's hook
        protocol = self._socket.protocol
        assert protocol is not None
        stream = protocol.stream
        assert stream is not None
        stream.set_nodelay(True)
        try:
            if not self._ended.is_set():
                self._write(encode(self._opening))
            while self._unsent:
                self._write(self._unsent.popleft())
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), PING_SECONDS)
                self._ping()
        finally:
            self._socket.close(DONE if self._is_over else None)
            # Not after the other side's answer, which a dead one never gives.
            stream.close()

    async def _open_socket(self) -> websocket.WebSocketClientConnection:
        request = httpclient.HTTPRequest(
            self.address.url.replace("http", "ws", 1) + "/v1/events",
            headers={"Authorization": f"token {self.address.token}"},
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_CONNECT_SECONDS,
            ssl_options=self.address.tls,
        )
        try:
            return await websocket.websocket_connect(
                request,
                on_message_callback=self._arrived,
                max_message_size=_LARGEST_MESSAGE,
            )
        except httpclient.HTTPClientError as error:
            if error.code == _UNAUTHORIZED:
                raise TokenRefused(
                    f"The broker at {self.address.url} refused the token, which is unknown or has "
                    "expired. Ask its administrator for a new one."
                ) from error
            raise BrokerUnavailable(
                f"The broker at {self.address.url} refused the connection: {error.message}."
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise BrokerUnavailable(rest.untrusted(self.address, error)) from error
        except (OSError, httpclient.HTTPError, websocket.WebSocketError) as error:
            raise BrokerUnavailable(
                f"The broker at {self.address.url} cannot be reached: {error}."
            ) from error

    def _write_for(self, data: bytes, written: threading.Lock) -> None:
        try:
            self._write(data)
        finally:
            written.release()

    def _write(self, data: bytes) -> None:
        if self._socket is None:
            self._unsent.append(data)  # still connecting: it goes out after the opening
            return
        try:
            sent = self._socket.write_message(data)
        except websocket.WebSocketClosedError:
            return  # _arrived(None) has said or will say so
        sent.add_done_callback(lambda done: done.exception())

    def _ping(self) -> None:
        if self._ended.is_set() or self._socket is None:
            return
        if self._silent >= self._silent_pings:
            self._lose(BrokerLost(f"The broker did not answer for {self._silent} s."))
            self._ended.set()
            return
        self._silent += 1
        with contextlib.suppress(websocket.WebSocketClosedError):
            self._socket.ping()

    def _heard(self, data: bytes = b"") -> None:
        self._silent = 0

    def _arrived(self, data: str | bytes | None) -> None:
        self._heard()
        if data is None:
            self._lose(self._why_closed())
            self._ended.set()
            return
        try:
            message = decode(data)
        except MalformedMessage as error:
            self._lose(ProtocolMismatch(f"The broker sent what is not understood: {error}"))
            self._ended.set()
            return
        self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, SessionOpened):
            with self._lock:
                self._opened = message  # again where the supervisor was started anew
                self._lock.notify_all()
        elif isinstance(message, WorkerGone) and self._opened is None:
            self._lose(WorkerStartFailed(message.detail or None))
        else:
            with self._lock:
                self._inbox.append(message)
                self._wake()

    def _why_closed(self) -> ZeroKernelError:
        code = self._socket.close_code if self._socket is not None else None
        reason = (self._socket.close_reason if self._socket is not None else None) or None
        # With a code of its own the broker ended the session; without one it was lost.
        self._is_over = code in tuple(CloseCode)
        make: Callable[[str | None], ZeroKernelError] = BrokerLost
        if code == CloseCode.PROTOCOL:
            make = ProtocolMismatch
        elif code == CloseCode.MALFORMED:
            make = MalformedMessage
        elif code == CloseCode.START_FAILED:
            make = WorkerStartFailed
        return make(reason)

    def _lose(self, error: ZeroKernelError) -> None:
        """Takes down why the session is over; the first reason stays."""
        with self._lock:
            self._failure = self._failure or error
            self._lock.notify_all()
            self._wake()

    def _wake(self) -> None:
        if self._readable >= 0:
            os.eventfd_write(self._readable, 1)

    def _stop(self) -> None:
        self._is_over = True
        self._lose(BrokerLost("The session was closed."))
        self._ended.set()


def refusal(message: Refused) -> ZeroKernelError:
    """Gives the error that a refusal's code names."""
    kind = getattr(errors, message.code, None)
    if not (isinstance(kind, type) and issubclass(kind, ZeroKernelError)):
        kind = RequestRefused
    return kind(message.reason or None)


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Ends what still runs in the loop, and closes it."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()
