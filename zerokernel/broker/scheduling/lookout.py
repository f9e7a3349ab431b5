"""What is free, due or parked: kept up by looking again only at what was touched.

So an event costs by what it changes, and not by how many slices and notebooks there are.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from zerokernel.broker.scheduling.explaining import Supply
from zerokernel.broker.scheduling.ranking import Ranking
from zerokernel.broker.scheduling.waiting import remaining

if TYPE_CHECKING:
    from zerokernel.broker.scheduling.records import Lease, Session, SliceRecord
    from zerokernel.broker.scheduling.state import SchedulerState


class Lookout:
    """Is told which sessions and slices may have changed, and looks at them when it is asked.

    Touching one that did not change costs a look and is harmless; a session's touch is also
    its slices'.
    """

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._sessions: dict[str, Session] = {}
        self._slices: dict[str, SliceRecord] = {}
        self._idle: dict[str, SliceRecord] = {}
        self._forget_all()

    def _forget_all(self) -> None:
        self._numbers = {name: number for number, name in enumerate(self._state.slices)}
        self._free: dict[str, Ranking[str]] = {}
        self._ends: dict[str, Ranking[str]] = {}
        self._leases: Ranking[str] = Ranking()
        self._sessions_due: Ranking[str] = Ranking()
        self._parked: Ranking[str] = Ranking()
        self._memory: dict[str, int] = {}
        self._parked_memory = 0

    # --- what may have changed ----------------------------------------------------------

    def touch(self, session: Session | None) -> None:
        """A session may have changed, and with it the slices that it is on."""
        if session is not None:
            self._sessions[session.id] = session

    def touch_slice(self, record: SliceRecord) -> None:
        """A slice may have changed."""
        self._slices[record.slice.id] = record

    def touch_all(self) -> None:
        """Anything may have changed, also which slices there are and of what size."""
        self._forget_all()
        self._sessions |= self._state.sessions
        self._slices |= self._state.slices

    # --- what there is ------------------------------------------------------------------

    def free(self, size: str) -> int:
        """Gives how many slices of that size can be leased."""
        self._look()
        return len(self._free.get(size, ()))

    def best(self, size: str, session: Session) -> SliceRecord:
        """Gives the free slice that suits a session best; there is one.

        Where its worker is parked, else by `SliceRecord.preference`.
        """
        self._look()
        free = self._free[size]
        if session.worker is not None and session.worker.stopping_at is None:
            for name, record in session.slices.items():
                if name in free:
                    return record
        first = free.first()
        assert first is not None, "asked only where one is free"
        return self._state.slices[first]

    def supply(self, size: str) -> Supply:
        """Gives how many slices of that size are not set aside, and why none is."""
        self._look()
        ends = self._ends.get(size, Ranking())
        if not len(ends):
            whys = {one.set_aside for one in self._state.of_size(size)}
            return Supply(0, None, "; ".join(sorted(whys)))
        first = ends.first() if len(ends) == 1 else None
        return Supply(len(ends), None if first is None else self._state.slices[first])

    def free_in(self, size: str, count: int, now: float) -> list[float]:
        """Gives the seconds until usable slices are free by the limits, in order.

        Args:
            size: Of which.
            count: The first so many are enough.
            now: The time.
        """
        self._look()
        ends, slices = self._ends.get(size, Ranking()), self._state.slices
        records = [slices[name] for name in islice(ends.items(), count)]
        times = [remaining(one.lease, now) if one.lease else 0.0 for one in records if _known(one)]
        # Of those not granted yet the end moves on with the time: they are few, and ranked last.
        pending = [slices[name] for name in self._state.pending if name in ends]
        times += [remaining(r.lease, now) for r in pending if r.lease and not _known(r)]
        return sorted(times)[:count]

    def take_idle(self) -> list[SliceRecord]:
        """Gives the slices without a lease that were touched since the last call."""
        self._look()
        idle, self._idle = self._idle, {}
        return [one for one in idle.values() if one.lease is None]

    def due(self) -> float:
        """Gives when the first lease or session is due, inf where none is."""
        lease, session = self.first_lease(), self.first_session()
        policy = self._state.policy
        return min(
            policy.lease_due(lease) if lease is not None else math.inf,
            policy.session_due(session) if session is not None else math.inf,
        )

    def first_lease(self) -> Lease | None:
        """Gives the lease that is due first."""
        self._look()
        name = self._leases.first()
        return None if name is None else self._state.slices[name].lease

    def first_session(self) -> Session | None:
        """Gives the session of which something is due first."""
        self._look()
        name = self._sessions_due.first()
        return None if name is None else self._state.sessions[name]

    def parked_memory(self) -> int:
        """Gives the bytes that all parked workers keep."""
        self._look()
        return self._parked_memory

    def longest_parked(self) -> Session | None:
        """Gives the session whose worker is parked for the longest time."""
        self._look()
        name = self._parked.first()
        return None if name is None else self._state.sessions[name]

    # --- looking ------------------------------------------------------------------------

    def _look(self) -> None:
        """Looks at what was touched since it did so last."""
        if not self._sessions and not self._slices:
            return
        sessions, slices = self._sessions, self._slices
        self._sessions, self._slices = {}, {}
        for session in sessions.values():
            self._look_at_session(session)
            slices.update(session.slices)
            if session.lease is not None:
                slices[session.lease.slice.slice.id] = session.lease.slice
        for record in slices.values():
            self._look_at_slice(record)

    def _look_at_session(self, session: Session) -> None:
        there = self._state.sessions.get(session.id) is session
        due = self._state.policy.session_due(session) if there else math.inf
        _put(self._sessions_due, session.id, due)
        worker = session.worker if there else None
        since = math.inf
        if worker is not None and worker.parked_at is not None and worker.stopping_at is None:
            since = worker.parked_at
        _put(self._parked, session.id, since)
        self._parked_memory -= self._memory.pop(session.id, 0)
        if worker is not None and since != math.inf:
            self._memory[session.id] = worker.memory
            self._parked_memory += worker.memory

    def _look_at_slice(self, record: SliceRecord) -> None:
        name, lease = record.slice.id, record.lease
        there = self._state.slices.get(name) is record
        due = self._state.policy.lease_due(lease) if there and lease is not None else math.inf
        _put(self._leases, name, due)
        size = record.slice.size
        free, ends = self._free.get(size), self._ends.get(size)
        if free is None or ends is None:
            free = self._free[size] = Ranking()
            ends = self._ends[size] = Ranking()
        if there and not record.set_aside:
            ends.put(name, (_end(record),))
        else:
            ends.drop(name)
        if there and record.is_free:
            # In the order of the layout where nothing else tells them apart.
            free.put(name, (*record.preference, self._numbers.get(name, 0)))
        else:
            free.drop(name)
        if there and lease is None and record.occupant is not None:
            self._idle[name] = record


def _known(record: SliceRecord) -> bool:
    """Whether it is known when the slice is free."""
    return record.lease is None or record.lease.granted_at is not None


def _end(record: SliceRecord) -> float:
    """Gives when a slice is free by the limit of its lease."""
    if record.lease is None:
        return -math.inf
    return remaining(record.lease, 0.0) if _known(record) else math.inf


def _put(ranking: Ranking[str], name: str, at: float) -> None:
    """Ranks by a time; what is never due is not kept."""
    if at == math.inf:
        ranking.drop(name)
    else:
        ranking.put(name, (at,))
