"""One `%%gpu` cell from request to commit: a re-entrant serve loop on the main thread."""

from __future__ import annotations

import contextlib
import dataclasses
import select
import time
import uuid
from typing import TYPE_CHECKING, Any

from IPython.core.error import StdinNotImplementedError

from zerokernel.ambient import Changes
from zerokernel.ambient.submodules import mentioned
from zerokernel.crossing import Shipment
from zerokernel.errors import BrokerLost, ChannelClosed, MalformedMessage
from zerokernel.lifecycle import Cause
from zerokernel.messages import (
    END_OF_INPUT,
    CellFinished,
    CellStarted,
    EndWorker,
    FetchName,
    Granted,
    InputReply,
    InputRequest,
    Interrupt,
    InterruptSeen,
    LeaseEnded,
    LimitExtended,
    Message,
    Output,
    Queued,
    Refused,
    RequestLease,
    RunCell,
    WorkerGone,
)
from zerokernel.notebook import failure
from zerokernel.notebook.broker_line import BrokerLine
from zerokernel.notebook.cell import Cell, sources
from zerokernel.notebook.connection import Connection
from zerokernel.notebook.homecoming import Finished, Home, bring_home
from zerokernel.notebook.interrupts import InterruptCount
from zerokernel.notebook.options import CellOptions
from zerokernel.notebook.outputs import OutputRelay
from zerokernel.notebook.receipt import Receipt
from zerokernel.notebook.status import EXTENDED, StatusLine
from zerokernel.notebook.story import Story
from zerokernel.notebook.worker_loss import WorkerLoss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerokernel.notebook.worker_link import WorkerLink

TICK_SECONDS = 0.5
"""How often the status line's time is brought up to date."""

SOCKET_BYTES = 32 << 10
"""So much fits into the socket of a worker that is not reading."""

RECONNECT_TICK_SECONDS = 0.05
"""So often it is looked whether another broker serves, while the one before is gone."""

