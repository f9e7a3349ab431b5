"""One notebook's ties: to its broker, to its worker, and what both sides know."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from zerokernel.errors import (
    AuthenticationFailed,
    BrokerLost,
    BrokerUnavailable,
    ChannelClosed,
    WorkerStartFailed,
    ZeroKernelError,
)
from zerokernel.settings import CREDENTIALS, Settings, as_environment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerokernel.client import BrokerClient
    from zerokernel.crossing import KernelReplica
    from zerokernel.messages import OpenSession, SessionOpened, WorkerGone
    from zerokernel.notebook.late_outputs import LateOutputs
    from zerokernel.notebook.worker_link import WorkerLink

_PAUSES = (0.05, 0.2, 0.5)
"""Seconds after each try to reach a supervisor in the place of one that ended."""

_SHELLS_NAMES = ("get_ipython", "exit", "quit", "open")


class Connection:
    """Connects when it is needed, and notices what went away meanwhile.

    Attributes:
        id: The session's: made here; broker and supervisor know it by that.
        link: The channel to the session's worker, None while it has none.
        comms: Ids of the comms that the worker opened: what the front end says on them is for it.
        background_names: What threads and tasks that cells left in the worker may use: the
            worker keeps no other names than those that are sent to it.
    """

    def __init__(self, shell: Any, settings: Settings) -> None:
        self.id = uuid.uuid4().hex
        self.link: WorkerLink | None = None
        self.comms: set[str] = set()
        self.background_names: frozenset[str] = frozenset()
        self._shell = shell
        self._settings = settings
        self._connecting = threading.Lock()
        self._replica: KernelReplica | None = None
        self._client: BrokerClient | None = None
        self._closed = False
        self._wanted: set[str] = set()  # requests of cells that wait or run
        self._failure: ZeroKernelError | None = None  # why the last reconnection failed
        self._late_outputs: LateOutputs | None = None

    def __repr__(self) -> str:
        broker = "connected" if self._client else "not connected"
        worker = f"worker {self.link.process}" if self.link else "no worker"
        return f"<Connection {self.id[:8]} {broker}, {worker}>"

    # --- the broker ---------------------------------------------------------------------

    @property
    def opened(self) -> SessionOpened | None:
        """The broker's answer, None before there is one."""
        client = self._client
        return client.session_opened if client is not None and client.is_open else None

    @property
    def client(self) -> BrokerClient:
        """The connected client. Raises BrokerUnavailable where there is none."""
        if self._client is None:
            raise BrokerUnavailable
        return self._client

    def open(self) -> SessionOpened:
        """Connects to the broker, which it starts where there is none.

        Raises:
            BrokerUnavailable: There is none and none can be started.
        """
        self._closed = False
        with self._connecting:
            if (opened := self.opened) is not None:
                return opened
            return self._connect()

    def _connect(self) -> SessionOpened:
        from zerokernel.client import BrokerClient, ensure_broker

        settings = self._settings
        address, opening = ensure_broker(settings), self._opening()
        client = BrokerClient(
            address,
            opening,
            self._lost,
            max(1, round(settings.broker_silence_seconds / 2)),
        )
        try:
            opened = client.connect(settings.broker_start_seconds)
        except BaseException:
            client.close()
            raise
        before, self._client = self._client, client
        if before is not None:
            before.close()
        for request in set(opening.requests) - self._wanted:
            self._cancel(client, request)  # withdrawn while nobody could be told
        return opened

    def want(self, request: str) -> None:
        """A cell asks for a lease: a broker that is connected anew is told that it still does."""
        self._wanted.add(request)

    def unwant(self, request: str) -> None:
        """The cell is over; no broker keeps a place for it."""
        self._wanted.discard(request)

    def withdraw(self, request: str) -> None:
        """Gives a request or its lease back, whichever broker has it by now."""
        self._wanted.discard(request)
        if (client := self._client) is not None:
            self._cancel(client, request)

    def _cancel(self, client: BrokerClient, request: str) -> None:
        from zerokernel.messages import CancelRequest

        with contextlib.suppress(BrokerLost):
            client.send(CancelRequest(request))

    def _lost(self, client: BrokerClient) -> None:
        """In the client's thread: the broker is gone, but worker and cell may go on."""
        if self._client is not client:
            return
        self._failure = None
        threading.Thread(
            target=self._reconnect, args=(client,), daemon=True, name="zerokernel-reconnect"
        ).start()

    def _reconnect(self, lost: BrokerClient) -> None:
        from zerokernel.client import replace_hung_broker

        with self._connecting:
            if self._client is not lost:
                return  # closed meanwhile, or connected again
            try:
                if self._settings.broker_url:
                    self._connect_to_the_next()
                else:
                    replace_hung_broker(self._settings)
                    self._connect()
                if self._closed:
                    self.close()
            except (ZeroKernelError, OSError) as error:
                self._failure = BrokerLost(
                    "The broker ended, and the notebook cannot go on under another one: "
                    f"{str(error).rstrip('.')}. Nothing was changed; run the cell again."
                )

    def _connect_to_the_next(self) -> None:
        """Connects to a shared broker when it is back. Raises BrokerUnavailable, BrokerLost."""
        from zerokernel.client import wait_for_shared

        until = time.monotonic() + self._settings.broker_start_seconds
        while True:
            wait_for_shared(self._settings)
            try:
                self._connect()
                return
            except (BrokerUnavailable, BrokerLost):
                # What answered may have been the one that is just ending.
                if time.monotonic() >= until:
                    raise

    def client_after(self, lost: BrokerClient) -> BrokerClient | None:
        """Gives the client that took the place of one that was lost, None while there is none.

        Raises:
            BrokerLost: There will be none.
        """
        if self._client is not lost:
            return self._client
        if lost.is_over:
            ended = BrokerLost(f"{BrokerLost()} ({lost.why_lost.rstrip('.')})")
            ended.again = False
            raise ended
        if self._failure is not None:
            raise self._failure
        return None

    def refresh(self) -> None:
        """Between cells: notices that broker or worker went away, and connects again."""
        from zerokernel.messages import WorkerGone

        self.open()
        try:
            events = self.client.events()
        except BrokerLost:
            self.open()
            return
        if any(isinstance(event, WorkerGone) and self.is_our_worker(event) for event in events):
            self.drop_worker()
        if self.link is not None and not self._late.take(self.link):
            self.drop_worker()

    def close(self) -> None:
        """Lets go of worker and broker; the broker takes the slice back."""
        self._closed = True
        self.drop_worker()
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _opening(self) -> OpenSession:
        from zerokernel.client import process_namespace
        from zerokernel.messages import OpenSession

        environment = {**os.environ, **as_environment(self._settings)}
        environment["CUDA_VISIBLE_DEVICES"] = ""
        for name in CREDENTIALS & environment.keys():
            del environment[name]
        return OpenSession(
            self.id,
            _notebook_name(),
            sys.executable,
            environment,
            os.getpid(),
            process_namespace(),
            tuple(self._wanted),
        )

    # --- the worker ---------------------------------------------------------------------

    @property
    def replica(self) -> KernelReplica:
        """The notebook's side of the crossing."""
        if self._replica is None:
            from zerokernel.crossing import KernelReplica
            from zerokernel.crossing.shell import travels_by_name

            hidden = self._shell.user_ns_hidden
            own = {name: hidden[name] for name in _SHELLS_NAMES if name in hidden}
            detection = self._settings.change_detection
            self._replica = KernelReplica(self._shell.user_ns, own, detection)
            travels_by_name(self._shell)
        return self._replica

    def ensure_link(self) -> WorkerLink:
        """The channel to the session's worker; has one forked where there is none.

        Raises:
            WorkerStartFailed: The supervisor does not answer or cannot fork.
        """
        from zerokernel.notebook.worker_link import WorkerLink

        if self.link is None:
            opened = self.open()
            try:
                self.link = WorkerLink.open(opened, self._settings)
            # One that is killed while it checks the secret looks as if it had refused it.
            except (OSError, ChannelClosed, AuthenticationFailed):
                self.link = self._open_elsewhere(opened)
        return self.link

    def _open_elsewhere(self, tried: SessionOpened) -> WorkerLink:
        """The supervisor ended: has another one fork the worker, which the broker starts."""
        from zerokernel.notebook.worker_link import WorkerLink

        for pause in _PAUSES:
            try:
                tried = self._open_after(tried)
                return WorkerLink.open(tried, self._settings)
            except (OSError, ChannelClosed, AuthenticationFailed) as error:
                failure = error
                time.sleep(pause)  # the broker may hear of that end later than we
        why = str(failure).rstrip(".")
        raise WorkerStartFailed(f"The worker could not be started: {why}.") from failure

    def _open_after(self, tried: SessionOpened) -> SessionOpened:
        """The broker's next answer: opening a session makes its supervisor ready."""
        with self._connecting:
            opened = self.opened
            return self._connect() if opened is None or opened == tried else opened

    def is_our_worker(self, gone: WorkerGone) -> bool:
        """Whether the worker that ended is the one that this session has now."""
        return self.link is not None and gone.process in (0, self.link.process)

    @property
    def _late(self) -> LateOutputs:
        if self._late_outputs is None:
            from zerokernel.notebook.late_outputs import LateOutputs

            self._late_outputs = LateOutputs(self._shell, self.comms)
        return self._late_outputs

    def watch_late_outputs(self) -> None:
        """A cell is over; what it left running may go on to show something."""
        if self.link is not None:
            self._late.watch(self.link)

    def keep_for_background(self, names: Iterable[str]) -> None:
        """Adds names of a cell after which something goes on in the worker."""
        self.background_names = self.background_names.union(names)

    def begin_cell(self) -> None:
        """Another cell is to run: what the one before left running keeps its lease no longer."""
        from zerokernel.messages import NextCell

        self._late.unwatch()
        if self.link is not None and self.link.left_running:
            with contextlib.suppress(ChannelClosed):  # it is noticed where it is used
                self.link.send(NextCell())

    def drop_worker(self) -> None:
        """Forgets the worker; what is sent next is sent whole."""
        link, self.link = self.link, None
        self._late.unwatch()
        self.comms.clear()
        self.background_names = frozenset()
        if link is not None:
            link.close()
        if self._replica is not None:
            self._replica.forget_worker()

    def prune(self) -> None:
        """After each cell: lets go of objects that only the crossing still holds."""
        if self._replica is not None:
            self._replica.prune()


def _notebook_name() -> str:
    path = os.environ.get("JPY_SESSION_NAME", "")
    return os.path.basename(path) or f"process {os.getpid()}"
