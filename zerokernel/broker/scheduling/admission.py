"""Which requests do not get into the queue, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.records import Session, Slice
from zerokernel.broker.scheduling.sizes import impossible
from zerokernel.messages import RequestLease

STUCK = "The notebook's previous worker was killed and does not end. Restart the kernel."


def refusal(
    session: Session,
    message: RequestLease,
    size: str,
    there: Sequence[Slice],
    policy: Policy,
    overfull: str = "",
) -> tuple[str, str] | None:
    """Gives code and reason of the refusal, None where the request may wait.

    Args:
        session: Who asks.
        message: What was asked.
        size: The size that it means, "" where none here has what is asked.
        there: What there is, a slice a size, smallest first.
        policy: The limits.
        overfull: Why its user or group may have no request more in the queue.
    """
    duration, longest = message.duration, policy.longest
    if not (math.isfinite(duration) and 0 < duration <= longest):
        return "BadDuration", (
            f"A cell can ask for more than 0 s and at most {longest / 86_400:g} days; "
            f"this one asks for {duration} s."
        )
    if not size:
        return "UnknownSize", impossible(message, there)
    if session.waiting >= policy.waiting_per_session:
        return "RequestRefused", f"The notebook has {session.waiting} requests waiting already."
    if overfull:
        return "RequestRefused", overfull
    if session.failed_starts >= policy.failing_starts:
        return "WorkerStartFailed", (
            f"The notebook's worker failed to start {session.failed_starts} times in a row, so "
            "its GPU cells are paused. `zerokernel doctor` looks for the cause; "
            "`%gpu restart` tries again."
        )
    if session.stuck:
        return "WorkerStartFailed", STUCK
    return None
