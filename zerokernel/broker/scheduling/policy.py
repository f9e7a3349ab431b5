"""The numbers that the scheduler decides by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zerokernel.broker.scheduling.records import Lease, Session


@dataclass(frozen=True)
class Policy:
    """Times in seconds.

    Attributes:
        park_seconds: How long a worker stays parked before it is ended.
        kernel_grace_seconds: How long a session outlives the loss of its connection.
        binding_allowance: What a lease may last beyond its limit: initialising a device
            takes seconds on large servers, and loading and returning gigabytes tens of them.
        deadline_slack: The supervisor enforces the deadline; the scheduler steps in this
            much later, for a supervisor that hangs.
        stop_seconds: A killed process tree is gone in milliseconds. One that is not after
            this time hangs in the driver, and its slice is set aside.
        release_grace: A kernel's release may overtake the worker's own report that the task
            ended. Only after this time does it mean that the kernel gave up.
        longest: No limit on the owner's machine, but a sane one.
        waiting_per_session: Requests that one session may have in the queue.
        answers_per_session: Ended requests remembered, so that a repeat gets its answer.
    """

    park_seconds: float = 600.0
    kernel_grace_seconds: float = 0.0
    binding_allowance: float = 60.0
    deadline_slack: float = 5.0
    stop_seconds: float = 10.0
    release_grace: float = 0.25
    longest: float = 30 * 86_400.0
    waiting_per_session: int = 100
    answers_per_session: int = 64

    def hold(self, lease: Lease) -> float:
        """Gives the seconds after its grant at which a lease ends whatever happens."""
        return lease.request.duration + self.binding_allowance

    def lease_due(self, lease: Lease) -> float:
        """Gives when the scheduler itself must end a lease."""
        if lease.granted_at is None:
            return math.inf
        backstop = lease.granted_at + self.hold(lease) + self.deadline_slack
        return min(backstop, math.inf if lease.release_at is None else lease.release_at)

    def session_due(self, session: Session) -> float:
        """Gives when a session's grace or its worker's time is over."""
        due = math.inf
        if session.lost_at is not None:
            due = session.lost_at + self.kernel_grace_seconds
        if (worker := session.worker) and not worker.stuck:
            if worker.stopping_at is not None:
                due = min(due, worker.stopping_at + self.stop_seconds)
            elif worker.parked_at is not None:
                due = min(due, worker.parked_at + self.park_seconds)
        return due