IGNORED_SECONDS = 2.0
"""A cell to which an interrupt did not get within this time is inside one long call."""


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
        self._broker = BrokerLine(connection)
        self._cell = cell
        self._options = options
        self._status = status
        self._relay = OutputRelay(shell, connection.comms)
        self._request = uuid.uuid4().hex
        self.story = Story(cell.execution_count)
        self._interrupts = InterruptCount()
        # The run's state; changed by the handlers below, on the main thread only.
        self._begun = time.monotonic()
        self._withheld: Shipment | None = None
        self._news = Changes({}, {}, {}, [])  # of the surroundings, to go with the cell
        self._notes: list[str] = []
        self._sent_bytes = 0
        self._granted: Granted | None = None
        self._must_end = ""
        self._started_at: float | None = None
        self._interrupted = 0
        self._unseen_since: float | None = None  # an interrupt that Python did not see yet
        self._loss = WorkerLoss(connection.id)
        self._finished: Finished | None = None

    @property
    def request(self) -> str:
        """Id of the run's request, under which it can be cancelled."""
        return self._request

    @property
    def began(self) -> bool:
        """Whether the cell's first line may have run."""
        finished = self._finished is not None and self._finished.said.status != "stuck"
        return self._started_at is not None or finished

    def execute(self) -> None:
        """Runs the cell and commits what it changed.

        Raises:
            BaseException: What the cell raised, with the worker's traceback.
            ZeroKernelError: The cell did not run to its end; nothing was changed.
            KeyboardInterrupt: The person stopped it while it waited.
        """
        try:
            self._connection.begin_cell()
            self._ask_for_lease()
            with self._noticing_loss():
                self._prepare(self._connection.ensure_link())
            self.story.prepared()
            with self._interrupts.counting():
                while self._finished is None or self._granted is None:
                    ready = self._wait()
                    with self._noticing_loss():
                        self._serve(ready)
            home = bring_home(
                self._finished, self._shell, self._connection, self._relay, self._cell.names
            )
        except BaseException as error:
            self._give_up()
            self.story.ended(self._sent_bytes, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self._interrupts.close()
            self._connection.unwant(self._request)
            self._connection.watch_late_outputs()
        self.story.ended(self._sent_bytes, home.committed.byte_count)
        self._show_receipt(home)
        if home.error is not None:
            raise home.error

    # --- the serve loop -----------------------------------------------------------------

    def _wait(self) -> list[int]:
        """Waits for broker, worker, stop button or the next tick; returns who is ready."""
        link = self._connection.link if self._finished is None else None
        if link is not None and link.pending:
            return [link.fileno()]
        seconds = TICK_SECONDS if (due := self._status.due) is None else min(TICK_SECONDS, due)
        poll = select.poll()
        if not self._broker.register(poll):
            return []
        if self._broker.away:
            seconds = RECONNECT_TICK_SECONDS
        for source in (link, self._interrupts):
            if source is not None:
                poll.register(source, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(seconds * 1000)]

    def _serve(self, ready: list[int]) -> None:
        if self._interrupts.fileno() in ready:
            self._on_interrupt(self._interrupts.take())
        for message in self._broker.events():
            self._on_broker(message)
        if self._broker.away:
            self._find_next_broker()
        link = self._connection.link if self._finished is None else None
        if link is not None and (link.pending or link.fileno() in ready):
            self._receive(link)
        self._check_lost()
        self._tick()

    def _receive(self, link: WorkerLink) -> bool:
        """Takes a message of the worker's in; False where there is none."""
        try:
            received, owners = link.receive(0)
        except TimeoutError:
            return False
        except (ChannelClosed, MalformedMessage):
            self._lose_worker()
            return False
        message = received.message
        if isinstance(message, CellFinished):
            self._finished = Finished(message, bytes(received.buffers[0]), owners)
            self.story.returned(message.ran)
        else:
            self._on_worker(link, message, received.buffers)
        return True

    def _tick(self) -> None:
        self._status.tick()
        now = time.monotonic()
        if self._granted is not None and self._started_at is not None:
            note = self._must_end
            if not note and self._granted.limit > self._options.duration:
                note = EXTENDED
            elapsed = now - self._started_at
            self._status.running(self._granted.slice, self._granted.limit, elapsed, note)
        if self._unseen_since is not None and now - self._unseen_since > IGNORED_SECONDS:
            self._end_worker(
                f"the cell did not react to the interrupt for {IGNORED_SECONDS:g} s (it is inside "
                "one long call): its worker was ended and nothing was changed"
            )

    # --- the broker ---------------------------------------------------------------------

    def _ask_for_lease(self) -> None:
        options = self._options
        self._connection.want(self._request)
        self._broker.tell(
            RequestLease(
                self._request,
                options.size,
                options.duration,
                options.firm,
                options.memory,
                options.capability,
            )
        )

    def _find_next_broker(self) -> None:
        """Goes on under the next broker; a cell that runs does not even need one.

        Raises:
            BrokerLost: There is none, and the cell had not begun.
        """
        try:
            found = self._broker.find_next()
        except BrokerLost:
            if not self.began:
                raise
            return
        if not found:
            return
        self.story.broker_replaced()
        if not self.began and (not self._loss.noticed or self._granted is None):
            self._ask_for_lease()  # with the same id: what was granted is told again
            return
        for message in self._broker.events():
            self._on_broker(message)
        if self.began and self._granted is None:
            # It does not know the lease any more, and must not queue what has run.
            self._granted = self._unknown_grant(f"{self._request}.")

    def _on_broker(self, message: Message) -> None:
        if isinstance(message, Queued) and message.request == self._request:
            self._status.queued(message.place, message.starts_in, message.reason)
            self.story.queued(message.place, message.starts_in, message.reason)
        elif isinstance(message, Granted) and message.request == self._request:
            self._on_granted(message)
        elif isinstance(message, Refused) and message.request == self._request:
            raise failure.refused(message.code, message.reason)
        elif isinstance(message, WorkerGone):
            self._on_worker_gone(message)
        elif isinstance(message, LimitExtended) and self._lease == message.lease:
            assert self._granted is not None
            self._granted = dataclasses.replace(self._granted, limit=message.limit)
            self._must_end = message.why
        elif isinstance(message, LeaseEnded) and message.lease.startswith(f"{self._request}."):
            self._on_lease_ended(message)

    def _on_granted(self, granted: Granted) -> None:
        if self._granted is not None and self.began:
            return  # said again after a reconnection
        self._granted = granted
        self.story.granted(granted.slice, granted.waited)
        self._status.starting(granted.slice)
        if self._withheld is not None:
            self._send(self._connection.ensure_link(), self._withheld)

    def _on_lease_ended(self, ended: LeaseEnded) -> None:
        self._loss.lease_ended(ended.reason)
        if self._granted is None:
            self._granted = self._unknown_grant(ended.lease)

    def _unknown_grant(self, lease: str) -> Granted:
        """Stands for a grant of which a broker that died had no time to tell."""
        return Granted(self._request, lease, "a slice", self._options.duration, 0.0, False)

    def _on_worker_gone(self, gone: WorkerGone) -> None:
        if self._finished is not None:
            return  # it said all that it had to say; what it shared with us is still to be written
        if not self._loss.wants_reason and not self._connection.is_our_worker(gone):
            return  # an earlier worker's end, told late
        if self._granted is None and self._loss.is_replaceable(gone.cause):
            self._replace_worker()
            return
        if not self._loss.wants_reason:
            self._hear_out()
        self._loss.explain(gone)
        if self._finished is None:
            self._lose_worker()

    def _hear_out(self) -> None:
        """Takes in what a worker sent before it ended, such as a result that was on its way."""
        link = self._connection.link
        while link is not None and self._finished is None and self._receive(link):
            pass

    @property
    def _lease(self) -> str:
        return self._granted.lease if self._granted is not None else ""

    # --- what the worker says -----------------------------------------------------------

    def _prepare(self, link: WorkerLink) -> None:
        """Stages captures and cell while the request waits.

        What a worker's socket might not hold is withheld until the grant where the worker
        would not read it, or its memory is to be left to others meanwhile.
        """
        self._news = link.surroundings.changes()
        live, refused = self._connection.replica.sift(self._news.live)
        self._notes = [*self._news.notes, *refused]
        names = self._connection.background_names.union(self._cell.names)
        shipment = self._connection.replica.ship(sorted(names), live)
        self._withheld = shipment
        if shipment.byte_count <= SOCKET_BYTES or link.may_stage(shipment.byte_count):
            self._send(link, shipment)
        # While the worker loads: what a thread of the notebook changes from now on is news.
        self._connection.replica.settle()

    def _send(self, link: WorkerLink, shipment: Shipment) -> None:
        self._withheld = None
        self._sent_bytes += link.stage(shipment)
        cell = self._cell
        unknown = sources(self._shell, link.known_files)
        link.known_files |= {file: found["number"] for file, found in unknown.items()}
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
                control_parent=cell.control_parent,
                silent=cell.silent,
                linger=self._options.background,
            ),
            self._news,
            mentioned(cell.source, self._shell.user_ns, cell.names),
        )

    def _on_worker(self, link: WorkerLink, message: Message, buffers: list[memoryview]) -> None:
        if isinstance(message, CellStarted):
            self._started_at = time.monotonic()
            self.story.started(message.binding, message.loading)
        elif isinstance(message, Output):
            self._tick()
            self._status.before_output()
            self._relay.show(message, buffers)
            if message.type == "clear_output":
                self._status.cleared()
        elif isinstance(message, FetchName):
            self._sent_bytes += link.answer_fetch(message.name, self._connection.replica)
        elif isinstance(message, InterruptSeen):
            self._unseen_since = None
        elif isinstance(message, InputRequest):
            link.send(self._ask(message))

    def _ask(self, request: InputRequest) -> InputReply:
        try:
            with self._interrupts.raising():
                return InputReply(self._relay.ask(request.prompt, request.password))
        except KeyboardInterrupt:
            return InputReply("", interrupted=True)
        except EOFError:
            return InputReply(END_OF_INPUT)
        except StdinNotImplementedError as error:  # the front end said that it cannot be asked
            return InputReply("", refused=str(error))

    @contextlib.contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """A worker may end while it is written to, which no more explains it than its silence."""
        try:
            yield
        except ChannelClosed:
            self._lose_worker()

    def _lose_worker(self) -> None:
        if self._finished is not None:
            return  # nothing is lost any more, and forgetting what both share would lose it
        self._loss.notice(time.monotonic())
        self._connection.drop_worker()

    def _check_lost(self) -> None:
        """Raises once the end of the worker is explained, or nobody explains it."""
        if self._finished is not None:
            return
        if self._loss.lease_is_over:
            self._lose_worker()  # nothing of this cell comes home
        gone = self._loss.explanation(time.monotonic(), self._broker.away)
        if gone is None:
            return
        if self._granted is not None or not self._loss.is_replaceable(gone.cause):
            raise failure.of_worker(gone)
        self._replace_worker()

    def _replace_worker(self) -> None:
        """While the request waits, and keeps its place, a new worker gets everything."""
        self._loss.replaced()
        self._connection.drop_worker()
        self._prepare(self._connection.ensure_link())

    # --- the stop button ----------------------------------------------------------------

    def _on_interrupt(self, count: int) -> None:
        """Before the cell runs an interrupt withdraws it; then the cell gets the first one."""
        self._interrupted += count
        link = self._connection.link
        if self._started_at is None or link is None:
            raise KeyboardInterrupt("stopped before the cell began; nothing was changed")
        if self._interrupted > 1:
            self._end_worker("stopped twice: the worker was ended and nothing was changed")
        self._unseen_since = time.monotonic()
        link.send(Interrupt())

    def _end_worker(self, why: str) -> None:
        self._broker.tell(EndWorker(self._connection.id, Cause.INTERRUPTED))
        raise KeyboardInterrupt(why)

    def _give_up(self) -> None:
        """Withdraws the request, or gives the lease back and lets go of the worker."""
        if self._finished is None:
            self._connection.withdraw(self._request)
            if self._granted is not None or self._broker.away:
                self._connection.drop_worker()

    def _show_receipt(self, home: Home) -> None:
        assert self._finished is not None
        assert self._granted is not None
        self._status.receipt(
            Receipt(
                slice=self._granted.slice,
                ran=self._finished.said.ran,
                waited=self._granted.waited,
                sent_bytes=self._sent_bytes,
                returned_bytes=home.committed.byte_count,
                total=time.monotonic() - self._begun,
                worker_only=home.committed.worker_only,
                notes=(*home.committed.notes, *self._notes, *home.notes),
                conflicts=home.committed.conflicts,
            )
        )
