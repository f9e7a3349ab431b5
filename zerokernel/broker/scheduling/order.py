"""The order of the queue: one function. docs/fairness.md says the same in words.

A key does not change while a request waits and nothing changes for its user and group: time
shifts all keys alike, so they are points in time and not spans.
"""

from __future__ import annotations

from typing import NamedTuple

from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.records import Request

Key = tuple[bool, float, float, int]


class Turn(NamedTuple):
    """Where a user or a group stands among others.

    Attributes:
        served: When it was last given a slice while it waited for more; -inf for never.
        fades: When its recent use will have faded to what does not delay.
    """

    served: float
    fades: float


def key(request: Request, user: Turn, group: Turn, policy: Policy) -> Key:
    """Gives what waiting requests are sorted by, lowest first.

    Work beyond quota comes after all other, tiers are walls where the policy says so. Then a
    request stands as if it had come when the recent use of its user and its group has faded,
    but no later than `longest_delay` after it did, and a little earlier the shorter it is.

    Args:
        request: What waits; `since` is known.
        user: Where its user stands.
        group: Where its group stands; that of the user where there is none.
        policy: The numbers.
    """
    stands = stands_from(request, user, policy)
    if group is not user:
        stands = max(stands, stands_from(request, group, policy))
    return (*wall(request, policy), stands - bonus(request, policy), request.arrival)


def wall(request: Request, policy: Policy) -> tuple[bool, float]:
    """Gives what no waiting overcomes: quota first, then the tier where tiers are strict."""
    tier = -policy.weight(request.session.account.tier) if policy.strict_tiers else 0.0
    return request.beyond_quota, tier


def stands_from(request: Request, turn: Turn, policy: Policy) -> float:
    """Gives the time at which a request counts as come, for one of user and group."""
    since = waits_since(request, turn)
    return min(max(since, turn.fades), since + policy.longest_delay)


def waits_since(request: Request, turn: Turn) -> float:
    """Gives since when a request is the one that its user or group waits for.

    From the last slice that was given, so that who has many requests waiting has no turn
    more than who has one.
    """
    return max(request.since or 0.0, turn.served)


def bonus(request: Request, policy: Policy) -> float:
    """Gives the seconds that a request is ahead for being short, below `short_bonus`."""
    if not policy.short_limit:
        return 0.0
    return policy.short_bonus * policy.short_limit / (policy.short_limit + request.duration)
