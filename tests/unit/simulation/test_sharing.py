"""What the simulated broker does, against what can be worked out without it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from zerokernel.broker.scheduling import Account, Policy
from zerokernel.simulation import (
    FIRST_COME,
    HOLDING,
    OURS,
    Cell,
    Comparison,
    Costs,
    Notebook,
    Outcome,
    Population,
    Run,
    Workload,
    compare,
    generate,
    hold,
    share,
    share_first_come,
)

FREE = Costs(fork=0.0, bind=0.0, thaw=0.0, home=0.0, stop=0.0)
POLICY = Policy()
LAYOUT = {"large": 3, "xlarge": 1}
PEOPLE = Population(notebooks_per_day=8.0, cells=6.0, run_sigma=1.5, night=0.0)


def notebook(name: str, opens: float, *cells: Cell, user: str = "", lingers: float = 0.0):
    return Notebook(name, Account(user or name), "large", opens, cells, lingers)


def workload(*notebooks: Notebook) -> Workload:
    return Workload(notebooks, 3600.0)


def waits(run: Run) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in run.outcomes:
        found.setdefault(one.notebook.name, []).append(one.wait)
    return found


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    changes = [(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans]
    count = most = 0
    for _, change in sorted(changes):
        count += change
        most = max(most, count)
    return most


@pytest.fixture(scope="module")
def crowd() -> Workload:
    """People who are too many for the slices that there are."""
    return generate(PEOPLE, 40, 6.0, 3, LAYOUT)


@pytest.fixture(scope="module")
def compared(crowd: Workload) -> Comparison:
    return compare(crowd, LAYOUT, POLICY, Costs())


# --- worked out by hand ---------------------------------------------------------------------


def test_one_slice_serves_as_they_came() -> None:
    """Three cells for one slice wait for those before them, to the second."""
    three = workload(
        notebook("a", 0.0, Cell(0.0, 60.0, 10.0)),
        notebook("b", 1.0, Cell(0.0, 60.0, 5.0)),
        notebook("c", 2.0, Cell(0.0, 60.0, 5.0)),
    )
    expected = {"a": [0.0], "b": [9.0], "c": [13.0]}
    for way in (share, share_first_come):
        assert waits(way(three, {"large": 1}, POLICY, FREE)) == expected
    assert waits(hold(three, {"large": 1}, FREE)) == expected


def test_a_shorter_limit_is_ahead_in_our_order_alone() -> None:
    """Of two that came within the bonus of each other the shorter is first, or the earlier."""
    three = workload(
        notebook("a", 0.0, Cell(0.0, 60.0, 10.0)),
        notebook("long", 1.0, Cell(0.0, 600.0, 5.0)),
        notebook("short", 2.0, Cell(0.0, 10.0, 5.0)),
    )
    ours = waits(share(three, {"large": 1}, POLICY, FREE))
    assert (ours["short"], ours["long"]) == ([8.0], [14.0])
    theirs = waits(share_first_come(three, {"large": 1}, POLICY, FREE))
    assert (theirs["long"], theirs["short"]) == ([9.0], [13.0])


def test_a_held_slice_is_kept_while_its_user_thinks() -> None:
    """By the cell the second notebook runs while the first one's user thinks; held, after it."""
    two = workload(
        notebook("a", 0.0, Cell(0.0, 60.0, 10.0), Cell(100.0, 60.0, 10.0), lingers=30.0),
        notebook("b", 5.0, Cell(0.0, 60.0, 20.0)),
    )
    assert waits(share(two, {"large": 1}, POLICY, FREE)) == {"a": [0.0, 0.0], "b": [5.0]}
    held = hold(two, {"large": 1}, FREE)
    assert waits(held) == {"a": [0.0, 0.0], "b": [145.0]}
    assert held.held == [(0.0, 150.0), (150.0, 170.0)]


def test_starting_costs_what_it_costs() -> None:
    """A fresh worker binds, a parked one thaws, and an evicted one has to be started anew."""
    costs = Costs(fork=1.0, bind=4.0, thaw=0.5, home=0.25, stop=2.0)
    two = workload(
        notebook("a", 0.0, *[Cell(10.0, 60.0, 3.0)] * 3), notebook("b", 30.0, Cell(0.0, 60.0, 3.0))
    )
    run = share(two, {"large": 1}, POLICY, costs)
    starts = [
        (one.notebook.name, one.wait, one.started - one.granted, one.ended - one.started)
        for one in run.outcomes
        if one.started is not None and one.granted is not None and one.ended is not None
    ]
    # Each runs for 3 s and is home after 0.25 s more.
    assert starts == [
        ("a", 0.0, 5.0, 3.25),  # asked at 10: forked and bound
        ("a", 0.0, 0.5, 3.25),  # asked at 28.25: thawed, home at 32
        ("b", 4.0, 4.0, 3.25),  # asked at 30: until a's is home, and its parked worker ended
        ("a", 1.25, 4.0, 3.25),  # asked at 42: b was closed at 41.25, and its worker ends
    ]


@pytest.mark.parametrize(
    ("others", "reason", "ran"), [(True, "deadline", 60.0), (False, "finished", 200.0)]
)
def test_a_limit_holds_where_others_wait(others: bool, reason: str, ran: float) -> None:
    """A cell that needs more than it asked for has it only while nobody waits."""
    notebooks = [notebook("a", 0.0, Cell(0.0, 60.0, 200.0))]
    if others:
        notebooks.append(notebook("b", 1.0, Cell(0.0, 60.0, 1.0)))
    first, *_ = share(workload(*notebooks), {"large": 1}, POLICY, FREE).outcomes
    assert (first.reason, first.ran) == (reason, pytest.approx(ran))


