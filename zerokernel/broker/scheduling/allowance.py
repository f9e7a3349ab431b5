"""What follows for requests and leases from what their users have left of their quotas."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from zerokernel.broker.scheduling.explaining import in_round_numbers
from zerokernel.broker.scheduling.quota import ROUNDING

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.events import BalanceTold
    from zerokernel.broker.scheduling.records import Account, Lease, Request
    from zerokernel.broker.scheduling.state import SchedulerState

REFUSE = "refuse"
_LEAST_EXTENSION = 1.0
_MUST_END = "beyond your quota: ends for somebody within theirs"
_GAVE_WAY = "ran beyond your quota, and somebody within theirs waits for the slice"
_OVERTAKEN = "the quota is used up, and who is within it comes first"


def told(state: SchedulerState, event: BalanceTold, now: float) -> None:
    """The books say what a user has used; what only the scheduler knows it keeps."""
    state.quotas.learn(event.user, event.balance, state.queue.standings.time)
    review(state, event.user)


def review(state: SchedulerState, user: str) -> None:
    """Has what a user waits for stand behind those within quota, or among them again."""
    if not state.policy.quotas:
        return
    time, beyond = state.queue.standings.time, False
    for request in state.queue.of_user(user):
        is_beyond = state.quotas.is_beyond(request, time)
        if is_beyond and state.policy.over_quota == REFUSE:
            state.queue.remove(request)
            state.out.refuse(request.session, request.id, "QuotaExceeded", used_up(state, request))
            continue
        if is_beyond != request.beyond_quota:
            state.queue.set_beyond_quota(request, is_beyond)
            state.out.setback = _OVERTAKEN if is_beyond else state.out.setback
        beyond = beyond or is_beyond
    if beyond:
        state.resets[user] = time + state.quotas.resets_in(user, time)
    else:
        state.resets.pop(user, None)


def review_resets(state: SchedulerState) -> None:
    """Looks at those again who wait beyond their quota, and whose window is over."""
    time = state.queue.standings.time
    for user in [user for user, due in state.resets.items() if time >= due - ROUNDING]:
        review(state, user)


def next_reset(state: SchedulerState) -> float:
    """Gives when by the clock `review_resets` has something to do, inf for never."""
    first = min(state.resets.values(), default=math.inf)
    return math.inf if first == math.inf else state.queue.standings.clock_at(first)


def extension(state: SchedulerState, lease: Lease, seconds: float) -> float:
    """Gives what of an extension the quota allows, 0 where that is next to nothing."""
    account, size = lease.session.account, lease.request.size
    if not state.quotas.weight_of(lease.id, account.user):
        return seconds
    allowed = state.quotas.affordable(account, size, seconds, state.queue.standings.time)
    return allowed if allowed >= min(seconds, _LEAST_EXTENSION) else 0.0


def make_way(state: SchedulerState, now: float) -> None:
    """Has cells beyond their quota end where somebody within quota waits for their slices.

    No more of them than wait; those that have run longest first.
    """
    if not state.beyond or state.books_closed:
        return
    by_size: dict[str, list[Lease]] = {}
    for lease in state.beyond.values():
        if lease.started_at is not None and lease.ended_at is None:
            by_size.setdefault(lease.request.size, []).append(lease)
    for size, leases in by_size.items():
        places = islice(state.queue.places(size), len(leases))
        wanted = sum(not one.request.beyond_quota and _could_run(one.request) for one in places)
        wanted -= sum(one.gives_way for one in leases) + state.lookout.free(size)
        running = sorted(
            (one for one in leases if not one.gives_way), key=lambda one: -one.ran(now)
        )
        for lease in running[: max(0, wanted)]:
            _give_way(state, lease, now)


def _could_run(request: Request) -> bool:
    return request.session.connected and request.session.lease is None


def _give_way(state: SchedulerState, lease: Lease, now: float) -> None:
    seconds = state.policy.give_way_seconds
    lease.gives_way = True
    if lease.ran(now) + seconds >= lease.limit:
        return  # it ends in time by itself
    lease.limit = lease.ran(now) + seconds
    state.lookout.touch_slice(lease.slice)
    state.queue.changed.add(lease.request.size)
    state.out.shorten(lease, _MUST_END, _GAVE_WAY)


def used_up(state: SchedulerState, request: Request) -> str:
    """Says that too little is left of the quota, and when that changes."""
    account, time = request.session.account, state.queue.standings.time
    seconds = state.quotas.quota(account) / 1000.0
    resets = state.quotas.resets_in(account.user, time)
    text = f"Your quota of {in_round_numbers(seconds)} on a GPU is used up"
    return f"{text}." if resets == math.inf else f"{text}; it resets in {in_round_numbers(resets)}."


def beyond(state: SchedulerState, request: Request) -> str:
    """Begins the reason for a place with the quota that is used up; "" where it is not."""
    return f"{used_up(state, request)[:-1]}; " if request.beyond_quota else ""


def summary(state: SchedulerState, account: Account) -> dict[str, Any]:
    """Gives an account's quota, what is left and when it resets, in seconds; None for no limit."""
    time = state.queue.standings.time
    quota, left = state.quotas.quota(account), state.quotas.left(account, time)
    resets = state.quotas.resets_in(account.user, time)
    return {
        "quota": None if quota == math.inf else quota / 1000.0,
        "left": None if left == math.inf else left / 1000.0,
        "resets_in": None if resets == math.inf else resets,
        "tier": account.tier,
    }
