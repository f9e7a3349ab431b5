"""What users may still use: a quota a window, which opens at first use.

Amounts are milliseconds of quota: time on a slice, times the weight of its size. Times are
by the queue's clock, which never goes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from zerokernel.broker.scheduling.policy import USUAL_TIER, Policy
from zerokernel.broker.scheduling.records import Account, Request

ROUNDING = 1e-3
"""Seconds by which a clock that is told when a window ends may be early."""
WEIGHT = 1000
"""The weight of a size that counts as it is; of one that counts twice it is 2000."""


def cost(milliseconds: int, weight: int) -> int:
    """Gives what time on a slice counts against a quota, rounded up; the books count by it too."""
    return -(-milliseconds * weight // WEIGHT)


def _cost(seconds: float, weight: int) -> int:
    return cost(round(1000 * seconds), weight)


@dataclass(frozen=True)
class Hold:
    """What a lease that is not settled keeps of its user's quota.

    Attributes:
        weight: Of its size; 0 where it runs beyond the quota.
        window: The number of the user's window that it counts in.
        opens_window: Whether that window began with it.
    """

    weight: int = WEIGHT
    amount: int = 0
    window: int = 0
    opens_window: bool = False


@dataclass(frozen=True)
class Balance:
    """What the books say of a user's window.

    Attributes:
        opened_ago: Seconds since it opened; None where none is open.
        charged: What its settled leases were charged.
        reserved: What its leases that are not settled have reserved.
    """

    opened_ago: float | None = None
    charged: int = 0
    reserved: int = 0


@dataclass
class Purse:
    """One user's window.

    Attributes:
        number: Counts the user's windows.
        elsewhere: What leases have reserved that this scheduler does not know.
        holds: What those have that it knows, by lease.
    """

    opened_at: float | None = None
    number: int = 0
    charged: int = 0
    elsewhere: int = 0
    holds: dict[str, Hold] = field(default_factory=dict)

    def used(self) -> int:
        """Gives what of the quota is charged or reserved."""
        held = sum(one.amount for one in self.holds.values() if one.window == self.number)
        return self.charged + self.elsewhere + held

    def close_if_over(self, time: float, length: float) -> None:
        """Ends the window when its time has come; the next use opens another."""
        if self.opened_at is not None and time >= self.opened_at + length - ROUNDING:
            self.opened_at, self.charged, self.elsewhere = None, 0, 0
            self.number += 1


class Quotas:
    """The purses of all users.

    Args:
        policy: `quotas` by tier, in seconds a window.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._purses: dict[str, Purse] = {}

    def learn(self, user: str, balance: Balance, time: float) -> None:
        """Takes in what the books say of a user."""
        purse = self._purses.setdefault(user, Purse())
        known = sum(one.amount for one in purse.holds.values() if one.window == purse.number)
        opened = None if balance.opened_ago is None else time - balance.opened_ago
        purse.opened_at, purse.charged = opened, balance.charged
        purse.elsewhere = max(0, balance.reserved - known)

    def weight(self, size: str) -> int:
        """Gives how a size counts, in thousandths."""
        return round(WEIGHT * self._policy.size_factors.get(size, 1.0))

    def quota(self, account: Account) -> float:
        """Gives what an account may use in a window, inf where there is no limit."""
        return 1000.0 * self._policy.quotas.get(account.tier or USUAL_TIER, math.inf)

    def left(self, account: Account, time: float) -> float:
        """Gives what is neither charged nor reserved, inf where there is no limit."""
        return max(0.0, self.quota(account) - self._purse(account.user, time).used())

    def resets_in(self, user: str, time: float) -> float:
        """Gives the seconds until the user's window is over, inf where none is open."""
        opened = self._purse(user, time).opened_at
        return math.inf if opened is None else opened + self._policy.quota_window - time

    def is_beyond(self, request: Request, time: float) -> bool:
        """Whether too little is left for a request to begin."""
        least = min(request.duration, self._policy.least_seconds)
        needed = _cost(least, self.weight(request.size))
        return self.left(request.session.account, time) < needed

    def affordable(self, account: Account, size: str, seconds: float, time: float) -> float:
        """Gives the seconds of those asked for that what is left allows on a slice of a size."""
        weight, left = self.weight(size), self.left(account, time)
        if not weight or left == math.inf:
            return seconds
        return min(seconds, int(left) * WEIGHT // weight / 1000)

    def hold(self, lease: str, request: Request, seconds: float, time: float) -> Hold:
        """Reserves for a lease; nothing where it runs beyond the quota."""
        account = request.session.account
        purse = self._purse(account.user, time)
        weight = 0 if request.beyond_quota else self.weight(request.size)
        # Where there is no quota, the books are left to tell windows apart.
        limited = self.quota(account) != math.inf
        opens = limited and bool(weight) and purse.opened_at is None
        if opens:
            purse.opened_at = time
        made = Hold(weight, _cost(seconds, weight), purse.number, opens)
        purse.holds[lease] = made
        return made

    def weight_of(self, lease: str, user: str) -> int:
        """Gives how a lease that is not settled counts; 0 where it runs beyond the quota."""
        purse = self._purses.get(user)
        known = purse.holds.get(lease) if purse is not None else None
        return WEIGHT if known is None else known.weight

    def extend(self, lease: str, user: str, seconds: float, time: float) -> None:
        """Lets the reservation of a lease grow to so many seconds on its slice."""
        purse = self._purse(user, time)
        if known := purse.holds.get(lease):
            amount = max(known.amount, _cost(seconds, known.weight))
            purse.holds[lease] = replace(known, amount=amount)

    def settle(self, lease: str, user: str, seconds: float, time: float) -> None:
        """Replaces a lease's reservation by what it used."""
        purse = self._purse(user, time)
        known = purse.holds.pop(lease, None)
        if known is not None and known.window == purse.number:
            purse.charged += _cost(seconds, known.weight)

    def _purse(self, user: str, time: float) -> Purse:
        purse = self._purses.setdefault(user, Purse())
        purse.close_if_over(time, self._policy.quota_window)
        return purse
