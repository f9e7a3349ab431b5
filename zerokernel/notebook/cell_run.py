"""One `%%gpu` cell from request to commit: a re-entrant serve loop on the main thread."""

from __future__ import annotations

import select
import time
import uuid
from typing import TYPE_CHECKING, Any

from zerokernel.crossing import Committed, Shipment
from zerokernel.errors import (
    BrokerLost,
    ChannelClosed,
    CommitFailed,
    MalformedMessage,
    ZeroKernelError,
)
from zerokernel.messages import (
    CancelRequest,
    CellFinished,
    CellStarted,
    EndWorker,
    FetchName,
    Granted,
    InputReply,
    InputRequest,
    Interrupt,
    LeaseEnded,
    Message,
    Output,
    Queued,
    Refused,
    ReleaseLease,
    RequestLease,
    RunCell,
    WorkerGone,
)
from zerokernel.notebook import failure
from zerokernel.notebook.cell import Cell, sources
from zerokernel.notebook.connection import Connection
from zerokernel.notebook.interrupts import InterruptCount
from zerokernel.notebook.options import CellOptions
from zerokernel.notebook.outputs import OutputRelay
from zerokernel.notebook.receipt import Receipt
from zerokernel.notebook.status import StatusLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerokernel.notebook.worker_link import WorkerLink

TICK_SECONDS = 0.5
"""How often the status line's time is brought up to date."""

SOCKET_BYTES = 32 << 10
"""So much fits into the socket of a worker that is not reading."""

CAUSE_SECONDS = 2.0
"""A worker that is gone is explained by the broker within this time, or not at all."""


