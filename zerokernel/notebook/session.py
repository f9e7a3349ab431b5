"""A session: what the magics of one notebook can do."""

from __future__ import annotations

import contextlib
import importlib
import threading
from typing import TYPE_CHECKING, Any

from zerokernel.errors import (
    BrokerLost,
    ChannelClosed,
    DeviceOutOfMemory,
    UnknownSize,
    WorkerLost,
    WorkerStartFailed,
    ZeroKernelError,
)
from zerokernel.notebook.connection import Connection
from zerokernel.settings import Settings

if TYPE_CHECKING:
    from zerokernel.notebook.cell import Cell
    from zerokernel.notebook.cell_plan import CellPlan
    from zerokernel.notebook.cell_run import CellRun
    from zerokernel.notebook.options import CellOptions
    from zerokernel.notebook.status import StatusLine
    from zerokernel.notebook.story import Story


class Session:
    """Runs the GPU cells of one notebook, one at a time.

    Cheap to make: libraries are imported and connections opened by ``start`` in the
    background, or by the first cell.
    """

    def __init__(self, shell: Any, settings: Settings) -> None:
        self._shell = shell
        self._connection = Connection(shell, settings)
        self._run: CellRun | None = None
        # Held while a cell runs: a subshell's plain cells, or its own, run beside it.
        self._busy = threading.Lock()
        self._story: Story | None = None  # of the latest cell
        # What shows the latest cell's error, by which it is known again; and its worker.
        self._failed: tuple[Any, Any] = (None, None)

    def __repr__(self) -> str:
        return f"<Session {self._connection!r}, {'running' if self._run else 'idle'}>"

    def start(self) -> None:
        """Finds or starts the broker and warms the forkserver, in the background."""
        self._shell.events.register("post_run_cell", self._prune)
        threading.Thread(target=self._start_quietly, daemon=True, name="zerokernel-start").start()

    def _start_quietly(self) -> None:
        try:
            self._connection.open()  # the first cell tries again and says what is wrong
            importlib.import_module("zerokernel.notebook.cell_run")  # so that it needs not
        except (ZeroKernelError, OSError):
            pass
        except RuntimeError:  # an interpreter that ends lets nothing begin
            if threading.main_thread().is_alive():
                raise

    def _prune(self, _result: Any) -> None:
        if not self._busy.acquire(blocking=False):
            return  # a cell runs, of which the notebook's objects are not to be let go of
        try:
            self._connection.prune()
        finally:
            self._busy.release()

    def close(self) -> None:
        """Ends worker and session; the broker takes the slice back."""
        with contextlib.suppress(ValueError):  # never started, or closed before
            self._shell.events.unregister("post_run_cell", self._prune)
        self._connection.close()

    def run(self, body: str, code: str, options: CellOptions, status: StatusLine) -> None:
        """Runs one cell on a leased slice.

        Args:
            body: The cell below its first line.
            code: The same as Python code, magics and shell lines translated.
            options: Of the cell's first line.
            status: Shows where the cell is.

        Raises:
            BaseException: What the cell raised.
            ZeroKernelError: It did not run to its end; the message says what to do.
        """
        from zerokernel.notebook.cell import describe

        self._connection.refresh()
        self._check_size(options.size)
        cell = describe(self._shell, body, code)
        with self._busy:
            self._run_described(cell, options, status)

    def _run_described(self, cell: Cell, options: CellOptions, status: StatusLine) -> None:
        from zerokernel.notebook.cell_run import CellRun

        for last_try in (False, True):
            self._run = CellRun(self._shell, self._connection, cell, options, status)
            self._story = self._run.story
            try:
                self._run.execute()
                return
            except (BrokerLost, WorkerLost, WorkerStartFailed) as error:
                # What died while nobody used it costs the next cell nothing but time.
                if last_try or self._run.began or not error.again:
                    raise
                if isinstance(error, DeviceOutOfMemory):
                    self._end_worker()  # what it holds of earlier cells makes way
            except BaseException as error:
                self._failed = (_lines_of(error), self._connection.link)
                raise
            finally:
                self._run = None
            self._connection.refresh()

    def _end_worker(self) -> None:
        """Has the broker end the worker before it grants the next lease."""
        from zerokernel.messages import EndWorker

        with contextlib.suppress(BrokerLost):
            self._connection.client.send(EndWorker(self._connection.id))

    def plan(self, body: str, code: str, options: CellOptions) -> CellPlan:
        """Says what a cell would bring along, need and wait for. Nothing is leased.

        Args:
            body: The cell below its first line.
            code: The same as Python code, magics and shell lines translated.
            options: Of the cell's first line.

        Raises:
            UnknownSize: There is no such size.
            BrokerUnavailable: Nobody can say how busy the slices are.
        """
        from zerokernel.crossing.forecast import forecast
        from zerokernel.notebook.cell import describe
        from zerokernel.notebook.cell_plan import CellPlan

        status = self.overview()
        self._check_size(options.size)
        names = describe(self._shell, body, code).names
        with self._busy:
            found = forecast(self._connection.replica, names)
        wish = (options.memory, options.capability)
        return CellPlan(found, options.size, options.duration, self._connection.id, status, *wish)

    def _check_size(self, size: str) -> None:
        if size and size not in self.sizes():
            offered = ", ".join(self.sizes())
            raise UnknownSize(f"No slice here has the size {size!r}; there are: {offered}.")

    def has_frames(self, error: BaseException) -> bool | None:
        """Whether the worker still has the frames of an error; None where it is no cell's."""
        lines, link = self._failed
        if lines is None or lines is not _lines_of(error):
            return None
        return link is not None and link is self._connection.link

    def cancel(self) -> str:
        """Withdraws what waits or runs now. For another thread than the one that runs it."""
        from zerokernel.messages import CancelRequest

        run = self._run
        if run is None:
            return "No cell of this notebook waits or runs."
        self._connection.client.send(CancelRequest(run.request))
        return "Cancelled: the cell's request is withdrawn."

    def why(self) -> str:
        """Says what became of the latest cell: why it waits, was slow, was ended or refused."""
        if self._story is None:
            return "No %%gpu cell ran in this notebook yet."
        return self._story.tell()

    def forward_comm(
        self, kind: str, content: dict[str, Any], metadata: dict[str, Any], buffers: list[Any]
    ) -> bool:
        """From any thread: passes on what the front end says on a comm of the worker's.

        Returns:
            False where it is not the worker's, or no cell of it runs.
        """
        from zerokernel.messages import CommMessage

        link = self._connection.link
        if (
            self._run is None
            or link is None
            or content.get("comm_id") not in self._connection.comms
        ):
            return False
        with contextlib.suppress(ChannelClosed):  # the cell ends with the worker, and says why
            link.send(CommMessage(kind, content, metadata), buffers)
        return True

    def restart(self) -> str:
        """Ends the worker; the next cell gets a fresh one."""
        from zerokernel.messages import EndWorker

        if self._connection.link is None:
            return "This notebook has no worker; the next %%gpu cell gets a fresh one."
        self._connection.client.send(EndWorker(self._connection.id))
        self._connection.drop_worker()
        return "The worker was ended; the next %%gpu cell gets a fresh one."

    def has_worker(self) -> bool:
        """Whether a worker holds something of this notebook."""
        if self._connection.link is not None:
            self._connection.refresh()
        return self._connection.link is not None

    def overview(self) -> dict[str, Any]:
        """The broker's status, and this session's part in it, for `%gpu`."""
        connection = self._connection
        connection.refresh()
        mine = {"session": connection.id, "has_worker": connection.link is not None}
        return {**connection.client.status(), **mine}

    def sizes(self) -> tuple[str, ...]:
        """Names of the sizes that may be asked for; () before the broker has answered."""
        opened = self._connection.opened
        return opened.sizes if opened is not None else ()


def _lines_of(error: BaseException) -> Any:
    """What shows an error with the worker's lines; None where it has none of them."""
    return getattr(error, "_render_traceback_", None)
