"""One notebook's ties: to its broker, to its worker, and what both sides know."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

from zerokernel.errors import (
    BrokerLost,
    BrokerUnavailable,
    ChannelClosed,
    WorkerStartFailed,
)
from zerokernel.settings import Settings, as_environment

if TYPE_CHECKING:
    from zerokernel.client import BrokerClient
    from zerokernel.crossing import KernelReplica
    from zerokernel.messages import OpenSession, SessionOpened, WorkerGone
    from zerokernel.notebook.worker_link import WorkerLink

_SHELLS_NAMES = ("get_ipython", "exit", "quit", "open")


class Connection:
    """Connects when it is needed, and notices what went away meanwhile.

    Attributes:
        id: The session's: made here; broker and supervisor know it by that.
        link: The channel to the session's worker, None while it has none.
    """

    def __init__(self, shell: Any, settings: Settings) -> None:
        self.id = uuid.uuid4().hex
        self.link: WorkerLink | None = None
        self._shell = shell
        self._settings = settings
        self._connecting = threading.Lock()
        self._replica: KernelReplica | None = None
        self._client: BrokerClient | None = None
        self._opened: SessionOpened | None = None

    def __repr__(self) -> str:
        broker = "connected" if self._client else "not connected"
        worker = f"worker {self.link.process}" if self.link else "no worker"
        return f"<Connection {self.id[:8]} {broker}, {worker}>"

    # --- the broker ---------------------------------------------------------------------

    @property
    def opened(self) -> SessionOpened | None:
        """The broker's answer, None before there is one."""
        return self._opened

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
        from zerokernel.client import BrokerClient, ensure_broker

        with self._connecting:
            if self._client is not None and self._opened is not None:
                return self._opened
            client = BrokerClient(ensure_broker(self._settings), self._opening())
            try:
                self._opened = client.connect(self._settings.broker_start_seconds)
            except BaseException:
                client.close()
                raise
            self._client = client
            return self._opened

    def refresh(self) -> None:
        """Between cells: notices that broker or worker went away, and connects again."""
        from zerokernel.messages import WorkerGone

        self.open()
        try:
            events = self.client.events()
        except BrokerLost:
            self.close()
            self.open()
            return
        if any(isinstance(event, WorkerGone) and self.is_our_worker(event) for event in events):
            self.drop_worker()
        if self.link is not None and not self.link.is_alive():
            self.drop_worker()

    def close(self) -> None:
        """Lets go of worker and broker; the broker takes the slice back."""
        self.drop_worker()
        client, self._client, self._opened = self._client, None, None
        if client is not None:
            client.close()

    def _opening(self) -> OpenSession:
        from zerokernel.messages import OpenSession

        environment = {**os.environ, **as_environment(self._settings)}
        environment["CUDA_VISIBLE_DEVICES"] = ""
        return OpenSession(self.id, _notebook_name(), sys.executable, environment)

    # --- the worker ---------------------------------------------------------------------

    @property
    def replica(self) -> KernelReplica:
        """The notebook's side of the crossing."""
        if self._replica is None:
            from zerokernel.crossing import KernelReplica

            hidden = self._shell.user_ns_hidden
            own = {name: hidden[name] for name in _SHELLS_NAMES if name in hidden}
            self._replica = KernelReplica(self._shell.user_ns, own)
        return self._replica

    def ensure_link(self) -> WorkerLink:
        """The channel to the session's worker; has one forked where there is none.

        Raises:
            WorkerStartFailed: The supervisor does not answer or cannot fork.
        """
        from zerokernel.notebook.worker_link import WorkerLink

        if self.link is None:
            try:
                self.link = WorkerLink.open(self.open(), self._settings)
            except (OSError, ChannelClosed) as error:
                raise WorkerStartFailed(f"The worker could not be started: {error}.") from error
        return self.link

    def is_our_worker(self, gone: WorkerGone) -> bool:
        """Whether the worker that ended is the one that this session has now."""
        return self.link is not None and gone.process in (0, self.link.process)

    def drop_worker(self) -> None:
        """Forgets the worker; what is sent next is sent whole."""
        link, self.link = self.link, None
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
