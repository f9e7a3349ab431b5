"""One task: receive what was captured, run the cell, send back what it changed."""

from __future__ import annotations

import contextlib
import gc
import linecache
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from IPython.core.async_helpers import _asyncio_runner
from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import ExecutionResult

from zerokernel.ambient import Surroundings, device_use
from zerokernel.ambient.quiet import quietly
from zerokernel.ambient.submodules import import_all, imported
from zerokernel.crossing import WorkerReplica, allocate, device_memory
from zerokernel.errors import CannotTravel, ChannelClosed, GpuDeadline
from zerokernel.messages import (
    END_OF_INPUT,
    Bind,
    CellFinished,
    CellStarted,
    CommMessage,
    ExtendLimit,
    FetchedName,
    FetchName,
    InputReply,
    InputRequest,
    LimitNear,
    Message,
    Output,
    RunCell,
    Stage,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    TaskStuck,
)
from zerokernel.wire import Channel, Received
from zerokernel.worker import history, namespace, slice_memory
from zerokernel.worker.cell_loop import CellLoop
from zerokernel.worker.cuts import OutputLimits
from zerokernel.worker.deadline import Deadline
from zerokernel.worker.inbox import Inbox
from zerokernel.worker.interrupts import Interrupts
from zerokernel.worker.output import OutputCapture
from zerokernel.worker.shell import WorkerKernel

_MAY_AWAIT = re.compile(r"\b(await|async)\b")


