"""Those who wait for slices of one size: groups take turns, in them users, then requests.

Each level has two rankings: of those who could have a slice now, from which the next is
taken in O(log n), and of all, by which places are told.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from zerokernel.broker.scheduling import order
from zerokernel.broker.scheduling.order import Key, Turn
from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.ranking import Ranking
from zerokernel.broker.scheduling.records import Account, Request
from zerokernel.broker.scheduling.standing import Standing, Standings, fades_at

_READY, _ALL = 0, 1
_ALONE = (False, 0.0, 0.0, 0)  # what is the key of the only one
T = TypeVar("T")


class Place(NamedTuple):
    """A request as it stands when those before it are served."""

    key: Key
    request: Request
    user: Turn
    group: Turn


class _User:
    """A user's requests, first come, first served, by session: one that runs holds its own back."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.served = -math.inf
        self.sessions: dict[str, list[Request]] = {}
        self.rankings: tuple[Ranking[str], Ranking[str]] = (Ranking(), Ranking())

    def first(self, which: int) -> Request | None:
        session = self.rankings[which].first()
        return None if session is None else self.sessions[session][0]

    def rank(self, session: str) -> None:
        ready, everyone = self.rankings
        requests = self.sessions.get(session)
        if not requests:
            ready.drop(session)
            everyone.drop(session)
            return
        key = (requests[0].arrival,)
        everyone.put(session, key)
        owner = requests[0].session
        if owner.connected and owner.lease is None:
            ready.put(session, key)
        else:
            ready.drop(session)


class _Group:
    """The users of a group, or the one who has none."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.served = -math.inf
        self.users: dict[str, _User] = {}
        self.rankings: tuple[Ranking[_User], Ranking[_User]] = (Ranking(), Ranking())

    def first(self, which: int) -> Request | None:
        user = self.rankings[which].first()
        return None if user is None else user.first(which)


class Line:
    """Requests for one size that stand before the same wall (`order.wall`)."""

    def __init__(self, standings: Standings, policy: Policy) -> None:
        self._standings = standings
        self._policy = policy
        self._groups: dict[tuple[str, str], _Group] = {}
        self._rankings: tuple[Ranking[_Group], Ranking[_Group]] = (Ranking(), Ranking())
        # When something changed last: until it does again, all stand where they did then.
        self._as_of = standings.time

    def __bool__(self) -> bool:
        return bool(self._groups)

    # --- who waits ----------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Puts a request in."""
        session = request.session
        account = session.account
        if (group := self._groups.get(account.party)) is None:
            group = self._groups[account.party] = _Group(account)
        if (user := group.users.get(account.user)) is None:
            user = group.users[account.user] = _User(account)
        insort(user.sessions.setdefault(session.id, []), request, key=_arrival)
        self.refresh(account, session.id)

    def remove(self, request: Request) -> None:
        """Takes a request out. What that changes shows after the next `refresh`."""
        session = request.session
        account = session.account
        group = self._groups[account.party]
        user = group.users[account.user]
        user.sessions[session.id].remove(request)
        if not user.sessions[session.id]:
            del user.sessions[session.id]

    def served(self, account: Account) -> None:
        """Notes that the account is given a slice: what it waits for more waits from now."""
        if group := self._groups.get(account.party):
            group.served = self._standings.time
            if user := group.users.get(account.user):
                user.served = self._standings.time

    def refresh(self, account: Account, session: str = "") -> bool:
        """Takes in what changed for an account, and for a session of it.

        Returns:
            Whether places may have changed by it.
        """
        group = self._groups.get(account.party)
        if group is None:
            return False
        self._as_of = self._standings.time
        if (user := group.users.get(account.user)) is not None:
            user.rank(session)
            self._rank_user(group, user)
        self._rank_group(group)
        return True

    def _rank_user(self, group: _Group, user: _User) -> None:
        if not user.sessions:
            del group.users[user.account.user]
            for ranking in group.rankings:
                ranking.drop(user)
            return
        turn = self._user_turn(user)
        alone = not group.account.group
        may = self._standings.user_may_lease(user.account)
        _rank(
            group.rankings,
            user,
            user.first(_ALL),
            user.first(_READY) if may else None,
            lambda one: _ALONE if alone else order.key(one, turn, turn, self._policy),
        )

    def _rank_group(self, group: _Group) -> None:
        if not group.users:
            del self._groups[group.account.party]
            for ranking in self._rankings:
                ranking.drop(group)
            return
        turn = self._group_turn(group)

        def key(one: Request) -> Key:
            own = self._user_turn(group.users[one.session.user]) if group.account.group else turn
            return order.key(one, own, turn, self._policy)

        may = self._standings.group_may_lease(group.account)
        _rank(self._rankings, group, group.first(_ALL), group.first(_READY) if may else None, key)

    def _user_turn(self, user: _User) -> Turn:
        return Turn(user.served, self._standings.user(user.account).fades(self._policy))

    def _group_turn(self, group: _Group) -> Turn:
        return Turn(group.served, self._standings.group(group.account).fades(self._policy))

    # --- who is next --------------------------------------------------------------------

    def first(self) -> Request | None:
        """Gives the next who could have a slice now."""
        group = self._rankings[_READY].first()
        return group.first(_READY) if group is not None else None

    def in_order(self) -> Iterator[Place]:
        """Gives all in the order in which they would be served if nobody else came.

        What is not the first of its user stands where it will, once those before it were
        given slices. Nothing may be put in or removed meanwhile.
        """
        groups = self._rankings[_ALL].items()
        return _by_turns(self._of_group(group) for group in groups)

    def _of_group(self, group: _Group) -> Iterator[Place]:
        users = group.rankings[_ALL].items()
        places = _by_turns(self._of_user(user) for user in users)
        if not group.account.group:
            yield from places
            return
        ahead = self._ahead(self._standings.group(group.account))
        turn = self._group_turn(group)
        for place in places:
            key = order.key(place.request, place.user, turn, self._policy)
            yield Place(key, place.request, place.user, turn)
            turn = ahead.after(place.request)

    def _of_user(self, user: _User) -> Iterator[Place]:
        requests = sorted((r for some in user.sessions.values() for r in some), key=_arrival)
        ahead = self._ahead(self._standings.user(user.account))
        turn = self._user_turn(user)
        for request in requests:
            yield Place(order.key(request, turn, turn, self._policy), request, turn, turn)
            turn = ahead.after(request)

    def _ahead(self, standing: Standing) -> _Ahead:
        return _Ahead(standing.used_by(self._as_of, self._policy), self._as_of, self._policy)


