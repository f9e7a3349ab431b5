"""What users and groups used of late, hold and wait for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.records import Account, Counted, Lease

_SWEEP_ABOVE = 1000
_FORGOTTEN_AFTER = 10  # half-lives: of the minute that does not delay, a twentieth of a second


@dataclass
class Standing:
    """One user, or one group.

    Attributes:
        used: Weighed seconds, faded until ``at``: untouched they fade without being written.
        leases: That are held now.
        waiting: Requests in the queue.
    """

    used: float = 0.0
    at: float = 0.0
    leases: int = 0
    waiting: int = 0

    def used_by(self, now: float, policy: Policy) -> float:
        """Gives the weighed seconds that are left of the use."""
        return self.used * _faded(now - self.at, policy)

    def count(self, amount: float, now: float, policy: Policy) -> None:
        """Adds weighed seconds of use, or takes them back."""
        self.used = max(0.0, self.used_by(now, policy) + amount)
        self.at = now

    def fades(self, policy: Policy) -> float:
        """Gives when the use is down to what does not delay: the same at any time."""
        return fades_at(self.used, self.at, policy)


def fades_at(used: float, at: float, policy: Policy) -> float:
    """Gives when the use that is there at a time is down to what does not delay."""
    if used <= 0.0:
        return -math.inf
    # Not the logarithm of the ratio: it may be too small to be a number.
    return at + policy.half_life * (math.log2(used) - math.log2(policy.unnoticed_use))


def _faded(seconds: float, policy: Policy) -> float:
    return float(0.5 ** (seconds / policy.half_life))


class Standings:
    """The standing of all users and groups, and the clock by which it fades.

    Attributes:
        time: Seconds that went by; where the clock that is told jumps back, they go on from
            there.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.time = 0.0
        self._told: float | None = None
        self._all: dict[tuple[str, str], Standing] = {}
        self._sweep_above = _SWEEP_ABOVE

    def pass_time(self, now: float) -> None:
        """Takes in what the clock says now."""
        if self._told is not None and math.isfinite(now):
            self.time += max(0.0, now - self._told)
        self._told = now

    def clock_at(self, time: float) -> float:
        """Gives what the clock will say at a time."""
        return (self._told or 0.0) + time - self.time

    def user(self, account: Account) -> Standing:
        """Gives where an account's user stands."""
        return self._of(("", account.user))

    def group(self, account: Account) -> Standing:
        """Gives where an account's group stands; its user, where it has none."""
        return self._of(account.party)

    def _of(self, name: tuple[str, str]) -> Standing:
        known = self._all.get(name)
        if known is None:
            self._sweep()
            known = self._all[name] = Standing(at=self.time)
        return known

    def _both(self, account: Account) -> list[Standing]:
        user, group = self.user(account), self.group(account)
        return [user] if group is user else [user, group]

    def waits(self, account: Account, more: int) -> None:
        """Notes that so many requests more are in the queue, or fewer."""
        for one in self._both(account):
            one.waiting += more

    def began(self, lease: Lease) -> None:
        """Counts a lease's whole limit as used: nobody gets many slices before any counts."""
        account, size = lease.session.account, lease.request.size
        amount = self.policy.counts(lease.request.duration, size, account.tier)
        lease.counted = Counted(account, amount, self.time)
        for one in self._both(account):
            one.leases += 1
            one.count(amount, self.time, self.policy)

    def ended(self, lease: Lease, seconds: float) -> Account | None:
        """Counts what a lease really used instead. Gives whose standing changed."""
        if (counted := lease.counted) is None:
            return None
        lease.counted = None
        account, size = counted.account, lease.request.size
        left = counted.amount * _faded(self.time - counted.at, self.policy)
        used = self.policy.counts(seconds, size, account.tier)
        for one in self._both(account):
            one.leases -= 1
            one.count(used - left, self.time, self.policy)
        return account

    def user_may_lease(self, account: Account) -> bool:
        """Whether the user may have one lease more."""
        return _below(self.user(account).leases, self.policy.leases_per_user)

    def group_may_lease(self, account: Account) -> bool:
        """Whether the group may have one lease more."""
        return not account.group or _below(self.group(account).leases, self.policy.leases_per_group)

    def held_back(self, account: Account) -> str:
        """Says which limit keeps the account from another lease, "" where none does."""
        if not self.user_may_lease(account):
            return f"you hold {_leases(self.user(account).leases)}, as many as you may"
        if not self.group_may_lease(account):
            held = _leases(self.group(account).leases)
            return f"the group {account.group!r} holds {held}, as many as it may"
        return ""

    def overfull(self, account: Account) -> str:
        """Says why the account may have no request more in the queue, "" where it may."""
        user, group = self.user(account), self.group(account)
        if not _below(user.waiting, self.policy.waiting_per_user):
            return f"You have {user.waiting} requests waiting already, in all notebooks together."
        if account.group and not _below(group.waiting, self.policy.waiting_per_group):
            return f"The group {account.group!r} has {group.waiting} requests waiting already."
        return ""

    def _sweep(self) -> None:
        """Forgets whom nothing is remembered of, now and then."""
        if len(self._all) < self._sweep_above:
            return
        old = self.time - _FORGOTTEN_AFTER * self.policy.half_life
        self._all = {
            name: one
            for name, one in self._all.items()
            if one.leases or one.waiting or one.fades(self.policy) > old
        }
        self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._all))


def _leases(count: int) -> str:
    return "1 lease" if count == 1 else f"{count} leases"


def _below(count: int, limit: int) -> bool:
    return not limit or count < limit
