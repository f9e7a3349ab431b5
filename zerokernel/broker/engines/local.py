"""The engine of one machine: a supervisor process for each Python environment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zerokernel.broker.engines.port import Door, Observer
from zerokernel.broker.engines.supervisor import MODULE, Supervisor
from zerokernel.errors import WorkerStartFailed
from zerokernel.messages import (
    Bind,
    Message,
    Park,
    StopWorker,
    TaskEnded,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
)
from zerokernel.settings import Settings

_STEADY_SECONDS = 5.0
"""One that ran for less is not started again by itself: it would only end again."""


@dataclass
class _Resident:
    """What the engine knows about a session, to report its end if the supervisor dies."""

    forgotten: bool = False
    forked: bool = False
    lease: str = ""
    started_at: float | None = None


@dataclass
class _House:
    """One Python environment: its supervisor, and the sessions whose workers it forks."""

    python: str
    environment: Mapping[str, str]
    residents: dict[str, _Resident] = field(default_factory=dict)
    supervisor: Supervisor | None = None
    starting: asyncio.Task[Door] | None = None
    ready_at: float | None = None
    waiting: list[Message] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        return self.ready_at is not None


class LocalEngine:
    """Runs workers on this machine.

    Args:
        module: What the supervisor's interpreter runs; tests give one of their own.
    """

    def __init__(self, settings: Settings, module: str = MODULE) -> None:
        self._settings = settings
        self._module = module
        self._observer: Observer | None = None
        # All mutable state: houses by interpreter, and where each session lives.
        self._houses: dict[str, _House] = {}
        self._home: dict[str, _House] = {}
        self._restarts: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<LocalEngine {len(self._houses)} environments, {len(self._home)} sessions>"

    def observe(self, observer: Observer) -> None:
        """Sets who is told; once, before anything else."""
        self._observer = observer

    async def open(self, session: str, python: str, environment: Mapping[str, str]) -> Door:
        """Makes the environment's supervisor ready."""
        house = self._houses.setdefault(python, _House(python, environment))
        self._home[session] = house
        house.residents.setdefault(session, _Resident()).forgotten = False
        return await asyncio.shield(self._start(house))

    def send(self, order: Bind | Park | StopWorker) -> None:
        """Gives an order; one for a supervisor that is not ready waits for it."""
        house = self._home.get(order.session)
        if house is None:
            return
        if isinstance(order, Bind):
            resident = house.residents[order.session]
            resident.lease, resident.started_at = order.lease, None
        if house.is_ready and house.supervisor is not None:
            house.supervisor.send(order)
        else:
            house.waiting.append(order)
            self._restart(house)

    def forget(self, session: str) -> None:
        """The session is over."""
        if house := self._home.pop(session, None):
            house.residents.pop(session, None)

    async def close(self) -> None:
        """Ends all supervisors."""
        self._closed = True
        for task in self._restarts:
            task.cancel()
        for house in self._houses.values():
            if house.starting is not None and not house.starting.done():
                house.starting.cancel()
        supervisors = [h.supervisor for h in self._houses.values() if h.supervisor is not None]
        await asyncio.gather(*(one.close() for one in supervisors))

    def statistics(self) -> dict[str, Any]:
        """Gives the supervisors: interpreter, process, whether ready, sessions, log."""
        return {
            "engine": "local",
            "supervisors": [
                {
                    "python": house.python,
                    "process": house.supervisor.process if house.supervisor else 0,
                    "ready": house.is_ready,
                    "sessions": len(house.residents),
                    "log": str(house.supervisor.log) if house.supervisor else "",
                }
                for house in self._houses.values()
            ],
        }

    # --- starting -----------------------------------------------------------------------

    def _start(self, house: _House) -> asyncio.Task[Door]:
        """Gives the start that runs or ran well, else begins one."""
        if house.starting is None or (house.starting.done() and not house.is_ready):
            house.starting = asyncio.create_task(self._start_now(house))
        return house.starting

    async def _start_now(self, house: _House) -> Door:
        house.supervisor = Supervisor(
            house.python,
            house.environment,
            self._settings,
            lambda message: self._heard(house, message),
            lambda reason: self._lost(house, reason),
            self._module,
        )
        try:
            door = await house.supervisor.start()
        except WorkerStartFailed as error:
            house.waiting.clear()
            self._report_all_ended(house, "start failed", str(error))
            raise
        house.ready_at = time.monotonic()
        waiting, house.waiting = house.waiting, []
        for order in waiting:
            house.supervisor.send(order)
        return door

    def _restart(self, house: _House) -> None:
        """Starts it again and tells its sessions where it is."""
        if self._closed or (house.starting is not None and not house.starting.done()):
            return
        task = asyncio.create_task(self._restart_now(house))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _restart_now(self, house: _House) -> None:
        try:
            door = await self._start(house)
        except WorkerStartFailed:
            return  # reported to those who waited for it
        for session in list(house.residents):
            if self._observer is not None:
                self._observer.moved(session, door)

    # --- what supervisors say -----------------------------------------------------------

    def _heard(self, house: _House, message: Message) -> None:
        match message:
            case WorkerForked(session=session):
                # A session that is over may have forked at that moment: it is told to stop.
                known = house.residents.setdefault(session, _Resident(forgotten=True))
                known.forked = True
                self._home.setdefault(session, house)
            case TaskStarted(session=session) if session in house.residents:
                house.residents[session].started_at = time.monotonic()
            case TaskEnded(session=session) if session in house.residents:
                house.residents[session].lease = ""
            case WorkerEnded(session=session, lease=lease) if session in house.residents:
                self._worker_ended(house, session, lease)
            case TaskStarted() | TaskEnded() | WorkerEnded():
                pass  # of a session that is over
            case _:
                return
        if self._observer is not None:
            self._observer.reported(message)

    def _worker_ended(self, house: _House, session: str, lease: str) -> None:
        resident = house.residents[session]
        resident.forked = False
        if lease == resident.lease:
            resident.lease, resident.started_at = "", None
        if resident.forgotten:
            self.forget(session)

    def _lost(self, house: _House, reason: str) -> None:
        steady = house.ready_at is not None and (
            time.monotonic() - house.ready_at >= _STEADY_SECONDS
        )
        house.ready_at = None
        self._report_all_ended(house, "killed", f"The supervisor of the worker ended: {reason}")
        if steady and house.residents:
            self._restart(house)

    def _report_all_ended(self, house: _House, cause: str, detail: str) -> None:
        for session, resident in list(house.residents.items()):
            if not (resident.forked or resident.lease):
                continue
            lease, started = resident.lease, resident.started_at
            ran = time.monotonic() - started if lease and started is not None else 0.0
            resident.forked, resident.lease, resident.started_at = False, "", None
            if self._observer is not None:
                self._observer.reported(WorkerEnded(session, lease, cause, detail, ran))
