"""What becomes of a cell when something dies or hangs: the one source of these rules.

Broker, supervisor and notebook ask here what a cause is charged, whether the cell is run
again, and what its user reads. docs/life-cycle.md shows the same table, and a test makes
each of its cells happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a cell is, in the order of its way."""

    STAGING = "staging"  # the notebook packs what the cell uses
    QUEUED = "queued"
    GRANTED = "granted"  # a slice is its own; the worker has not been told yet
    BINDING = "binding"  # the worker opens its slice and unpacks
    RUNNING = "running"
    RETURNING = "returning"  # the cell's last line is over, its results are on their way
    COMMITTING = "committing"  # the notebook writes them into its objects
    PARKED = "parked"  # between two cells

    @property
    def ran(self) -> bool:
        """Whether the cell's first line has run: from here on it is charged."""
        return self in (Phase.RUNNING, Phase.RETURNING, Phase.COMMITTING)

    @property
    def is_home(self) -> bool:
        """Whether the notebook has all that it needs of the worker."""
        return self in (Phase.COMMITTING, Phase.PARKED)


class Cause(StrEnum):
    """Why a lease or a worker ended, as messages and books name it."""

    FINISHED = "finished"
    KILLED = "killed"
    EXITED = "exited"
    OUT_OF_MEMORY = "out of memory"
    DEADLINE = "deadline"
    UNDELIVERED = "results not taken"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupt ignored"
    RESTART = "restart"
    KERNEL_LOST = "kernel lost"
    START_FAILED = "start failed"
    SUPERVISOR_LOST = "supervisor lost"
    BROKER_LOST = "broker lost"
    DEVICE_LOST = "device lost"
    EVICTED = "evicted"
    IDLE = "idle"
    REPLACED = "replaced"
    SHUTDOWN = "shutdown"
    RECOVERED = "recovered"


@dataclass(frozen=True)
class Rule:
    """What follows from a cause.

    Attributes:
        error: The class of errors.py that the notebook raises.
        charged: Whether the time that the cell ran is charged. Not where the hardware or
            zerokernel itself took the result away.
        again: Whether the cell is run again, once, if its first line had not run.
    """

    error: str
    charged: bool = True
    again: bool = True


RULES: Mapping[Cause, Rule] = {
    Cause.FINISHED: Rule("WorkerLost"),
    Cause.KILLED: Rule("WorkerKilled"),
    Cause.EXITED: Rule("WorkerLost"),
    Cause.OUT_OF_MEMORY: Rule("WorkerOutOfMemory", again=False),
    Cause.DEADLINE: Rule("DeadlineExceeded", again=False),
    Cause.UNDELIVERED: Rule("WorkerLost", again=False),
    Cause.CANCELLED: Rule("RequestCancelled", again=False),
    Cause.INTERRUPTED: Rule("RequestCancelled", again=False),
    Cause.RESTART: Rule("RequestCancelled", again=False),
    Cause.KERNEL_LOST: Rule("WorkerLost"),
    Cause.START_FAILED: Rule("WorkerStartFailed", charged=False),
    Cause.SUPERVISOR_LOST: Rule("WorkerLost", charged=False),
    Cause.BROKER_LOST: Rule("BrokerLost", charged=False),
    Cause.DEVICE_LOST: Rule("DeviceLost", charged=False),
    Cause.EVICTED: Rule("WorkerLost"),
    Cause.IDLE: Rule("WorkerLost"),
    Cause.REPLACED: Rule("WorkerLost"),
    Cause.SHUTDOWN: Rule("BrokerLost", charged=False, again=False),
    Cause.RECOVERED: Rule("BrokerLost"),
}


_BY_NAME: Mapping[str, Rule] = {cause.value: rule for cause, rule in RULES.items()}


def rule_of(cause: str) -> Rule:
    """Gives the rule of a cause as a message names it; a remark may follow after a colon."""
    return _BY_NAME.get(cause.partition(":")[0], RULES[Cause.EXITED])


# --- the table ------------------------------------------------------------------------------


class Party(StrEnum):
    """Who may be lost."""

    KERNEL = "kernel"
    WORKER = "worker"
    SUPERVISOR = "supervisor"
    BROKER = "broker"
    MACHINE = "machine"
    NETWORK = "network"


class Failure(StrEnum):
    """How."""

    DIES = "dies"
    HANGS = "hangs"
    CUT = "is cut"


class Fate(StrEnum):
    """What becomes of the cell, and with it of the namespace."""

    APPLIED = "the cell ends as if nothing had happened"
    AGAIN = "the cell is run again"
    LOST = "nothing is applied, the error says why"
    GONE = "the namespace ended with its kernel"