class CellRun:
    """Runs one cell. Nothing in the notebook changes before the commit at its end."""

    def __init__(
        self,
        shell: Any,
        connection: Connection,
        cell: Cell,
        options: CellOptions,
        status: StatusLine,
    ) -> None:
        self._shell = shell
        self._connection = connection
        self._client = connection.client
        self._cell = cell
        self._options = options
        self._status = status
        self._relay = OutputRelay(shell)
        self._request = uuid.uuid4().hex
        self._interrupts = InterruptCount()
        # The run's state; changed by the handlers below, on the main thread only.
        self._begun = time.monotonic()
        self._withheld: Shipment | None = None
        self._sent_bytes = 0
        self._granted: Granted | None = None
        self._started_at: float | None = None
        self._interrupted = 0
        self._lost_at: float | None = None
        self._gone: WorkerGone | None = None
        self._lease_end = ""
        self._finished: tuple[CellFinished, bytes, Sequence[Any]] | None = None

    @property
    def request(self) -> str:
        """Id of the run's request, under which it can be cancelled."""
        return self._request

    @property
    def began(self) -> bool:
        """Whether the cell's first line may have run."""
        return self._started_at is not None or self._finished is not None

    def execute(self) -> None:
        """Runs the cell and commits what it changed.

        Raises:
            BaseException: What the cell raised, with the worker's traceback.
            ZeroKernelError: The cell did not run to its end; nothing was changed.
            KeyboardInterrupt: The person stopped it while it waited.
        """
        try:
            self._client.send(
                RequestLease(self._request, self._options.size, self._options.duration)
            )
            self._prepare(self._connection.ensure_link())
            with self._interrupts.counting():
                while self._finished is None or self._granted is None:
                    self._serve(self._wait())
            committed, error = self._commit()
        except BaseException:
            self._give_up()
            raise
        finally:
            self._interrupts.close()
        self._show_receipt(committed)
        if error is not None:
            raise error

    # --- the serve loop -----------------------------------------------------------------

    def _wait(self) -> list[int]:
        """Waits for broker, worker, stop button or the next tick; returns who is ready."""
        link = self._connection.link
        if link is not None and link.pending:
            return [link.fileno()]
        seconds = min(TICK_SECONDS, due) if (due := self._status.due) is not None else TICK_SECONDS
        poll = select.poll()
        for source in (self._client, link, self._interrupts):
            if source is not None:
                poll.register(source, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(seconds * 1000)]

    def _serve(self, ready: list[int]) -> None:
        if self._interrupts.fileno() in ready:
            self._on_interrupt(self._interrupts.take())
        for message in self._client.events():
            self._on_broker(message)
        link = self._connection.link
        if link is not None and (link.pending or link.fileno() in ready):
            self._receive(link)
        self._check_lost()
        self._tick()

    def _receive(self, link: WorkerLink) -> None:
        try:
            received, owners = link.receive(0)
        except TimeoutError:
            return
        except (ChannelClosed, MalformedMessage):
            self._lose_worker()
            return
        message = received.message
        if isinstance(message, CellFinished):
            self._finished = (message, bytes(received.buffers[0]), owners)
        else:
            self._on_worker(link, message, received.buffers)

    def _tick(self) -> None:
        self._status.tick()
        if self._granted is not None and self._started_at is not None:
            elapsed = time.monotonic() - self._started_at
            self._status.running(self._granted.slice, self._granted.limit, elapsed)

    # --- what the broker says -----------------------------------------------------------

    def _on_broker(self, message: Message) -> None:
        if isinstance(message, Queued) and message.request == self._request:
            self._status.queued(message.place, message.starts_in, message.reason)
        elif isinstance(message, Granted) and message.request == self._request:
            self._on_granted(message)
        elif isinstance(message, Refused) and message.request == self._request:
            raise failure.refused(message.code, message.reason)
        elif isinstance(message, WorkerGone):
            self._on_worker_gone(message)
        elif isinstance(message, LeaseEnded) and self._lease == message.lease:
            self._lease_end = message.reason

    def _on_granted(self, granted: Granted) -> None:
        if self._granted is not None:
            return  # said again after a reconnection
        self._granted = granted
        self._status.starting(granted.slice)
        if self._withheld is not None:
            self._send(self._connection.ensure_link(), self._withheld)

    def _on_worker_gone(self, gone: WorkerGone) -> None:
        if self._lost_at is not None and self._gone is None:
            self._gone = gone  # explains the channel that closed before
            return
        if not self._connection.is_our_worker(gone):
            return  # an earlier worker's end, told late
        if self._granted is None:  # evicted while we wait: a new worker gets everything
            self._connection.drop_worker()
            self._prepare(self._connection.ensure_link())
            return
        self._gone = gone
        self._lose_worker()

    @property
    def _lease(self) -> str:
        return self._granted.lease if self._granted is not None else ""

    # --- what the worker says -----------------------------------------------------------

    def _prepare(self, link: WorkerLink) -> None:
        """Stages captures and cell while the request waits.

        What a worker's socket might not hold is withheld until the grant where the worker
        would not read it, or its memory is to be left to others meanwhile.
        """
        shipment = self._connection.replica.ship(self._cell.names)
        self._withheld = shipment
        if shipment.byte_count <= SOCKET_BYTES or link.may_stage(shipment.byte_count):
            self._send(link, shipment)

    def _send(self, link: WorkerLink, shipment: Shipment) -> None:
        self._withheld = None
        self._sent_bytes += link.stage(shipment)
        cell = self._cell
        unknown = sources(self._shell, link.known_files)
        link.known_files |= unknown.keys()
        link.run(
            RunCell(
                request=self._request,
                code=cell.source,
                file=cell.file,
                execution_count=cell.execution_count,
                closed=cell.closed,
                absent=dict(shipment.absent),
                parent=cell.parent,
                history=cell.history,
                sources=unknown,
                output_limits=link.output_limits,
            )
        )

    def _on_worker(self, link: WorkerLink, message: Message, buffers: list[memoryview]) -> None:
        if isinstance(message, CellStarted):
            self._started_at = time.monotonic()
        elif isinstance(message, Output):
            self._tick()
            self._status.before_output()
            self._relay.show(message, buffers)
            if message.type == "clear_output":
                self._status.cleared()
        elif isinstance(message, FetchName):
            self._sent_bytes += link.answer_fetch(message.name, self._connection.replica)
        elif isinstance(message, InputRequest):
            link.send(self._ask(message))

    def _ask(self, request: InputRequest) -> InputReply:
        try:
            return InputReply(self._relay.ask(request.prompt, request.password))
        except KeyboardInterrupt:
            return InputReply("", interrupted=True)

    def _lose_worker(self) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        self._connection.drop_worker()

    def _check_lost(self) -> None:
        """Raises once the end of the worker is explained, or nobody explains it."""
        if self._finished is not None:
            return
        if self._lost_at is None and self._lease_end not in ("", "finished"):
            self._lose_worker()  # the lease is over: nothing of this cell comes home
        if self._lost_at is None:
            return
        if self._gone is not None or time.monotonic() - self._lost_at > CAUSE_SECONDS:
            raise failure.of_worker(self._gone or WorkerGone(self._connection.id, self._lease_end))

    # --- the stop button ----------------------------------------------------------------

    def _on_interrupt(self, count: int) -> None:
        """Before the cell runs an interrupt withdraws it; then the cell gets the first one."""
        self._interrupted += count
        link = self._connection.link
        if self._started_at is None or link is None:
            raise KeyboardInterrupt("stopped before the cell began; nothing was changed")
        if self._interrupted > 1:
            self._client.send(EndWorker(self._connection.id))
            raise KeyboardInterrupt("stopped twice: the worker was ended and nothing was changed")
        link.send(Interrupt())

    def _give_up(self) -> None:
        """Withdraws the request, or releases the lease and lets go of the worker."""
        try:
            if self._granted is None:
                self._client.send(CancelRequest(self._request))
            elif self._finished is None:
                self._client.send(ReleaseLease(self._granted.lease))
                self._connection.drop_worker()
        except BrokerLost:
            self._connection.drop_worker()

    # --- the way home -------------------------------------------------------------------

    def _commit(self) -> tuple[Committed, BaseException | None]:
        assert self._finished is not None
        finished, payload, owners = self._finished
        if finished.status == "stuck":
            self._connection.drop_worker()
            raise CommitFailed(finished.error.get("evalue"))
        try:
            staged = self._connection.replica.stage(payload, owners)
            committed = staged.commit()
        except Exception as error:
            self._connection.drop_worker()  # its objects and ours no longer agree
            if isinstance(error, ZeroKernelError):
                raise
            # A class's own code ran while its new objects were built, and failed.
            raise CommitFailed(
                f"What the cell made could not be rebuilt in the notebook, which is as it was "
                f"before the cell: {type(error).__name__}: {error}"
            ) from error
        if self._connection.link is not None:
            self._connection.link.apply_surroundings(staged.extra.get("ambient") or {})
        self._relay.finish(staged.extra.get("result"))
        self._relay.forward_payload(finished.payload)
        if finished.display_failed:
            self._relay.mark_display_failed()
        if finished.status == "ok":
            return committed, None
        return committed, failure.of_cell(self._shell, staged.extra.get("error"), finished.error)

    def _show_receipt(self, committed: Committed) -> None:
        assert self._finished is not None
        assert self._granted is not None
        self._status.receipt(
            Receipt(
                slice=self._granted.slice,
                ran=self._finished[0].ran,
                waited=self._granted.waited,
                sent_bytes=self._sent_bytes,
                returned_bytes=committed.byte_count,
                total=time.monotonic() - self._begun,
                worker_only=committed.worker_only,
                notes=committed.notes,
            )
        )
