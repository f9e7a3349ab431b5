"""Why a request waits where it does, in words for its user."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from zerokernel.broker.scheduling import order
from zerokernel.broker.scheduling.line import Place
from zerokernel.broker.scheduling.order import Turn
from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.records import Request, SliceRecord
from zerokernel.broker.scheduling.waiting import remaining

# Those that make a difference first; who only came earlier needs no reason.
_KINDS = (
    "within quota",
    "of a higher tier",
    "of higher weight",
    "shorter",
    "of less recent use",
    "your own",
)


@dataclass(frozen=True)
class Supply:
    """The slices of a size that are not set aside: how many, which if one, why if none."""

    usable: int
    only: SliceRecord | None = None
    reason: str = ""


def explain(places: Sequence[Place], there: Supply, policy: Policy, limit: str = "") -> str:
    """Says why the last of the places is that of its request.

    Args:
        places: Those ahead in order, and the one that is asked for.
        there: The slices of the size.
        policy: What the order is made by.
        limit: Which limit keeps its user from a slice, whoever is ahead; "" where none does.
    """
    request = places[-1].request
    if not there.usable:
        return f"no slice of size {request.size!r} is usable now: {there.reason}"
    if limit:
        return limit
    if len(places) > 1:
        return _ahead(places, policy)
    if request.session.lease is not None:
        return "your notebook's previous cell still holds its lease"
    return _next(request, there)


def far_back(ahead: int) -> str:
    """Says no more than how many are ahead at least."""
    return f"more than {ahead} requests ahead"


def next_free(slices: Sequence[SliceRecord], now: float) -> str:
    """Says when the first slice is expected to be free by the limits, "" where that is unknown."""
    ends = [remaining(one.lease, now) for one in slices if one.lease and not one.set_aside]
    return f"next slice free in about {in_round_numbers(min(ends))}" if ends else ""


def in_round_numbers(seconds: float) -> str:
    """Gives "40 s", "4 min", "2 h": as far as it can be known."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


def _next(request: Request, there: Supply) -> str:
    if (one := there.only) is None:
        return f"next: all {there.usable} slices of size {request.size!r} are in use"
    if one.cleaning:
        return f"next: the memory of {one.slice.name} is being verified"
    if one.lease is None:
        return "next"
    holder = one.lease.session
    # What others call their notebooks is theirs.
    who = f"used by {holder.name!r}" if holder.user == request.session.user else "in use"
    return f"next: {one.slice.name} is {who}"


def _ahead(places: Sequence[Place], policy: Policy) -> str:
    *ahead, mine = places
    user = mine.request.session.user
    if all(one.request.session.user == user for one in ahead):
        return f"first come, first served: {len(ahead)} before you"
    kinds = Counter(_kind(one, mine, policy) for one in ahead)
    named = [f"{kinds[kind]} {kind}" for kind in _KINDS if kinds[kind]]
    many = "1 request" if len(ahead) == 1 else f"{len(ahead)} requests"
    return f"{many} ahead: {', '.join(named)}" if named else f"{many} ahead, waiting longer"


def _kind(other: Place, mine: Place, policy: Policy) -> str:
    """Gives what puts the other ahead: that without which it would not be."""
    if other.request.session.user == mine.request.session.user:
        return "your own"
    if other.request.beyond_quota != mine.request.beyond_quota:
        return "within quota"
    if other.key[1] != mine.key[1]:
        return "of a higher tier"
    if _as_if_equal(other, mine, policy) > mine.key[2]:
        return "of higher weight"
    lead = order.bonus(other.request, policy) - order.bonus(mine.request, policy)
    if other.key[2] + lead > mine.key[2]:
        return "shorter"
    later = order.waits_since(other.request, other.user) > order.waits_since(
        mine.request, mine.user
    )
    return "of less recent use" if later else ""


def _as_if_equal(other: Place, mine: Place, policy: Policy) -> float:
    """Gives where the other would stand with no more weight than mine."""
    tiers = other.request.session.account.tier, mine.request.session.account.tier
    more = policy.weight(tiers[0]) / policy.weight(tiers[1])
    if more <= 1.0:
        return other.key[2]
    later = policy.half_life * math.log2(more)
    user, group = other.user, other.group
    turns = Turn(user.served, user.fades + later), Turn(group.served, group.fades + later)
    return order.key(other.request, *turns, policy)[2]
