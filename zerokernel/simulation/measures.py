"""What a run is judged by. Each function is stated in docs/simulator.md."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from zerokernel.broker.scheduling import Policy
from zerokernel.simulation.costs import Costs
from zerokernel.simulation.outcomes import Outcome, Run
from zerokernel.simulation.workload import Workload

_CLASSES = ((60.0, "up to 1 min"), (600.0, "up to 10 min"), (3600.0, "up to 1 h"))
_LONGER = "longer"
# Shorter waits are the time that evicting a parked worker takes: nobody else was ahead.
_UNNOTICED = 1.0


@dataclass(frozen=True)
class Spread:
    """How some numbers are distributed; all 0 where there are none."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    most: float = 0.0


@dataclass(frozen=True)
class Measures:
    """One run in numbers. Times in seconds, shares from 0 to 1.

    Attributes:
        waits: From the wish to the slice: of all, by tier ("tier free") and by what was asked
            for ("limit up to 1 min").
        cells: That were asked for. finished: that ran to their end. cut: that were ended at
            their limit. refused: that got no slice.
        jain: Jain's index over GPU-seconds per weight of all users with a cell, in the time
            that is looked at.
        jain_contended: The same of what was used while somebody waited, over those who wanted
            something then.
        rho: Finish-time fairness by user: what their cells took, waits and all, by what they
            take with nobody else there.
        used: GPU-hours in which a cell ran. held: in which a slice was somebody's.
        utilisation: Of the slices in the time that is looked at, by running cells.
        occupied: Of the slices in that time, by whoever held them.
        eta_error: By how much the start that a user was told first was wrong, without sign.
        eta_late: Of these starts, the share that was later than told.
        makespan: When the last cell ended.
    """

    waits: Mapping[str, Spread]
    cells: int
    finished: int
    cut: int
    refused: int
    jain: float
    jain_contended: float
    rho: Spread
    used: float
    held: float
    utilisation: float
    occupied: float
    eta_error: Spread
    eta_late: float
    makespan: float


def measure(run: Run, workload: Workload, slices: int, policy: Policy, costs: Costs) -> Measures:
    """Measures a run on so many slices."""
    served, window = run.served, workload.seconds
    contended = Contended(served)
    used = sum(_clipped(span, window) for span in map(_running, served))
    held = sum(_clipped(span, window) for span in run.held)
    capacity = slices * window
    errors = [one.granted - one.told[1] for one in served if one.told and one.granted is not None]
    finished = sum(one.reason == "finished" for one in served)
    return Measures(
        waits=_waits(served),
        cells=len(run.outcomes),
        finished=finished,
        cut=len(served) - finished,
        refused=len(run.outcomes) - len(served),
        jain=jain(_by_user(run.outcomes, policy, lambda one: _clipped(_running(one), window))),
        jain_contended=jain(_shares_while_contended(run.outcomes, contended, policy)),
        rho=spread(_rho(served, costs)),
        used=sum(one.ran for one in served) / 3600,
        held=sum(end - start for start, end in run.held) / 3600,
        utilisation=used / capacity if capacity else 0.0,
        occupied=held / capacity if capacity else 0.0,
        eta_error=spread([abs(one) for one in errors]),
        eta_late=sum(one > 0 for one in errors) / len(errors) if errors else 0.0,
        makespan=max((one.ended for one in served if one.ended is not None), default=0.0),
    )


# --- statistics ---------------------------------------------------------------------------


def spread(numbers: Iterable[float]) -> Spread:
    """Gives how numbers are distributed."""
    ordered = sorted(numbers)
    if not ordered:
        return Spread()
    middle, high, highest = (quantile(ordered, share) for share in (0.5, 0.9, 0.99))
    mean = math.fsum(ordered) / len(ordered)
    return Spread(len(ordered), mean, middle, high, highest, ordered[-1])


def quantile(ordered: Sequence[float], share: float) -> float:
    """Gives what a share of numbers in order is not above, between two where it falls so."""
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def jain(shares: Sequence[float]) -> float:
    """Gives Jain's index: 1 where all have the same, 1/n where one has all, 1 for nobody."""
    squares = math.fsum(one * one for one in shares)
    return math.fsum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def duration_class(limit: float) -> str:
    """Gives what a limit is called in tables."""
    return next((name for most, name in _CLASSES if limit <= most), _LONGER)


# --- of a run -----------------------------------------------------------------------------


def _waits(outcomes: Sequence[Outcome]) -> dict[str, Spread]:
    by_class: dict[str, list[float]] = {"all": []}
    tiers = sorted({one.notebook.account.tier for one in outcomes})
    by_class |= {f"tier {tier or 'none'}": [] for tier in tiers}
    by_class |= {f"limit {name}": [] for name in (*(name for _, name in _CLASSES), _LONGER)}
    for one in outcomes:
        tier = one.notebook.account.tier or "none"
        for name in ("all", f"tier {tier}", f"limit {duration_class(one.cell.limit)}"):
            by_class[name].append(one.wait)
    return {name: spread(waits) for name, waits in by_class.items() if waits}


def _running(one: Outcome) -> tuple[float, float]:
    start = one.started if one.started is not None else 0.0
    return start, start + one.ran


def _clipped(span: tuple[float, float], window: float) -> float:
    return max(0.0, min(span[1], window) - span[0])


def _by_user(
    outcomes: Iterable[Outcome], policy: Policy, amount: Callable[[Outcome], float]
) -> list[float]:
    """Gives for each user the sum of an amount, by the weight of the tier."""
    users: defaultdict[str, float] = defaultdict(float)
    for one in outcomes:
        account = one.notebook.account
        users[account.user] += amount(one) / policy.weight(account.tier)
    return list(users.values())


def _shares_while_contended(
    outcomes: Iterable[Outcome], contended: Contended, policy: Policy
) -> list[float]:
    wanted = [
        one
        for one in outcomes
        if contended.within(one.asked, one.ended if one.ended is not None else one.asked) > 0
    ]
    return _by_user(wanted, policy, lambda one: contended.within(*_running(one)))


def _rho(outcomes: Iterable[Outcome], costs: Costs) -> list[float]:
    """Gives by user how many times longer all took than it would have alone."""
    shared: defaultdict[str, float] = defaultdict(float)
    alone: defaultdict[str, float] = defaultdict(float)
    for one in outcomes:
        user = one.notebook.account.user
        shared[user] += (one.ended or 0.0) - one.asked
        alone[user] += costs.alone(one.index == 0, one.ran)
    return [shared[user] / alone[user] for user in shared if alone[user]]


class Contended:
    """The times in which somebody waited for longer than a moment, for whatever size."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        waits = sorted(
            (one.asked, one.asked + one.wait) for one in outcomes if one.wait > _UNNOTICED
        )
        self._starts: list[float] = []
        ends: list[float] = []
        for start, end in waits:
            if ends and start <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                self._starts.append(start)
                ends.append(end)
        self._ends = ends
        lengths = (end - start for start, end in zip(self._starts, ends, strict=True))
        self._before = [0.0, *accumulate(lengths)]

    def within(self, start: float, end: float) -> float:
        """Gives how much of a span it was."""
        return self._until(end) - self._until(start) if end > start else 0.0

    def _until(self, at: float) -> float:
        count = bisect_right(self._starts, at)
        if not count:
            return 0.0
        last = count - 1
        return self._before[last] + min(at, self._ends[last]) - self._starts[last]
