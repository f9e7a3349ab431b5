"""An engine whose workers are only times: it obeys orders and reports, as supervisors do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from zerokernel.lifecycle import Cause
from zerokernel.messages import (
    Bind,
    ExtendLimit,
    LimitNear,
    Park,
    StopWorker,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
)
from zerokernel.simulation.costs import Costs
from zerokernel.simulation.outcomes import Outcome

# A task asks for more time when a tenth of its limit is left, or two seconds.
_NEAR_SHARE, _NEAR_SECONDS = 0.1, 2.0

Report = WorkerForked | TaskStarted | TaskReturning | TaskEnded | LimitNear | WorkerEnded


class Clock(Protocol):
    """What the engine needs of the simulation."""

    now: float

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Calls something later."""

    def report(self, report: Report) -> None:
        """Tells the scheduler, which may give orders at once."""


@dataclass(slots=True)
class _Worker:
    process: int
    slice: str = ""
    lease: str = ""
    limit: float = 0.0
    started: float | None = None
    returning: bool = False
    stopping: str = ""


class SimulatedEngine:
    """Workers of all sessions; at most one a session.

    Args:
        clock: Time, and who is told.
        costs: What starting and ending costs.
        open: The cell that each session waits for or runs.
    """

    def __init__(self, clock: Clock, costs: Costs, open: Mapping[str, Outcome]) -> None:
        self._clock = clock
        self._costs = costs
        self._open = open
        self._processes = 0
        self._workers: dict[str, _Worker] = {}
        self._unclaimed: dict[str, Bind] = {}
        self._forking: set[str] = set()

    def wanted(self, session: str) -> None:
        """A notebook asks for a cell: it has a worker, or one is forked."""
        if session not in self._workers and session not in self._forking:
            self._forking.add(session)
            self._clock.after(self._costs.fork, self._fork, session)

    def send(self, order: Bind | ExtendLimit | Park | StopWorker) -> None:
        """Obeys."""
        worker = self._workers.get(order.session)
        match order:
            case Bind():
                self._bind(worker, order)
            case ExtendLimit(_, lease, limit):
                if worker is not None and worker.lease == lease:
                    worker.limit = limit
            case Park():
                if worker is not None:
                    worker.lease, worker.started = "", None
            case StopWorker():
                self._stop(worker, order)

    # --- the life of a worker -----------------------------------------------------------

    def _fork(self, session: str) -> None:
        self._forking.discard(session)
        self._processes += 1
        worker = self._workers[session] = _Worker(self._processes)
        self._clock.report(WorkerForked(session, worker.process))
        if (bind := self._unclaimed.pop(session, None)) is not None:
            self._bind(worker, bind)

    def _stop(self, worker: _Worker | None, order: StopWorker) -> None:
        if worker is None:
            self._unclaimed.pop(order.session, None)
            return
        known = order.process in (0, worker.process) and order.lease in ("", worker.lease)
        if known and not worker.stopping:
            worker.stopping = order.cause
            self._clock.after(self._costs.stop, self._die, order.session, worker, order.cause)

    def _die(self, session: str, worker: _Worker, cause: str) -> None:
        if self._workers.get(session) is not worker:
            return
        del self._workers[session]
        ran = 0.0 if worker.started is None else self._clock.now - worker.started
        process = worker.process
        self._clock.report(WorkerEnded(session, worker.lease, cause, "", ran, process))
        if session in self._open:
            self.wanted(session)

    # --- the life of a task -------------------------------------------------------------

    def _bind(self, worker: _Worker | None, bind: Bind) -> None:
        if worker is None:
            self._unclaimed[bind.session] = bind
            self.wanted(bind.session)
            return
        warm = worker.slice == bind.slice_id
        worker.slice, worker.lease, worker.limit = bind.slice_id, bind.lease, bind.limit
        worker.started, worker.returning = None, False
        seconds = self._costs.thaw if warm else self._costs.bind
        self._clock.after(seconds, self._start, bind.session, worker, bind.lease)

    def _runs(self, session: str, worker: _Worker, lease: str) -> bool:
        there = self._workers.get(session) is worker
        return there and worker.lease == lease and not worker.stopping

    def _start(self, session: str, worker: _Worker, lease: str) -> None:
        if self._runs(session, worker, lease):
            now = self._clock.now
            worker.started = self._open[session].started = now
            self._clock.report(TaskStarted(session, lease))
            self._run_on(session, worker, lease)

    def _run_on(self, session: str, worker: _Worker, lease: str) -> None:
        """Has a task end, or ask for more time shortly before its limit."""
        run = self._open[session].cell.run
        near = worker.limit - min(_NEAR_SECONDS, _NEAR_SHARE * worker.limit)
        if run <= worker.limit:
            self._at(worker, run, self._return, session, worker, lease)
        else:
            self._at(worker, near, self._near, session, worker, lease)

    def _near(self, session: str, worker: _Worker, lease: str) -> None:
        if not self._runs(session, worker, lease):
            return
        before = worker.limit
        self._clock.report(LimitNear(session, lease))
        if worker.limit > before:
            self._run_on(session, worker, lease)
        else:
            self._at(worker, before, self._die, session, worker, str(Cause.DEADLINE))

    def _return(self, session: str, worker: _Worker, lease: str) -> None:
        if not self._runs(session, worker, lease):
            return
        run = self._open[session].cell.run
        if self._costs.home:
            self._clock.report(TaskReturning(session, lease, run))
        self._clock.after(self._costs.home, self._end, session, worker, lease, run)

    def _end(self, session: str, worker: _Worker, lease: str, run: float) -> None:
        if self._runs(session, worker, lease):
            # Before it is told: what comes of it may be the worker's next task.
            worker.lease, worker.started = "", None
            self._clock.report(TaskEnded(session, lease, run))

    def _at(self, worker: _Worker, ran: float, call: Callable[..., None], *arguments: Any) -> None:
        """Calls something when a task has run for so many seconds."""
        begun = worker.started if worker.started is not None else self._clock.now
        self._clock.after(max(0.0, begun + ran - self._clock.now), call, *arguments)