@dataclass(frozen=True)
class Outcome:
    """One cell of the table.

    Attributes:
        actor: Who acts; None where nobody needs to.
        within: Seconds, or the name of the setting that says how long; "limit" is the
            cell's own.
        charged: Whether what the cell ran is charged.
        error: Class of the error that the user reads; "" where there is none.
        cause: How the books name the end of the lease that was held; None where it goes on,
            or was over.
    """

    actor: Party | None
    within: float | str
    charged: bool
    fate: Fate
    error: str = ""
    cause: Cause | None = None


@dataclass(frozen=True)
class _Loss:
    """How the loss of a party shows, by phase: cause and who notices it within what time."""

    actor: Party
    within: float | str
    cause: Cause
    slower: Mapping[Phase, tuple[Party, float | str, Cause]]


_BEFORE = (Phase.STAGING, Phase.QUEUED, Phase.GRANTED, Phase.BINDING)

_WORKER_LOSSES: Mapping[tuple[Party, Failure], _Loss] = {
    (Party.WORKER, Failure.DIES): _Loss(Party.SUPERVISOR, 1.0, Cause.KILLED, {}),
    (Party.WORKER, Failure.HANGS): _Loss(
        Party.SUPERVISOR,
        "bind_seconds",
        Cause.START_FAILED,
        {
            Phase.RUNNING: (Party.SUPERVISOR, "limit", Cause.DEADLINE),
            Phase.RETURNING: (Party.SUPERVISOR, "return_seconds", Cause.UNDELIVERED),
        },
    ),
    (Party.SUPERVISOR, Failure.DIES): _Loss(Party.BROKER, 1.0, Cause.SUPERVISOR_LOST, {}),
    (Party.SUPERVISOR, Failure.HANGS): _Loss(
        Party.BROKER, "supervisor_silence_seconds", Cause.SUPERVISOR_LOST, {}
    ),
    (Party.NETWORK, Failure.CUT): _Loss(Party.WORKER, 1.0, Cause.KERNEL_LOST, {}),
}
"""Losses that take the worker away from a notebook that lives on."""

FAILURES: tuple[tuple[Party, Failure], ...] = (
    (Party.KERNEL, Failure.DIES),
    (Party.KERNEL, Failure.HANGS),
    (Party.WORKER, Failure.DIES),
    (Party.WORKER, Failure.HANGS),
    (Party.SUPERVISOR, Failure.DIES),
    (Party.SUPERVISOR, Failure.HANGS),
    (Party.BROKER, Failure.DIES),
    (Party.BROKER, Failure.HANGS),
    (Party.MACHINE, Failure.DIES),
    (Party.NETWORK, Failure.CUT),
)
"""The rows of the table."""


def outcome(party: Party, failure: Failure, phase: Phase) -> Outcome:
    """Gives what follows when a party fails in a phase."""
    if loss := _WORKER_LOSSES.get((party, failure)):
        return _without_worker(loss, phase)
    if party is Party.BROKER:
        # Supervisor and notebook do without it: the cell goes on, its request is made again.
        within: float | str = 2.0 if failure is Failure.DIES else "broker_silence_seconds"
        return Outcome(Party.KERNEL, within, phase.ran, Fate.APPLIED)
    if failure is Failure.HANGS:
        return _kernel_hangs(phase)
    within, cause = (
        (1.0, Cause.KERNEL_LOST) if party is Party.KERNEL else ("next start", Cause.RECOVERED)
    )
    return Outcome(Party.BROKER, within, phase.ran, Fate.GONE, cause=_if_held(cause, phase))


def _if_held(cause: Cause, phase: Phase) -> Cause | None:
    return None if phase.is_home or phase is Phase.QUEUED else cause


def _without_worker(loss: _Loss, phase: Phase) -> Outcome:
    if phase.is_home:
        return Outcome(None, 0.0, phase.ran, Fate.APPLIED)
    actor, within, cause = loss.slower.get(phase, (loss.actor, loss.within, loss.cause))
    rule = RULES[cause]
    if phase in _BEFORE and rule.again:
        return Outcome(actor, within, False, Fate.AGAIN, cause=_if_held(cause, phase))
    return Outcome(actor, within, rule.charged and phase.ran, Fate.LOST, rule.error, cause)


def _kernel_hangs(phase: Phase) -> Outcome:
    """A stopped kernel is not dead: its cell has its turn, and what it made waits a while."""
    if phase is Phase.STAGING:
        cause = Cause.START_FAILED
        return Outcome(Party.SUPERVISOR, "bind_seconds", False, Fate.AGAIN, cause=cause)
    if phase.is_home:
        return Outcome(None, 0.0, phase.ran, Fate.APPLIED)
    cause = Cause.UNDELIVERED
    return Outcome(Party.SUPERVISOR, "return_seconds", True, Fate.LOST, RULES[cause].error, cause)