def test_what_is_refused_is_counted_and_the_notebook_goes_on() -> None:
    """A cell for longer than anybody may ask for gets no slice; the next one does."""
    cells = Cell(0.0, 7200.0, 1.0), Cell(1.0, 60.0, 1.0)
    policy = replace(POLICY, longest=3600.0)
    refused, served = share(workload(notebook("a", 0.0, *cells)), {"large": 1}, policy).outcomes
    assert (refused.reason, refused.grants) == ("BadDuration", 0)
    assert (served.reason, served.grants) == ("finished", 1)


# --- an oracle of its own -------------------------------------------------------------------


def kiefer_wolfowitz(arrivals: list[float], services: list[float], servers: int) -> list[float]:
    """The waiting times of a queue with several servers, from their workloads in order."""
    workloads, found, before = [0.0] * servers, [], 0.0
    for arrival, service in zip(arrivals, services, strict=True):
        workloads = sorted(max(0.0, one - (arrival - before)) for one in workloads)
        found.append(workloads[0])
        workloads[0] += service
        before = arrival
    return found


def test_waiting_times_are_those_of_a_queue_with_several_servers() -> None:
    """Random arrivals wait first come, first served, exactly as the recursion says."""
    source, at, notebooks = random.Random(5), 0.0, []
    for number in range(400):
        at += source.expovariate(1 / 11.0)
        run = source.expovariate(1 / 30.0)
        notebooks.append(notebook(f"n{number}", at, Cell(0.0, 10_000.0, run)))
    run = share_first_come(workload(*notebooks), {"large": 3}, POLICY, FREE)
    runs = [one.cells[0].run for one in notebooks]
    expected = kiefer_wolfowitz([one.opens for one in notebooks], runs, 3)
    assert max(expected) > 60.0, "they do wait"
    assert [one.wait for one in run.outcomes] == pytest.approx(expected, abs=1e-6)


# --- what always holds ----------------------------------------------------------------------


def test_the_same_seed_gives_the_same(crowd: Workload, compared: Comparison) -> None:
    """A simulation can be repeated, and another seed is another population."""
    assert generate(PEOPLE, 40, 6.0, 3, LAYOUT) == crowd
    assert generate(PEOPLE, 40, 6.0, 4, LAYOUT) != crowd
    again = share(crowd, LAYOUT, POLICY, Costs())
    assert _times(again.outcomes) == _times(compared.runs[OURS].outcomes)


def _times(outcomes: list[Outcome]) -> list[tuple[float, float | None, float | None, str]]:
    return [(one.asked, one.granted, one.ended, one.reason) for one in outcomes]


@pytest.mark.parametrize("way", [OURS, FIRST_COME, HOLDING])
def test_nothing_is_lost_and_nothing_is_given_twice(
    crowd: Workload, compared: Comparison, way: str
) -> None:
    """Each cell is granted once and ends; never are more slices held than there are."""
    run = compared.runs[way]
    assert len(run.outcomes) == len(crowd) > 400
    for one in run.outcomes:
        assert one.grants == 1
        assert one.granted is not None
        assert one.started is not None
        assert one.ended is not None
        assert one.asked <= one.granted <= one.started <= one.ended
        assert one.reason in ("finished", "deadline")
        assert one.ran == pytest.approx(one.cell.run) or one.ran < one.cell.run
    held = sum(end - start for start, end in run.held)
    assert held >= sum(one.ran for one in run.outcomes)
    assert most_at_once(run.held) <= sum(LAYOUT.values())
    for size, count in LAYOUT.items():
        mine = [one for one in run.outcomes if one.notebook.size == size]
        spans = [(one.started or 0.0, one.ended or 0.0) for one in mine]
        assert 0 < most_at_once(spans) <= count


def test_first_come_is_first_served(compared: Comparison) -> None:
    """Under the rival's policy nobody of a size has a slice before who asked earlier."""
    for size in LAYOUT:
        mine = [o for o in compared.runs[FIRST_COME].outcomes if o.notebook.size == size]
        granted = [one.granted or 0.0 for one in mine]
        # One that has its slice while a parked worker there still ends may be passed in that time.
        late = [earlier - later for earlier, later in pairwise(granted)]
        assert max(late) <= Costs().stop


def test_a_heavy_user_does_not_starve_light_ones() -> None:
    """Of twenty notebooks of one user nineteen stand behind who used nothing of late.

    A light user waits for at most the one cell that runs: 60 s. First come, first served they
    wait for all twenty.
    """
    heavy = [notebook(f"h{n}", 0.0, *[Cell(0.0, 60.0, 60.0)] * 3, user="heavy") for n in range(20)]
    light = [notebook(f"l{n}", 100.0 + 200 * n, Cell(0.0, 60.0, 30.0)) for n in range(4)]
    both = workload(*heavy, *light)
    ours = waits(share(both, {"large": 1}, POLICY, FREE))
    theirs = waits(share_first_come(both, {"large": 1}, POLICY, FREE))
    assert max(ours[one.name][0] for one in light) <= 60.0
    assert min(theirs[one.name][0] for one in light) >= 600.0
