"""What every engine can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from zerokernel.messages import (
    Bind,
    ExtendLimit,
    Heartbeat,
    LimitNear,
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

Report = (
    WorkerForked
    | TaskStarted
    | LimitNear
    | TaskReturning
    | TaskEnded
    | Heartbeat
    | WorkerParked
    | WorkerEnded
)


@dataclass(frozen=True)
class Door:
    """Where and how a notebook reaches the supervisor that forks its worker.

    Attributes:
        address: "unix:PATH" or "tcp:HOST:PORT".
        secret: What the notebook proves to know (hex).
    """

    address: str
    secret: str

    def __repr__(self) -> str:
        return f"Door({self.address!r})"  # a secret does not belong into logs


class Observer(Protocol):
    """Who is told what happens in an engine; called in the event loop's thread."""

    def reported(self, report: Report) -> None:
        """A supervisor reported something about a session's worker."""

    def adopted(self, kept: WorkerKept, user: str) -> None:
        """A supervisor of an earlier broker still has this user's worker; told before its reports.

        The user is "" where that broker did not write it down.
        """

    def moved(self, session: str, door: Door) -> None:
        """The session's supervisor was started anew and has another door."""


class Engine(Protocol):
    """Runs workers. Every worker that was forked or bound is reported ended exactly once."""

    def observe(self, observer: Observer) -> None:
        """Sets who is told; once, before anything else."""

    async def open(
        self, session: str, python: str, environment: Mapping[str, str], user: str = ""
    ) -> Door:
        """Makes a supervisor ready for the session's workers; it forks for that user alone.

        Raises:
            WorkerStartFailed: It could not be started; the message has the end of its log.
        """

    async def adopt(self) -> None:
        """Takes over the supervisors that an earlier broker left; once, before any `open`."""

    def send(self, order: Bind | ExtendLimit | Park | StopWorker) -> None:
        """Gives an order. A Bind may come before its worker."""

    def forget(self, session: str) -> None:
        """The session is over."""

    async def close(self) -> None:
        """Ends all workers and supervisors."""

    def statistics(self) -> dict[str, Any]:
        """Gives what the status shows of the engine, JSON-able."""
