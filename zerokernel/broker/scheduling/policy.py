"""The numbers that the scheduler decides by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from zerokernel.broker.scheduling.records import Lease, Session
from zerokernel.lifecycle import Cause

# Weights smaller than the quotas' 1 : 5, which are what a tier is paid for: twice the weight
# is twice the share where all wait, and for the same use a turn one half-life earlier.
TIERS: Mapping[str, float] = {"anonymous": 0.5, "free": 1.0, "pro": 2.0, "enterprise": 4.0}

QUOTAS: Mapping[str, float] = {
    "anonymous": 120.0,
    "free": 300.0,
    "pro": 1500.0,
    "enterprise": 6000.0,
}
"""Seconds a day on a shared broker, unless it is configured otherwise."""
USUAL_TIER = "free"
OVER_QUOTA = ("when idle", "refuse")


@dataclass(frozen=True)
class Policy:
    """Times in seconds.

    Raises ValueError where a number that is divided by is not above zero, and for a quota that
    is none.

    Attributes:
        park_seconds: How long a worker stays parked before it is ended.
        kernel_grace_seconds: How long a session outlives the loss of its connection.
        bind_seconds: From the grant to the cell's first line: initialising a device takes
            seconds on large servers, and loading gigabytes tens of them.
        return_seconds: From the cell's last line until its results are home.
        extend_limits: Whether a task may run on while nobody waits for its size.
        extension_seconds: It gets so much at a time, so that who comes waits no longer.
        parked_memory: Bytes that all parked workers together may keep.
        failing_starts: After so many in a row a session is paused until its user acts.
        deadline_slack: The supervisor enforces the deadline; the scheduler steps in this
            much later, for a supervisor that hangs.
        stop_seconds: A killed process tree is gone in milliseconds. One that is not after
            this time hangs in the driver, and its slice is set aside.
        release_grace: A kernel's withdrawal may overtake the worker's own report that the task
            ended. Only after this time does it mean that the kernel gave up.
        longest: No limit on the owner's machine, but a sane one.
        waiting_per_session: Requests that one session may have in the queue.
        answers_per_session: Ended requests remembered, so that a repeat gets its answer.
        scrub: When the memory of a slice is overwritten before another session has it:
            "between users", "always", "never". That it is free is verified in any case.
        half_life: In this time what was used counts half; docs/fairness.md has the formula.
        unnoticed_use: Recent use up to so many weighed seconds does not delay.
        longest_delay: Recent use, however much, delays a request no longer than this.
        short_bonus: What a request for next to no time is ahead of one for a very long time.
        short_limit: A request for this time has half of that.
        tiers: Weight by tier; of a tier that is not named it is 1.
        strict_tiers: Whether a tier of less weight is served only where none of more waits.
        size_factors: What a second on a slice counts, by size; 1 where not named.
        quotas: Seconds on a slice that a user may have in a window, by tier; a tier that is not
            named has no limit. Who has no tier has the quota of "free".
        quota_window: A user's window opens with the first use and is over after this time.
        over_quota: What becomes of requests of who has used the quota up: "when idle" has them
            wait behind everybody within quota, "refuse" refuses them.
        least_seconds: A limit shrinks to what is left of the quota, but not below this.
        leases_per_user, leases_per_group: That may be held at once; 0 is no limit.
        waiting_per_user, waiting_per_group: Requests in the queue; 0 is no limit.
        places_at_once: While no more wait, each place is told as it changes.
        places_seconds: Else places are told no more often than this.
        places_told: Of more who wait for a size, the first so many are told their place.
    """

    park_seconds: float = 600.0
    kernel_grace_seconds: float = 0.0
    bind_seconds: float = 60.0
    return_seconds: float = 60.0
    extend_limits: bool = True
    extension_seconds: float = 60.0
    parked_memory: int = 1 << 62
    failing_starts: int = 3
    deadline_slack: float = 5.0
    stop_seconds: float = 10.0
    release_grace: float = 0.25
    longest: float = 30 * 86_400.0
    waiting_per_session: int = 100
    answers_per_session: int = 64
    scrub: str = "between users"
    half_life: float = 1200.0
    unnoticed_use: float = 60.0
    longest_delay: float = 7200.0
    short_bonus: float = 120.0
    short_limit: float = 60.0
    tiers: Mapping[str, float] = field(default_factory=lambda: dict(TIERS), hash=False)
    strict_tiers: bool = False
    size_factors: Mapping[str, float] = field(default_factory=dict, hash=False)
    quotas: Mapping[str, float] = field(default_factory=dict, hash=False)
    quota_window: float = 86_400.0
    over_quota: str = "when idle"
    least_seconds: float = 5.0
    leases_per_user: int = 0
    leases_per_group: int = 0
    waiting_per_user: int = 0
    waiting_per_group: int = 0
    places_at_once: int = 32
    places_seconds: float = 0.5
    places_told: int = 1000

    def __post_init__(self) -> None:
        divisors = {"half_life": self.half_life, "unnoticed_use": self.unnoticed_use}
        divisors |= {"quota_window": self.quota_window, "least_seconds": self.least_seconds}
        divisors |= {f"the weight of {tier!r}": weight for tier, weight in self.tiers.items()}
        for name, number in divisors.items():
            if not (math.isfinite(number) and number > 0):
                raise ValueError(f"{name} must be above zero and finite, not {number}.")
        for tier, seconds in self.quotas.items():
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"the quota of {tier!r} must be finite and not below 0.")
        if self.over_quota not in OVER_QUOTA:
            raise ValueError(f"over_quota must be one of {', '.join(map(repr, OVER_QUOTA))}.")

    def weight(self, tier: str) -> float:
        """Gives a tier's weight."""
        return self.tiers.get(tier, 1.0)

    def counts(self, seconds: float, size: str, tier: str) -> float:
        """Gives what seconds on a slice of that size count as use."""
        return seconds * self.size_factors.get(size, 1.0) / self.weight(tier)

    def lease_due(self, lease: Lease) -> float:
        """Gives when the scheduler itself must end a lease: the supervisor should have."""
        if lease.granted_at is None:
            return math.inf
        if lease.ended_at is not None:
            due = lease.ended_at + self.return_seconds
        elif lease.started_at is not None:
            due = lease.started_at + lease.limit
        else:
            due = lease.granted_at + self.bind_seconds
        backstop = due + self.deadline_slack
        return min(backstop, math.inf if lease.release_at is None else lease.release_at)

    def overdue(self, lease: Lease) -> Cause:
        """Gives why a lease ends that is due now."""
        if lease.release_at is not None:
            return Cause.CANCELLED
        if lease.ended_at is not None:
            return Cause.UNDELIVERED
        return Cause.DEADLINE if lease.started_at is not None else Cause.START_FAILED

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
