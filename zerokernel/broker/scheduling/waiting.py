"""Places in the queue and when each is expected to start."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from zerokernel.broker.scheduling import order
from zerokernel.broker.scheduling.line import Line, Place
from zerokernel.broker.scheduling.policy import Policy
from zerokernel.broker.scheduling.records import Account, Lease, Request, Session
from zerokernel.broker.scheduling.standing import Standings


class Queue:
    """The requests that wait: for each size a line before each wall (`order.wall`)."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.standings = Standings(self.policy)
        self._requests: dict[str, Request] = {}
        self._by_session: dict[str, dict[str, Request]] = {}
        self._by_user: dict[str, dict[str, Request]] = {}
        self._lines: dict[str, dict[tuple[bool, float], Line]] = {}
        self._waiting: Counter[str] = Counter()
        # Sizes whose places may have changed since they were last told; who was told none yet.
        self.changed: set[str] = set()
        self.untold: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    # --- who waits ----------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Puts a request in."""
        if request.since is None:
            request.since = self.standings.time
        session = request.session
        self._requests[request.id] = request
        self._by_session.setdefault(session.id, {})[request.id] = request
        self._by_user.setdefault(session.user, {})[request.id] = request
        self._waiting[request.size] += 1
        session.waiting += 1
        self.standings.waits(session.account, 1)
        self._file(request)
        if not request.place:
            self.untold[request.id] = request
        self.changed.add(request.size)

    def remove(self, request: Request) -> None:
        """Takes a request out."""
        self._take_out(request)
        self.refresh(request.session, request.size)

    def _take_out(self, request: Request) -> None:
        session = request.session
        self._line_of(request).remove(request)
        del self._requests[request.id]
        for name, by_name in ((session.id, self._by_session), (session.user, self._by_user)):
            del by_name[name][request.id]
            if not by_name[name]:
                del by_name[name]
        self._waiting[request.size] -= 1
        session.waiting -= 1
        self.standings.waits(session.account, -1)
        self.untold.pop(request.id, None)
        self.changed.add(request.size)

    def _file(self, request: Request) -> None:
        lines = self._lines.setdefault(request.size, {})
        wall = order.wall(request, self.policy)
        if wall not in lines:
            lines[wall] = Line(self.standings, self.policy)
            # Kept sorted: there are few.
            self._lines[request.size] = dict(sorted(lines.items()))
        self._lines[request.size][wall].add(request)

    def _line_of(self, request: Request) -> Line:
        return self._lines[request.size][order.wall(request, self.policy)]

    def set_beyond_quota(self, request: Request, beyond: bool) -> None:
        """Puts a waiting request behind everything within quota, or back among it."""
        self._line_of(request).remove(request)
        self.refresh(request.session, request.size)
        request.beyond_quota = beyond
        self._file(request)
        self.changed.add(request.size)

    def change_account(self, session: Session, account: Account) -> None:
        """Has a session ask for another account, also with what it has waiting."""
        if account == session.account:
            return
        waiting = self.of_session(session.id)
        for request in waiting:
            self.remove(request)
        session.account = account
        for request in waiting:
            self.add(request)

    def refresh(self, session: Session, size: str = "") -> None:
        """Takes in that a session came, was lost, or has a lease or none."""
        self._refresh(session.account, session.id, size)

    def _refresh(self, account: Account, session: str, size: str = "") -> None:
        for one in [size] if size else self._lines:
            for line in self._lines[one].values():
                if line.refresh(account, session):
                    self.changed.add(one)

    # --- who is served ------------------------------------------------------------------

    def began(self, lease: Lease) -> None:
        """A lease is its session's and its request waits no longer.

        Its limit counts as used until it ends.
        """
        request, account = lease.request, lease.session.account
        if self._requests.get(request.id) is request:
            self._take_out(request)
        self.standings.began(lease)
        for line in self._lines.get(request.size, {}).values():
            line.served(account)
        self._refresh(account, lease.session.id)

    def ended(self, lease: Lease, used: float) -> None:
        """A lease is over.

        Args:
            lease: Which, already taken from its session.
            used: Seconds that count as used.
        """
        session = lease.session
        if account := self.standings.ended(lease, used):
            self._refresh(account, session.id)
        if account != session.account:
            self.refresh(session)

    def first(self, size: str) -> Request | None:
        """Gives the next for a slice of that size, None where nobody could have one now."""
        for line in self._lines.get(size, {}).values():
            if (request := line.first()) is not None:
                return request
        return None

    # --- questions ----------------------------------------------------------------------

    def tell_again(self, request: Request) -> None:
        """Has a request's place told even if it did not change."""
        request.reason = ""
        self.untold[request.id] = request
        self.changed.add(request.size)

    def find(self, request: str) -> Request | None:
        """Gives the waiting request of that id."""
        return self._requests.get(request)

    def of_session(self, session: str) -> list[Request]:
        """Gives what a session has waiting."""
        return list(self._by_session.get(session, {}).values())

    def of_user(self, user: str) -> list[Request]:
        """Gives what a user has waiting, in all notebooks."""
        return list(self._by_user.get(user, {}).values())

    def others_wait(self, session: Session, size: str) -> bool:
        """Whether anybody but that session waits for a size."""
        own = sum(one.size == size for one in self.of_session(session.id))
        return self._waiting[size] > own

    def waiting_for(self, size: str) -> int:
        """Gives how many wait for a size."""
        return self._waiting[size]

    def sizes(self) -> list[str]:
        """Gives the sizes that somebody waits for."""
        return [size for size, count in self._waiting.items() if count]

    def places(self, size: str) -> Iterator[Place]:
        """Gives those who wait for a size, next one first, as each is asked for."""
        for line in list(self._lines.get(size, {}).values()):
            yield from line.in_order()

    def in_order(self, size: str) -> list[Request]:
        """Gives those who wait for a size, next one first."""
        return [place.request for place in self.places(size)]


def remaining(lease: Lease, now: float) -> float:
    """Gives the seconds for which a lease may still run by its declared limit."""
    known = (lease.started_at, lease.granted_at, now)
    begun = next(time for time in known if time is not None)
    return max(0.0, begun + (lease.limit or lease.request.duration) - now)


def expected_starts(requests: Iterable[Request], free_in: Iterable[float]) -> list[float | None]:
    """Gives the seconds to each expected start, from the limits of those before it.

    None where no slice is usable.

    Args:
        requests: In order.
        free_in: Seconds until each slice of their size is free; the first will do, as many as
            there are requests.
    """
    ends = list(free_in)
    heapq.heapify(ends)
    starts: list[float | None] = []
    for request in requests:
        if not ends:
            starts.append(None)
            continue
        starts.append(ends[0])
        heapq.heapreplace(ends, ends[0] + request.duration)
    return starts
