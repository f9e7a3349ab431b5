"""A session: one notebook's namespace, its broker and its worker."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

from zerokernel.errors import BrokerLost, BrokerUnavailable, UnknownSize, ZeroKernelError
from zerokernel.settings import Settings, as_environment

if TYPE_CHECKING:
    from zerokernel.client import BrokerClient
    from zerokernel.crossing import KernelReplica
    from zerokernel.messages import OpenSession, SessionOpened, WorkerGone
    from zerokernel.notebook.cell_run import Cell, CellRun
    from zerokernel.notebook.options import CellOptions
    from zerokernel.notebook.status import StatusLine
    from zerokernel.notebook.worker_link import WorkerLink

_NOTHING = object()
_SHELLS_NAMES = ("get_ipython", "exit", "quit", "open")

WHOLE_NAMESPACE_NAMES = 10_000
"""A cell that may look at any name (`globals()`, `%who`) is sent so many at the most."""


class Session:
    """Ties one notebook to a broker and, while it has one, to a worker.

    Cheap to make: libraries are imported and connections opened by ``start`` in the
    background, or by the first cell.

    Attributes:
        id: Made here; the broker and the supervisor know the session by it.
        link: The channel to the session's worker, None while it has none.
    """

    def __init__(self, shell: Any, settings: Settings) -> None:
        self.id = uuid.uuid4().hex
        self.shell = shell
        self.settings = settings
        self.link: WorkerLink | None = None
        self._replica: KernelReplica | None = None
        self._client: BrokerClient | None = None
        self._opened: SessionOpened | None = None
        self._connecting = threading.Lock()
        self._run: CellRun | None = None

    def __repr__(self) -> str:
        worker = "with" if self.link else "without"
        return f"<Session {self.id[:8]} {worker} worker>"

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Finds or starts the broker and warms the forkserver, in the background."""
        self.shell.events.register("post_run_cell", self._prune)
        threading.Thread(target=self._start_quietly, daemon=True, name="zerokernel-start").start()

    def _start_quietly(self) -> None:
        with contextlib.suppress(ZeroKernelError, OSError):
            self.connect()  # the first cell tries again and says what is wrong

    def connect(self) -> SessionOpened:
        """Connects to the broker, which it starts where there is none.

        Raises:
            BrokerUnavailable: There is none and none can be started.
        """
        from zerokernel.client import BrokerClient, ensure_broker

        with self._connecting:
            if self._client is not None and self._opened is not None:
                return self._opened
            client = BrokerClient(ensure_broker(self.settings), self._opening())
            try:
                self._opened = client.connect(self.settings.broker_start_seconds)
            except BaseException:
                client.close()
                raise
            self._client = client
            return self._opened

    def close(self) -> None:
        """Ends worker and session; the broker takes the slice back."""
        with contextlib.suppress(ValueError):  # never started, or closed before
            self.shell.events.unregister("post_run_cell", self._prune)
        self.drop_worker()
        self._disconnect()

    def _disconnect(self) -> None:
        client, self._client, self._opened = self._client, None, None
        if client is not None:
            client.close()

    def _opening(self) -> OpenSession:
        from zerokernel.messages import OpenSession

        environment = {**os.environ, **as_environment(self.settings)}
        environment["CUDA_VISIBLE_DEVICES"] = ""
        return OpenSession(self.id, _notebook_name(), sys.executable, environment)

    # --- what the magics call -----------------------------------------------------------

    def run(self, body: str, options: CellOptions, status: StatusLine) -> None:
        """Runs one cell on a leased slice.

        Raises:
            BaseException: What the cell raised.
            ZeroKernelError: It did not run to its end; the message says what to do.
        """
        from zerokernel.notebook.cell_run import CellRun

        self._check_connection()
        if options.size and options.size not in self.connect().sizes:
            offered = ", ".join(self.sizes())
            raise UnknownSize(f"No slice here has the size {options.size!r}; there are: {offered}.")
        run = CellRun(self, self._describe(body), options, status)
        self._run = run
        try:
            run.execute()
        except BrokerLost:
            self.drop_worker()
            self._disconnect()
            raise
        finally:
            self._run = None

    def cancel(self) -> str:
        """Withdraws what waits or runs now. For another thread than the one that runs it."""
        from zerokernel.messages import CancelRequest

        run = self._run
        if run is None or self._client is None:
            return "No cell of this notebook waits or runs."
        self._client.send(CancelRequest(run.request))
        return "Cancelled: the cell's request is withdrawn."

    def restart(self) -> str:
        """Ends the worker; the next cell gets a fresh one."""
        from zerokernel.messages import EndWorker

        if self.link is None or self._client is None:
            return "This notebook has no worker; the next %%gpu cell gets a fresh one."
        self._client.send(EndWorker(self.id))
        self.drop_worker()
        return "The worker was ended; the next %%gpu cell gets a fresh one."

    def overview(self) -> dict[str, Any]:
        """The broker's status, and this session's part in it, for `%gpu`."""
        self._check_connection()
        self.connect()
        return {**self.client.status(), "session": self.id, "has_worker": self.link is not None}

    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes that may be asked for; () before the broker has answered."""
        return self._opened.sizes if self._opened is not None else ()

    # --- what a run needs ---------------------------------------------------------------

    @property
    def client(self) -> BrokerClient:
        """The connected client. Raises BrokerUnavailable where there is none."""
        if self._client is None:
            raise BrokerUnavailable
        return self._client

    @property
    def replica(self) -> KernelReplica:
        """The notebook's side of the crossing."""
        if self._replica is None:
            from zerokernel.crossing import KernelReplica

            hidden = self.shell.user_ns_hidden
            own = {name: hidden[name] for name in _SHELLS_NAMES if name in hidden}
            self._replica = KernelReplica(self.shell.user_ns, own)
        return self._replica

    def ensure_link(self) -> WorkerLink:
        """The channel to the session's worker; has one forked where there is none."""
        from zerokernel.errors import ChannelClosed, WorkerStartFailed
        from zerokernel.notebook.worker_link import WorkerLink

        if self.link is None:
            try:
                self.link = WorkerLink.open(self.connect(), self.settings)
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

    def surroundings(self) -> dict[str, Any]:
        """The state around the namespace that goes with a cell."""
        from zerokernel.crossing import ambient

        return ambient.capture_ambient()

    def cell_sources(self, known: set[str]) -> dict[str, dict[str, Any]]:
        """Source and number of the cells that were compiled here, by file name.

        Args:
            known: Files to leave out.
        """
        numbers: dict[str, int] = self.shell.compile._filename_map
        return {
            file: {"source": "".join(linecache.getlines(file)), "number": numbers[file]}
            for file in numbers.keys() - known
        }

    def mark_display_failed(self) -> None:
        """Has the shell report the cell as failed: showing its result raised in the worker."""
        self.shell._last_traceback_during_displayhook = True

    def apply_surroundings(self, changed: dict[str, Any] | None) -> None:
        """Writes what the cell changed of that state."""
        from zerokernel.crossing import ambient

        if changed:
            ambient.apply(changed)

    def ask_input(self, prompt: str, password: bool) -> str:
        """Asks the person, as input() and getpass() do in this kernel."""
        import builtins
        import getpass

        return getpass.getpass(prompt) if password else builtins.input(prompt)

    def forward_payload(self, payload: tuple[dict[str, Any], ...]) -> None:
        """Passes on what the cell asks of the front end (a pager, the next cell's text)."""
        manager = getattr(self.shell, "payload_manager", None)
        for item in payload:
            if manager is not None:
                manager.write_payload(item)

    # --- inside -------------------------------------------------------------------------

    def _prune(self, _result: Any) -> None:
        """After each cell: lets go of objects that only the crossing still holds."""
        if self._replica is not None:
            self._replica.prune()

    def _check_connection(self) -> None:
        """Notices, between cells, that the broker or the worker went away."""
        from zerokernel.messages import WorkerGone

        self.connect()
        try:
            events = self.client.events()
        except BrokerLost:
            self.drop_worker()
            self._disconnect()
            self.connect()
            return
        if any(isinstance(event, WorkerGone) and self.is_our_worker(event) for event in events):
            self.drop_worker()
        if self.link is not None and not self.link.is_alive():
            self.drop_worker()

    def _describe(self, body: str) -> Cell:
        from zerokernel.notebook.analysis import captures
        from zerokernel.notebook.cell_run import Cell

        shell = self.shell
        body = body.removesuffix("\n")  # which IPython added: a plain cell is named without it
        found = captures(body, shell.user_ns, shell.transform_cell)
        wanted = found.names
        if found.whole_namespace:
            hidden = shell.user_ns_hidden
            all_names = (n for n, v in shell.user_ns.items() if hidden.get(n, _NOTHING) is not v)
            wanted = (*wanted, *itertools.islice(all_names, WHOLE_NAMESPACE_NAMES))
        kernel = getattr(shell, "kernel", None)
        running = shell.displayhook.exec_result
        history = running is None or bool(running.info.store_history)
        # A cell that is kept in the history has raised the count before it runs.
        number = shell.execution_count - history
        return Cell(
            source=body,
            file=shell.compile.cache(shell.transform_cell(body), number, body),
            names=wanted,
            closed=found.closed,
            execution_count=number,
            history=history,
            parent=kernel.get_parent() if kernel is not None else {},
        )


def _notebook_name() -> str:
    path = os.environ.get("JPY_SESSION_NAME", "")
    return os.path.basename(path) or f"process {os.getpid()}"
