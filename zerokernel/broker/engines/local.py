"""The engine of one machine: a supervisor process for each user's Python environment."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zerokernel.broker.engines.leftovers import SupervisorRecord, find_records
from zerokernel.broker.engines.port import Door, Observer
from zerokernel.broker.engines.supervisor import MODULE, Supervisor
from zerokernel.containment import remove_stray_allowances, remove_strays
from zerokernel.errors import WorkerStartFailed
from zerokernel.lifecycle import Cause
from zerokernel.messages import (
    Bind,
    ExtendLimit,
    Heartbeat,
    LimitNear,
    Message,
    Park,
    StopWorker,
    TaskEnded,
    TaskReturning,
    TaskStarted,
    WorkerEnded,
    WorkerForked,
    WorkerKept,
    WorkerParked,
)
from zerokernel.settings import Settings

log = logging.getLogger("zerokernel.broker")

WATCH_SECONDS = 1.0
"""So often it is looked whether a supervisor hangs, or is needed no more."""

TAKE_OVER_SECONDS = 1.5
"""A supervisor of an earlier broker that does not answer by then hangs, and is ended."""

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
    """A user's Python environment: its supervisor, and the sessions whose workers it forks.

    Never two users': who knows its secret can have workers forked, and these begin with the
    environment variables of whoever came first.
    """

    user: str
    python: str
    environment: Mapping[str, str]
    residents: dict[str, _Resident] = field(default_factory=dict)
    supervisor: Supervisor | None = None
    starting: asyncio.Task[Door] | None = None
    ready_at: float | None = None
    heard_at: float = 0.0
    empty_since: float | None = None
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
        # All mutable state: houses by user and interpreter, and where each session lives.
        self._houses: dict[tuple[str, str], _House] = {}
        self._home: dict[str, _House] = {}
        self._restarts: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<LocalEngine {len(self._houses)} environments, {len(self._home)} sessions>"

    def observe(self, observer: Observer) -> None:
        """Sets who is told; once, before anything else."""
        self._observer = observer

    async def open(
        self, session: str, python: str, environment: Mapping[str, str], user: str = ""
    ) -> Door:
        """Makes the supervisor of that user's environment ready."""
        house = self._home.get(session) or self._houses.setdefault(
            (user, python), _House(user, python, environment)
        )
        house.environment = house.environment or environment
        self._home[session] = house
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        house.residents.setdefault(session, _Resident()).forgotten = False
        return await asyncio.shield(self._start(house))

    async def adopt(self) -> None:
        """Takes over the supervisors that an earlier broker left, all at once."""
        found = find_records(self._settings.runtime_directory)
        await asyncio.gather(*(self._take_over(file, record) for file, record in found))
        remove_strays()
        remove_stray_allowances()

    async def _take_over(self, file: Path, record: SupervisorRecord) -> None:
        # Two of one interpreter, from two crashes, keep houses of their own.
        key = (record.user, record.python)
        if key in self._houses:
            key = (record.user, f"{file}")
        house = self._houses[key] = _House(record.user, record.python, {})
        house.supervisor = self._make_supervisor(house)
        try:
            door, kept = await house.supervisor.take_over(file, record, TAKE_OVER_SECONDS)
        except WorkerStartFailed as error:
            log.warning("process %s was not taken over: %s", record.process, error)
            del self._houses[key]
            return
        log.info("took over the supervisor %s with %s workers", record.process, len(kept))
        house.starting = asyncio.create_task(_given(door))
        house.ready_at = house.heard_at = time.monotonic()
        for one in kept:
            self._keep(house, one)
        house.supervisor.listen()

    def _keep(self, house: _House, kept: WorkerKept) -> None:
        started = time.monotonic() - kept.ran if kept.ran >= 0 else None
        house.residents[kept.session] = _Resident(False, True, kept.lease, started)
        self._home[kept.session] = house
        if self._observer is not None:
            self._observer.adopted(kept, house.user)

    def send(self, order: Bind | ExtendLimit | Park | StopWorker) -> None:
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
        if self._watching is not None:
            self._watching.cancel()
        for task in self._restarts:
            task.cancel()
        for house in self._houses.values():
            if house.starting is not None and not house.starting.done():
                house.starting.cancel()
        supervisors = [h.supervisor for h in self._houses.values() if h.supervisor is not None]
        await asyncio.gather(*(one.close() for one in supervisors))
        remove_strays()
        remove_stray_allowances()

    def statistics(self) -> dict[str, Any]:
        """Gives the supervisors: interpreter, process, whether ready, sessions, log."""
        return {
            "engine": "local",
            "supervisors": [
                {
                    "user": house.user,
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
        house.supervisor = self._make_supervisor(house)
        try:
            door = await house.supervisor.start()
        except WorkerStartFailed as error:
            house.waiting.clear()
            self._report_all_ended(house, Cause.START_FAILED, str(error))
            if house.waiting:  # granted since; this start is over only when it has returned
                asyncio.get_running_loop().call_soon(self._restart, house)
            raise
        house.ready_at = house.heard_at = time.monotonic()
        waiting, house.waiting = house.waiting, []
        for order in waiting:
            house.supervisor.send(order)
        return door

    def _make_supervisor(self, house: _House) -> Supervisor:
        return Supervisor(
            house.python,
            house.environment or os.environ,
            self._settings,
            lambda message: self._heard(house, message),
            lambda reason: self._lost(house, reason),
            self._module,
            house.user,
        )

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
        house.heard_at = time.monotonic()
        if self._home.get(getattr(message, "session", ""), house) is not house:
            log.warning("%r spoke of a session that is not its own", house.supervisor)
            return
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
            case LimitNear() | TaskReturning() | Heartbeat() | WorkerParked():
                pass
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
        self._report_all_ended(house, Cause.SUPERVISOR_LOST, f"its supervisor ended: {reason}")
        if steady and house.residents:
            self._restart(house)

    async def _watch(self) -> None:
        """Ends supervisors that hang, and those that nobody has needed for long."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = time.monotonic()
            # A machine that slept or stalled has kept them from speaking, too.
            stalled, looked = now - looked > 2 * WATCH_SECONDS, now
            for key, house in list(self._houses.items()):
                if stalled:
                    house.heard_at = now
                self._end_if_silent(house, now)
                if self._is_idle(house, now):
                    del self._houses[key]
                    await self._close_house(house)

    def _end_if_silent(self, house: _House, now: float) -> None:
        silent = now - house.heard_at
        if house.is_ready and silent > self._settings.supervisor_silence_seconds:
            log.warning("%r hangs and is ended", house.supervisor)
            if house.supervisor is not None:
                house.supervisor.give_up(f"it said nothing for {silent:.0f} s")

    def _is_idle(self, house: _House, now: float) -> bool:
        if house.residents or not house.is_ready:
            house.empty_since = None
        elif house.empty_since is None:
            house.empty_since = now
        since = house.empty_since
        return since is not None and now - since >= self._settings.forkserver_idle_seconds

    async def _close_house(self, house: _House) -> None:
        house.ready_at = None
        if house.supervisor is not None:
            await house.supervisor.close()

    def _report_all_ended(self, house: _House, cause: str, detail: str) -> None:
        now, ended = time.monotonic(), []
        for session, resident in house.residents.items():
            if not (resident.forked or resident.lease):
                continue
            lease, started = resident.lease, resident.started_at
            ran = now - started if lease and started is not None else 0.0
            resident.forked, resident.lease, resident.started_at = False, "", None
            ended.append(WorkerEnded(session, lease, cause, detail, ran))
        # Only now: what is reported may be answered by a grant, which waits for the next one.
        for report in ended:
            if self._observer is not None:
                self._observer.reported(report)


async def _given(door: Door) -> Door:
    """Stands for the start of a supervisor that ran already."""
    return door
