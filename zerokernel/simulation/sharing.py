"""Slices by the cell: a workload served by the scheduler itself, as a discrete-event simulation.

It is `SchedulerState` that decides, the class that brokers run; only the time, the notebooks
and the workers are made.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zerokernel.broker.scheduling import (
    Account,
    Action,
    Event,
    LeaseBooked,
    NotebookSaid,
    Order,
    Policy,
    Reserve,
    SchedulerState,
    SessionClosed,
    SessionConnected,
    Slice,
    Tell,
    Tick,
)
from zerokernel.messages import Granted, LeaseEnded, Queued, Refused, RequestLease
from zerokernel.simulation.costs import Costs
from zerokernel.simulation.outcomes import Outcome, Run
from zerokernel.simulation.workers import SimulatedEngine
from zerokernel.simulation.workload import Notebook, Workload

OURS, FIRST_COME = "zerokernel", "first come, first served"

_MEMORY = 80 << 30


def slices_of(layout: Mapping[str, int]) -> list[Slice]:
    """Gives the slices of a layout: how many there are of each size."""
    return [
        Slice(f"{size}-{number}", f"{size} {number}", size, _MEMORY, True, {})
        for size, count in layout.items()
        for number in range(1, count + 1)
    ]


def first_come(policy: Policy) -> Policy:
    """Gives the policy under which the same scheduler serves notebooks as they asked.

    Use delays nobody, a short limit is not ahead and nobody has a limit of leases. With it
    each notebook must be a user of its own (`_anonymous`), for users take turns.
    """
    unordered = replace(policy, longest_delay=0.0, short_bonus=0.0, strict_tiers=False)
    return replace(unordered, leases_per_user=0, leases_per_group=0)


def share(
    workload: Workload, layout: Mapping[str, int], policy: Policy, costs: Costs | None = None
) -> Run:
    """Serves a workload by the scheduler's own order; see `docs/fairness.md`."""
    return Simulation(OURS, workload.notebooks, slices_of(layout), policy, costs or Costs()).run()


def share_first_come(
    workload: Workload, layout: Mapping[str, int], policy: Policy, costs: Costs | None = None
) -> Run:
    """Serves a workload by the same scheduler, but as the requests came."""
    notebooks = [_anonymous(one) for one in workload.notebooks]
    # Nobody looks at what is told here, and it decides nothing.
    quiet = replace(first_come(policy), places_at_once=0, places_told=0, places_seconds=1e9)
    run = Simulation(FIRST_COME, notebooks, slices_of(layout), quiet, costs or Costs()).run()
    names = {one.name: one for one in workload.notebooks}
    for outcome in run.outcomes:
        outcome.notebook = names[outcome.notebook.name]
    return run


def _anonymous(notebook: Notebook) -> Notebook:
    return replace(notebook, account=Account(notebook.name))


class Simulation:
    """One run. Time goes from event to event; equal times in the order of their making."""

    def __init__(
        self,
        name: str,
        notebooks: Sequence[Notebook],
        slices: Sequence[Slice],
        policy: Policy,
        costs: Costs,
    ) -> None:
        self.now = 0.0
        self._name = name
        self._notebooks = notebooks
        self._state = SchedulerState(slices, policy)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._open: dict[str, Outcome] = {}  # by session: what it waits for or runs
        self._live = len(notebooks)
        self._engine = SimulatedEngine(self, costs, self._open)
        self._run = Run(name)

    def run(self) -> Run:
        """Serves all, to the end of the last notebook."""
        begun = time.process_time()
        for notebook in self._notebooks:
            first = notebook.cells[0].think if notebook.cells else 0.0
            self.after(notebook.opens + first, self._opens, notebook)
        while self._live:
            self._step()
        self._run.outcomes.sort(key=lambda one: one.asked)
        self._run.seconds = time.process_time() - begun
        return self._run

    def _step(self) -> None:
        due = self._state.next_deadline()
        if due is not None and (not self._heap or due < self._heap[0][0]):
            self.now = max(self.now, due)
            self._handle(Tick())
            return
        self.now, _, call, arguments = heapq.heappop(self._heap)
        call(*arguments)

    # --- what the engine needs ----------------------------------------------------------

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Calls something later."""
        self._serial += 1
        heapq.heappush(self._heap, (self.now + seconds, self._serial, call, arguments))

    def report(self, report: Event) -> None:
        """Tells the scheduler what a supervisor says, and has its actions carried out."""
        self._handle(report)

    def _handle(self, event: Event) -> None:
        actions = self._state.handle(event, self.now)
        for action in actions:
            self._carry_out(action)
        for action in actions:
            if isinstance(action, Reserve):
                self._handle(LeaseBooked(action.lease))  # books that have everything at once

    def _carry_out(self, action: Action) -> None:
        match action:
            case Tell(session, message):
                self._told(session, message)
            case Order(_, message):
                self._engine.send(message)

    # --- notebooks ----------------------------------------------------------------------

    def _opens(self, notebook: Notebook) -> None:
        account, name = notebook.account, notebook.name
        connected = SessionConnected(name, name, account.user, (), account.group, account.tier)
        self._handle(connected)
        self._asks(notebook, 0)

    def _asks(self, notebook: Notebook, index: int) -> None:
        if index == len(notebook.cells):
            self.after(notebook.lingers, self._closes, notebook.name)
            return
        outcome = Outcome(notebook, index, self.now)
        self._run.outcomes.append(outcome)
        self._open[notebook.name] = outcome
        self._engine.wanted(notebook.name)
        limit = outcome.cell.limit
        request = RequestLease(f"{notebook.name}#{index}", notebook.size, limit)
        self._handle(NotebookSaid(notebook.name, request))

    def _closes(self, session: str) -> None:
        self._live -= 1
        self._handle(SessionClosed(session))
        self._state.take_forgotten()

    def _told(self, session: str, message: object) -> None:
        match message:
            case Granted():
                outcome = self._open[session]
                outcome.granted, outcome.grants = self.now, outcome.grants + 1
            case Queued(_, _, starts_in) if starts_in is not None:
                outcome = self._open[session]
                outcome.told = outcome.told or (self.now, self.now + starts_in)
            case LeaseEnded(_, reason, ran):
                self._ended(session, reason, ran)
            case Refused(_, code):
                self._ended(session, code, 0.0)

    def _ended(self, session: str, reason: str, ran: float) -> None:
        outcome = self._open.pop(session)
        outcome.ended, outcome.reason, outcome.ran = self.now, reason, ran
        if outcome.granted is not None:
            self._run.held.append((outcome.granted, self.now))
        cells, following = outcome.notebook.cells, outcome.index + 1
        think = cells[following].think if following < len(cells) else 0.0
        self.after(think, self._asks, outcome.notebook, following)