class TaskRunner:
    """Runs cells on the worker's main thread.

    Its outputs, questions and results go to the kernel; start and end to the supervisor.
    """

    def __init__(
        self,
        kernel: WorkerKernel,
        channel: Channel,
        control: Channel,
        interrupts: Interrupts,
        inbox: Inbox,
        capture: OutputCapture,
        loop: CellLoop,
        detection: str = "auto",
    ) -> None:
        shell: Any = kernel.shell
        self._shell = shell
        self._kernel: Any = kernel
        self._channel = channel
        self._control = control
        self._interrupts = interrupts
        self._inbox = inbox
        self._capture = capture
        self._loop = loop
        self._replica = WorkerReplica(self._shell.user_ns, detection)
        self._owners: dict[int, Sequence[Any]] = {}
        self._staged: list[Received] = []
        self._news: list[bytes] = []  # pickled changes of the surroundings, not entered yet
        self._surroundings = Surroundings(in_worker=True)
        self._notes: list[str] = []  # what the receipt is to say of this cell
        self._bind: Bind | None = None  # a grant whose cell has not been found yet
        self._error: Output | None = None
        self._publishing = threading.RLock()
        capture.publish_to(self._publish)
        self._running: Bind | None = None
        self._deadline = Deadline(interrupts, self._ask_for_time, self._say_stuck)
        inbox.extended = self._extended
        inbox.comm = lambda received: loop.call_soon(lambda: self._hear_comm(received))
        kernel.session.held = interrupts.held
        kernel.ask_input = self._ask_input
        shell.running_code = interrupts.in_code
        interrupts.awaiting = loop.interrupt

    def allocate(self, message: Message, sizes: list[int]) -> list[memoryview]:
        """Gives memory for a message's buffers: the payload, then the objects' own."""
        head = memoryview(bytearray(sizes[0]))
        if not isinstance(message, (Stage, FetchedName)):
            return [head, *(memoryview(bytearray(size)) for size in sizes[1:])]
        owners, views = allocate(message.specs)
        self._owners[id(message)] = owners
        return [head, *views]

    def run_next(self) -> None:
        """Waits for the kernel's next cell and for its grant, then runs it."""
        received = self._inbox.orders.get()
        cell = received.message
        if isinstance(cell, Stage):
            self._staged.append(received)
            return
        assert isinstance(cell, RunCell)
        bind = self._bind or self._inbox.binds.get()
        self._news.append(bytes(received.buffers[0]))
        if bind.request != cell.request:  # withdrawn: the grant is for a later cell
            self._bind = bind
            return
        self._bind = None
        self._run(cell, bind)

    # --- the task -----------------------------------------------------------------------

    def _run(self, cell: RunCell, bind: Bind) -> None:
        self._inbox.next_cell.clear()
        binding = _timed(lambda: bind_slice(bind))
        self._know_sources(cell.sources)
        self._capture.begin(OutputLimits(**cell.output_limits))
        held = slice_memory.held()
        try:
            loading = _timed(lambda: self._load(cell))
        except Exception as failure:  # a class's own code, most likely
            slice_memory.explain(failure, self._shell.user_ns)
            what = "What the cell uses could not be rebuilt in the worker."
            self._give_up(failure, what, 0.0, again=held > 0)
            self._control.send(TaskEnded(bind.session, bind.lease, 0.0))
            return
        self._control.send(TaskStarted(bind.session, bind.lease))
        self._interrupts.announce_cell()
        self._channel.send(CellStarted(binding, loading))
        begun = time.monotonic()
        self._running = bind
        self._deadline.start(bind.limit)
        result = self._execute(cell)
        self._deadline.stop()
        self._running = None
        ran = time.monotonic() - begun
        self._control.send(TaskReturning(bind.session, bind.lease, ran))
        self._finish(cell, result, ran)
        ran += self._loop.linger(min(cell.linger, bind.limit - ran), self._is_next_cell_here)
        self._control.send(TaskEnded(bind.session, bind.lease, ran))

    def _is_next_cell_here(self) -> bool:
        return self._inbox.next_cell.is_set() or not self._inbox.orders.empty()

    # --- its time -----------------------------------------------------------------------

    def _ask_for_time(self) -> None:
        self._report(LimitNear)

    def _say_stuck(self, where: str) -> None:
        self._report(lambda session, lease: TaskStuck(session, lease, where))

    def _report(self, make: Callable[[str, str], Message]) -> None:
        """From the deadline's thread; a supervisor that is gone has taken this process with it."""
        bind = self._running
        if bind is not None:
            with contextlib.suppress(ChannelClosed):
                self._control.send(make(bind.session, bind.lease))

    def _extended(self, order: ExtendLimit) -> None:
        bind = self._running
        if bind is not None and bind.lease == order.lease:
            self._deadline.extend(order.limit, order.why)

    # --- its parts ----------------------------------------------------------------------

    def _know_sources(self, sources: dict[str, dict[str, Any]]) -> None:
        """Lets tracebacks and inspect find the notebook's earlier cells."""
        for file, cell in sources.items():
            lines = cell["source"].splitlines(keepends=True)
            linecache.cache[file] = (len(cell["source"]), None, lines, file)
            self._shell.compile._filename_map[file] = cell["number"]

    def _load(self, cell: RunCell) -> None:
        self._notes = []
        device_use.take_request()  # of a cell whose results could not be sent
        news, self._news = self._news, []
        staged, self._staged = self._staged, []
        with quietly():  # the notebook has imported and built all this before
            for plain, ran, submodules in map(pickle.loads, news):
                self._notes += self._surroundings.enter(plain, ran)
                self._notes += import_all(submodules)
            live: dict[str, Any] = {}
            for stage in staged:
                owners = self._owners.pop(id(stage.message))
                live |= self._replica.receive(bytes(stage.buffers[0]), owners)
            self._notes += self._surroundings.loaded()
        self._notes += self._surroundings.enter_live(live)
        history.begin(self._shell)
        namespace.install(self._shell.user_ns, self._fetch, cell.closed, cell.absent)
        self._notes += self._surroundings.prepare_worker()

    def _execute(self, cell: RunCell) -> Any:
        """Runs the cell as the kernel would: same file name, same In[n], same parent."""
        shell = self._shell
        shell.compile.cell_file = cell.file
        shell.execution_count = cell.execution_count
        self._capture.running = self._begin_parent(cell)
        self._kernel._forward_input(allow_stdin=True)
        try:
            with self._interrupts.in_cell():
                return self._run_as_ipykernel(cell)
        except (KeyboardInterrupt, GpuDeadline) as interrupt:  # in the shell's own last steps
            shell.showtraceback()
            result = ExecutionResult(None)
            result.error_in_exec = interrupt
            return result
        finally:
            self._kernel._restore_input()

    def _begin_parent(self, cell: RunCell) -> str:
        """Makes the cell's request the one under which things are shown; gives its id."""
        for channel, parent in (("control", cell.control_parent), ("shell", cell.parent)):
            session = (parent.get("header") or {}).get("session", "")
            self._kernel.set_parent([str(session).encode()], parent, channel)
        return str((cell.parent.get("header") or {}).get("msg_id", ""))

    def _run_as_ipykernel(self, cell: RunCell) -> Any:
        """Runs the cell inside the loop: awaited where it awaits, else in one go."""
        shell = self._shell
        failed = None
        if not _MAY_AWAIT.search(cell.code) and not shell.input_transformers_post:
            return self._loop.run(self._run_at_once(cell), awaits=False)
        try:
            transformed = shell.transform_cell(cell.code)
        except Exception:
            transformed, failed = cell.code, sys.exc_info()
        before = {"transformed_cell": transformed, "preprocessing_exc_tuple": failed}
        # A runner of another library (`%autoawait trio`) is called by the shell itself.
        ours = shell.loop_runner is _asyncio_runner
        awaits = ours and shell.should_run_async(cell.code, **before)
        work = self._run_awaiting(cell, before) if awaits else self._run_at_once(cell)
        return self._loop.run(work, awaits=awaits)

    async def _run_at_once(self, cell: RunCell) -> Any:
        return self._shell.run_cell(cell.code, store_history=cell.history, silent=cell.silent)

    async def _run_awaiting(self, cell: RunCell, before: dict[str, Any]) -> Any:
        shell, how = self._shell, {"store_history": cell.history, "silent": cell.silent}
        shell._last_traceback, shell._last_traceback_during_displayhook = None, False
        result = None
        try:
            result = await shell.run_cell_async(cell.code, **how, **before)
        finally:
            shell.events.trigger("post_execute")
            if not cell.silent:
                shell.events.trigger("post_run_cell", result)
        return result

    def _finish(self, cell: RunCell, result: Any, ran: float) -> None:
        """Sends home what the cell showed last, changed and bound."""
        self._capture.finish()
        self._capture.running = ""
        error = result.error_before_exec or result.error_in_exec
        news = self._surroundings.changes()
        extra: dict[str, Any] = {
            "surroundings": (news.plain, news.ran),
            "submodules": imported(cell.code),
            "notes": [*self._notes, *news.notes],
            "result": result.result,
            "error": error,
            **news.live,
        }
        try:
            rebound = history.rebound(self._shell)
            shipment = self._replica.returns(extra, rebound=rebound)
        except Exception as failure:  # a class's own code, or ours: the kernel must hear of it
            self._give_up(failure, "What the cell changed could not be packed.", ran)
            return
        display_failed = bool(self._shell._last_traceback_during_displayhook)
        shown = self._take_error() if error is not None else {}
        self._send_error()
        finished = CellFinished(
            status="ok" if result.success else "error",
            display_failed=display_failed,
            ran=ran,
            specs=shipment.specs,
            error=shown,
            payload=tuple(self._shell.payload_manager.read_payload()),
            left_running=self._loop.left_running,
            exits=bool(self._shell.exit_now),
            frees=device_use.take_request(),
        )
        self._shell.exit_now = False
        self._shell.payload_manager.clear_payload()
        begun = time.monotonic()
        self._channel.send(finished, [shipment.payload, *shipment.buffers])
        self._deadline.measured(shipment.byte_count, time.monotonic() - begun)
        self._replica.returned()
        self._surroundings.sent()
        self._forget_results()
        if finished.frees:
            self._free()

    def _free(self) -> None:
        """Lets go of all that is the notebook's, and gives the device's memory back."""
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)  # frames of a failed cell hold its tensors
        self._replica.forget()
        gc.collect()
        device_memory.release()

    def _give_up(self, failure: Exception, what: str, ran: float, again: bool = False) -> None:
        """Tells the kernel that nothing of this cell comes home, and why.

        ``again``: whether it may be otherwise in a worker that holds nothing of earlier cells.
        """
        why = "\n".join([str(failure), *getattr(failure, "__notes__", ())])
        text = f"{what} Nothing was changed. ({type(failure).__name__}: {why})"
        told = {"ename": type(failure).__name__, "evalue": text, "again": again}
        self._channel.send(CellFinished("stuck", ran, (), told), [b""])

    def _forget_results(self) -> None:
        """Out[n] is the kernel's: a second one here would keep memory alive."""
        hook = self._shell.displayhook
        self._shell.user_ns["_oh"].clear()
        hook._, hook.__, hook.___ = "", "", ""
        hook.exec_result = None

    # --- what the cell asks of the kernel -----------------------------------------------

    def _fetch(self, name: str) -> Any:
        with self._interrupts.held():
            self._channel.send(FetchName(name))
            received = self._inbox.replies.get()
        answer = received.message
        assert isinstance(answer, FetchedName)
        if not answer.found:
            raise KeyError(name)
        if answer.absent:
            raise CannotTravel(answer.absent)
        owners = self._owners.pop(id(answer))
        return self._replica.absorb(bytes(received.buffers[0]), owners)[name]

    def _ask_input(self, prompt: str, password: bool) -> str:
        self._channel.send(InputRequest(prompt, password))
        with self._interrupts.held():
            answer = self._inbox.replies.get().message
        assert isinstance(answer, InputReply)
        if answer.interrupted:
            raise KeyboardInterrupt("Interrupted by user")
        if answer.refused:
            raise StdinNotImplementedError(answer.refused)
        if answer.value == END_OF_INPUT:
            raise EOFError
        return answer.value

    def _hear_comm(self, received: Received) -> None:
        """Hands the comm what the front end says; ipykernel's manager reports what fails."""
        message = received.message
        assert isinstance(message, CommMessage)
        header = {"msg_type": message.type}
        parts: dict[str, Any] = {
            "content": message.content,
            "metadata": message.metadata,
            "header": header,
        }
        parts["buffers"] = received.buffers
        getattr(self._kernel.comm_manager, message.type)(None, None, parts)

    # --- outputs ------------------------------------------------------------------------

    def _publish(
        self,
        kind: str,
        content: dict[str, Any],
        metadata: dict[str, Any],
        buffers: Sequence[bytes | memoryview],
        parent: dict[str, Any] | None = None,
    ) -> None:
        """Sends one output; an error waits until it is known whether it ended the cell.

        ``parent`` is the header of the request that it belongs to, if not to the cell that runs.
        """
        with self._interrupts.held(), self._publishing:
            self._send_error()
            output = Output(kind, content, metadata, parent or {})
            if kind == "error" and not parent:
                self._error = output
            else:
                self._channel.send(output, buffers)

    def _send_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            self._channel.send(error)

    def _take_error(self) -> dict[str, Any]:
        error, self._error = self._error, None
        return error.content if error is not None else {}


def bind_slice(bind: Bind) -> None:
    """Shows this process its slice and nothing else, and initialises the device."""
    os.environ.update(bind.environment)
    # Names that a cell can log. As all that begins so, they do not travel to the notebook.
    os.environ.update(ZEROKERNEL_SLICE=bind.slice_id, ZEROKERNEL_LEASE=bind.lease)
    if not bind.simulated and "torch" in sys.modules:
        sys.modules["torch"].cuda.init()
    slice_memory.take(bind)


def _timed(action: Any) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun
