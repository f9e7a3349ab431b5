"""The supervisor: parent of the workers that it forked, keeper of their deadlines.

One thread and one loop, because it forks. It alone kills workers. What it is told comes
from the broker's channel; what it tells goes there; kernels are handed to the workers.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from zerokernel.containment import Containment, limit, processes
from zerokernel.errors import ChannelClosed, ZeroKernelError
from zerokernel.lifecycle import Cause
from zerokernel.messages import (
    Bind,
    ExtendLimit,
    Heartbeat,
    Hello,
    LimitNear,
    Message,
    Park,
    Shutdown,
    StopWorker,
    SupervisorReady,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    TaskStuck,
    WorkerEnded,
    WorkerForked,
    WorkerParked,
)
from zerokernel.wire import Channel, Listener
from zerokernel.wire.unix import UnixChannel
from zerokernel.worker import process
from zerokernel.worker.inbox import KERNEL_LOST_STATUS
from zerokernel.worker.record import Worker

RunWorker = Callable[[Channel, UnixChannel, Hello], None]
"""Runs in the forked child: the kernel's channel, the control channel, the kernel's hello."""

BIND_WAIT_SECONDS = 60.0
"""A grant whose kernel does not connect within this time is reported as a failed start."""

FREEZE_SECONDS = 0.05
"""A parked worker is frozen after this time: cells that follow at once meet a running one."""

HOLD_SECONDS = 0.02
"""A task that ends within this time costs the broker one report instead of three."""

HEARTBEAT_SECONDS = 1.0
"""The broker hears so often that this supervisor lives, and how long its tasks ran."""

IDLE_SECONDS = 1.0
"""Without a request for so long, the supervisor does what it put off."""


_TASK_REPORTS = (TaskStarted, LimitNear, TaskStuck, TaskReturning, TaskEnded)
"""What a worker says of its task, under a lease."""


class Supervisor:
    """Forks, binds, freezes and ends workers.

    Args:
        listener: Where the broker and kernels connect.
        run_worker: The child's main function; it never returns to the loop.
        containment: How a worker's processes are held together.
        broker_grace: Seconds that everything outlives the broker's channel.
        return_seconds: How long a task may take to send its results home.
        when_idle: Done once, when nothing was asked for IDLE_SECONDS and no task runs.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        listener: Listener,
        run_worker: RunWorker,
        containment: Containment,
        broker_grace: float,
        return_seconds: float,
        when_idle: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._run_worker = run_worker
        self._containment = containment
        self._broker_grace = broker_grace
        self._return_seconds = return_seconds
        self._when_idle = when_idle
        self._clock = clock
        # The mutable state: everything below changes only in this loop's handlers.
        self._workers: dict[str, Worker] = {}
        self._unclaimed: dict[str, tuple[Bind, float]] = {}  # granted, kernel not here yet
        self._broker: Channel | None = None
        self._unheard: list[Message] = []  # ends that happened while there was no broker
        self._beats_at = clock()
        self._alone_since = clock()
        self._quiet_since = clock()
        self._ending = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()

    def __repr__(self) -> str:
        broker = "with" if self._broker else "without"
        return f"<Supervisor of {len(self._workers)} workers, {broker} broker>"

    def run(self) -> None:
        """Serves until told to shut down or the broker stays away; then kills all workers."""
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_caller)
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
        try:
            while not self._ending:
                self._serve_once()
        finally:
            self._end_all()

    def _serve_once(self) -> None:
        ready = self._selector.select(self._wait_seconds())
        for key, _ in ready:
            key.data()
        now = self._clock()
        self._enforce(now)
        if ready or not self._is_idle:
            self._quiet_since = now
        elif self._when_idle is not None and now - self._quiet_since >= IDLE_SECONDS:
            self._when_idle()
            self._when_idle = None

    @property
    def _is_idle(self) -> bool:
        """Whether no deadline runs and nobody dies, so that a pause in service harms nobody."""
        workers = self._workers.values()
        return not self._unclaimed and all(w.ends_at is None and not w.cause for w in workers)

    def _wait_seconds(self) -> float:
        now = self._clock()
        times = [w.ends_at for w in self._workers.values() if w.ends_at is not None]
        times += [w.freeze_at for w in self._workers.values() if w.freeze_at is not None]
        times += [w.tell_at for w in self._workers.values() if w.tell_at is not None]
        times += [until for _, until in self._unclaimed.values()]
        if self._broker is None:
            times.append(self._alone_since + self._broker_grace)
        else:
            times.append(self._beats_at)
        times.append(now + (IDLE_SECONDS if self._when_idle is not None else 60.0))
        return max(0.0, min(times) - now)

    def _enforce(self, now: float) -> None:
        for worker in list(self._workers.values()):
            if worker.tell_at is not None and now >= worker.tell_at:
                self._tell_held(worker)
            if worker.ends_at is not None and now >= worker.ends_at:
                self._stop(worker, worker.ends_as)
            elif worker.freeze_at is not None and now >= worker.freeze_at:
                worker.freeze_at = None
                worker.tree.freeze()
                memory = worker.private_memory()
                self._tell(WorkerParked(worker.session, worker.process, memory))
        for session, (bind, until) in list(self._unclaimed.items()):
            if now >= until:
                del self._unclaimed[session]
                why = "its notebook did not come for it"
                self._tell(WorkerEnded(session, bind.lease, Cause.START_FAILED, why, 0.0))
        if self._broker is None and now >= self._alone_since + self._broker_grace:
            self._ending = True
        if self._broker is not None and now >= self._beats_at:
            self._beats_at = now + HEARTBEAT_SECONDS
            running = {w.lease: w.ran(now) for w in self._workers.values() if w.started}
            self._tell(Heartbeat(running))

    # --- callers ------------------------------------------------------------------------

    def _on_caller(self) -> None:
        try:
            channel, hello = self._listener.accept()
        except (ZeroKernelError, OSError) as error:
            print(f"zerokernel: a caller was refused: {error}", file=sys.stderr)
            return
        if hello.role == "broker":
            self._welcome_broker(channel)
        elif hello.session:
            self._fork(channel, hello)
        else:
            channel.close()

    def _welcome_broker(self, channel: Channel) -> None:
        if self._broker is not None:
            self._lose_broker()
        self._broker = channel
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._on_broker(channel))
        now, unheard = self._clock(), self._unheard
        self._unheard = []
        alive = [worker for worker in self._workers.values() if not worker.cause]
        kept = [worker.as_kept(now) for worker in alive]
        # What was sent to a broker while it was killed may never have been read.
        ends = [end for one in alive if (end := one.end_of_task()) and end not in unheard]
        for message in (SupervisorReady(os.getpid(), len(kept)), *kept, *ends, *unheard):
            self._tell(message)

    def _on_broker(self, channel: Channel) -> None:
        if self._broker is not channel:
            return  # a report just found that it is gone
        try:
            message = channel.receive(0).message
        except TimeoutError:
            return
        except ZeroKernelError:
            self._lose_broker()
            return
        self._obey(message)

    def _lose_broker(self) -> None:
        assert self._broker is not None
        self._selector.unregister(self._broker)
        self._broker.close()
        self._broker = None
        # The next one is not told of them, and may have granted their slices to others.
        self._unclaimed.clear()
        self._alone_since = self._clock()

    def _tell(self, message: Message) -> None:
        if self._broker is not None:
            try:
                self._broker.send(message)
                return
            except ChannelClosed:
                self._lose_broker()
        if isinstance(message, TaskEnded | WorkerEnded):
            self._unheard.append(message)

    # --- what the broker orders ---------------------------------------------------------

    def _obey(self, message: Message) -> None:
        if isinstance(message, Shutdown):
            self._ending = True
        elif isinstance(message, ExtendLimit):
            self._extend(message)
        elif isinstance(message, (Bind, Park, StopWorker)):
            worker = self._workers.get(message.session)
            if isinstance(message, Bind):
                self._bind(worker, message)
            elif isinstance(message, Park):
                if worker is not None and message.process in (0, worker.process):
                    self._park(worker)
            else:
                self._on_stop(worker, message)

    def _bind(self, worker: Worker | None, bind: Bind) -> None:
        now = self._clock()
        if worker is None or worker.cause:  # what dies serves nobody: it is for the next one
            self._unclaimed[bind.session] = (bind, now + BIND_WAIT_SECONDS)
            return
        self._tell_held(worker)
        worker.lease, worker.request, worker.slice_id = bind.lease, bind.request, bind.slice_id
        worker.limit, worker.started, worker.ended, worker.stuck = bind.limit, None, None, ""
        worker.bound = now
        worker.ends_at, worker.ends_as = now + bind.hold, Cause.START_FAILED
        worker.freeze_at = None
        if worker.allowance is None and bind.limits:
            self._limit(worker, bind.limits)
        if worker.tree.frozen:
            worker.tree.thaw()
        self._order(worker, bind)

    def _limit(self, worker: Worker, limits: dict[str, int]) -> None:
        """Holds a worker to what its size carries; it stays on that slice as long as it lives."""
        group: Path | None = getattr(worker.tree, "group", None)
        worker.allowance = limit(worker.process, limits, group)
        for name, why in worker.allowance.refused.items():
            print(f"zerokernel: {name} of a size is not enforced: {why}", file=sys.stderr)

    def _extend(self, order: ExtendLimit) -> None:
        worker = self._workers.get(order.session)
        if worker is None or worker.lease != order.lease or worker.ended is not None:
            return
        # Only with a reason may it be less than before.
        worker.limit = order.limit if order.why else max(worker.limit, order.limit)
        if worker.started is not None:
            worker.ends_at = worker.started + worker.limit
        self._order(worker, order)

    def _park(self, worker: Worker) -> None:
        worker.lease, worker.started, worker.ends_at = "", None, None
        if not worker.tree.frozen:
            worker.freeze_at = self._clock() + FREEZE_SECONDS

    def _on_stop(self, worker: Worker | None, order: StopWorker) -> None:
        """Ends what is meant, which may be the worker before, or a Bind that nobody came for."""
        session, lease = order.session, order.lease
        if session in self._unclaimed and lease in ("", self._unclaimed[session][0].lease):
            del self._unclaimed[session]
        if worker is None or order.process not in (0, worker.process):
            return
        if lease in ("", worker.lease):
            self._stop(worker, order.cause)

    def _stop(self, worker: Worker, cause: str) -> None:
        worker.cause = worker.cause or cause
        worker.ends_at = worker.freeze_at = None
        worker.tree.kill()

    def _order(self, worker: Worker, message: Message) -> None:
        with contextlib.suppress(ChannelClosed):  # it just died; SIGCHLD follows
            worker.control.send(message)

    # --- workers ------------------------------------------------------------------------

    def _fork(self, channel: Channel, hello: Hello) -> None:
        earlier = self._workers.get(hello.session)
        if earlier is not None:
            self._stop(earlier, Cause.REPLACED)
            self._reap(earlier, os.waitpid(earlier.process, 0)[1])
        if not process.is_single_threaded():
            raise RuntimeError("the forkserver has threads and must not fork")
        ours, theirs = socket.socketpair()

        def main() -> None:
            ours.close()
            self._become_worker(channel, UnixChannel(theirs), hello)

        try:
            tree = self._containment.fork(main)
        except OSError as error:
            ours.close()
            self._tell_not_forked(hello.session, error)
            return
        finally:
            theirs.close()
            channel.abandon()
        worker = Worker(
            hello.session, tree, UnixChannel(ours), oom_kills=process.out_of_memory_kills()
        )
        self._workers[hello.session] = worker
        self._selector.register(worker.control, selectors.EVENT_READ, lambda: self._hear(worker))
        self._tell(WorkerForked(hello.session, worker.process))
        if granted := self._unclaimed.pop(hello.session, None):
            self._bind(worker, granted[0])

    def _tell_not_forked(self, session: str, error: OSError) -> None:
        granted = self._unclaimed.pop(session, None)
        lease = granted[0].lease if granted else ""
        detail = f"The worker could not be forked: {error}"
        self._tell(WorkerEnded(session, lease, Cause.START_FAILED, detail, 0.0))

    def _become_worker(self, channel: Channel, control: UnixChannel, hello: Hello) -> None:
        """In the child: lets go of all that is the supervisor's and runs the worker."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            self._listener.abandon()
            self._woken.close()
            self._wake.close()
            for worker in self._workers.values():
                worker.control.abandon()
            if self._broker is not None:
                self._broker.abandon()
            self._run_worker(channel, control, hello)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _hear(self, worker: Worker) -> None:
        try:
            message = worker.control.receive(0).message
        except (TimeoutError, ZeroKernelError):
            return  # its end, if it is one, comes as SIGCHLD
        if not isinstance(message, _TASK_REPORTS) or message.lease != worker.lease:
            return
        if isinstance(message, TaskStarted):
            worker.started = self._clock()
            worker.ends_at, worker.ends_as = worker.started + worker.limit, Cause.DEADLINE
        elif isinstance(message, TaskStuck):
            worker.stuck = message.where
            return
        elif isinstance(message, TaskReturning):
            worker.ended = message.ran
            worker.ends_at = self._clock() + self._return_seconds
            worker.ends_as = Cause.UNDELIVERED
        if isinstance(message, TaskStarted | TaskReturning):
            worker.untold.append(message)
            worker.tell_at = worker.tell_at or self._clock() + HOLD_SECONDS
            return
        if isinstance(message, TaskEnded):
            worker.ends_at = None
            worker.untold.clear()  # its end says it all
        self._tell_held(worker)
        self._tell(message)

    def _tell_held(self, worker: Worker) -> None:
        worker.tell_at = None
        untold, worker.untold = worker.untold, []
        for message in untold:
            self._tell(message)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            self._ending = True

    def _on_wake(self) -> None:
        while True:
            try:
                if not self._woken.recv(4096):
                    return
            except BlockingIOError:
                break
        self._reap_all()

    def _reap_all(self) -> None:
        by_process = {worker.process: worker for worker in self._workers.values()}
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if child == 0:
                return
            if worker := by_process.get(child):
                self._reap(worker, status)

    def _reap(self, worker: Worker, status: int) -> None:
        """Takes a dead worker off the books, and what it left behind."""
        now = self._clock()
        ran_out = worker.allowance is not None and worker.allowance.ran_out
        worker.tree.clear()
        self._kill_orphans()
        if worker.allowance is not None:
            worker.allowance.clear()
        self._selector.unregister(worker.control)
        worker.control.close()
        del self._workers[worker.session]
        cause, detail = process.why_ended(status, worker.oom_kills)
        if ran_out and cause in (Cause.KILLED, Cause.OUT_OF_MEMORY):
            cause = Cause.OUT_OF_MEMORY
            detail = "it used up the memory that its size carries; ask for a larger one"
        if worker.cause:
            cause, detail = worker.cause, worker.why_stopped()
        elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == KERNEL_LOST_STATUS:
            cause, detail = Cause.KERNEL_LOST, "the connection between notebook and worker ended"
        ran = worker.ran(now)
        self._tell_held(worker)
        self._tell(WorkerEnded(worker.session, worker.lease, cause, detail, ran, worker.process))

    def _kill_orphans(self) -> None:
        """Kills children that are no worker: they came here when a worker died."""
        known = {root for worker in self._workers.values() for root in worker.tree.roots}
        processes.kill_below(os.getpid(), spare=known)

    def _end_all(self) -> None:
        for worker in list(self._workers.values()):
            self._stop(worker, Cause.SHUTDOWN if self._broker else Cause.BROKER_LOST)
            self._reap(worker, os.waitpid(worker.process, 0)[1])
        self._listener.close()
        if self._broker is not None:
            self._broker.close()