class _Ahead:
    """Where a user or group will stand once some of its requests were served."""

    def __init__(self, used: float, now: float, policy: Policy) -> None:
        self._used, self._now, self._policy = used, now, policy
        self._served = self._now

    def after(self, request: Request) -> Turn:
        """Gives it after one request more: served now, or when the one before has ended."""
        served, self._served = self._served, self._served + request.duration
        tier = request.session.account.tier
        self._used += self._policy.counts(request.duration, request.size, tier)
        return Turn(served, fades_at(self._used, self._now, self._policy))


def _rank(
    rankings: tuple[Ranking[T], Ranking[T]],
    item: T,
    waits: Request | None,
    runs: Request | None,
    key: Callable[[Request], Key],
) -> None:
    """Ranks a user or group by the request that waits first, and by the first that may run."""
    ready, everyone = rankings
    # Before one wall the parts of the key that make it are the same for all.
    known = None if waits is None else key(waits)[2:]
    if known is None:
        everyone.drop(item)
    else:
        everyone.put(item, known)
    if runs is None:
        ready.drop(item)
    else:
        ready.put(item, known if known is not None and runs is waits else key(runs)[2:])


def _by_turns(rows: Iterable[Iterator[Place]]) -> Iterator[Place]:
    """Merges rows, in the order of their first places, by the keys of what is next in each."""
    fresh = ((next(row), row) for row in rows)
    ahead = next(fresh, None)
    begun: list[tuple[Key, int, Place, Iterator[Place]]] = []
    while ahead is not None or begun:
        if ahead is not None and (not begun or ahead[0].key <= begun[0][0]):
            place, row = ahead
            ahead = next(fresh, None)
        else:
            _, _, place, row = heapq.heappop(begun)
        yield place
        if (then := next(row, None)) is not None:
            heapq.heappush(begun, (then.key, then.request.arrival, then, row))


def _arrival(request: Request) -> int:
    return request.arrival
