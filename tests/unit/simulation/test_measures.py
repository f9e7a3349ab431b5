"""The figures that a run is judged by, on runs small enough to work them out."""

from __future__ import annotations

import random
import statistics

import pytest

from zerokernel.broker.scheduling import Account, Policy
from zerokernel.simulation import Cell, Costs, Notebook, Outcome, Run, Workload, measure
from zerokernel.simulation.measures import Contended, duration_class, jain, spread

FREE = Costs(fork=0.0, bind=0.0, thaw=0.0, home=0.0, stop=0.0)


def outcome(
    user: str, asked: float, granted: float, ended: float, tier: str = "free", limit: float = 60.0
) -> Outcome:
    cell = Cell(0.0, limit, ended - granted)
    notebook = Notebook(f"{user} {asked}", Account(user, "", tier), "large", asked, (cell,))
    ran = ended - granted
    return Outcome(notebook, 0, asked, granted, granted, ended, ran, "finished", grants=1)


def measured(*outcomes: Outcome, seconds: float = 100.0, slices: int = 1):
    run = Run("test", list(outcomes), [(o.granted or 0.0, o.ended or 0.0) for o in outcomes])
    notebooks = tuple(one.notebook for one in outcomes)
    return measure(run, Workload(notebooks, seconds), slices, Policy(), FREE)


def test_spread_agrees_with_the_standard_library() -> None:
    """Mean and quantiles are those that `statistics` gives."""
    source = random.Random(1)
    numbers = [source.expovariate(1.0) for _ in range(501)]
    found = spread(numbers)
    cuts = statistics.quantiles(numbers, n=100, method="inclusive")
    assert (found.count, found.most) == (501, max(numbers))
    assert found.mean == pytest.approx(statistics.fmean(numbers))
    assert (found.p50, found.p90, found.p99) == pytest.approx((cuts[49], cuts[89], cuts[98]))


def test_jain_is_one_for_equals_and_one_nth_for_one_who_has_all() -> None:
    """As it was defined."""
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([1.0, 3.0]) == pytest.approx(16 / 20)
    assert jain([]) == 1.0


def test_use_is_weighed_by_tier() -> None:
    """Twice the time for twice the weight is fair."""
    fair = measured(outcome("a", 0, 0, 20, "free"), outcome("b", 20, 20, 60, "pro"))
    assert fair.jain == pytest.approx(1.0)
    assert measured(outcome("a", 0, 0, 20), outcome("b", 20, 20, 60)).jain == pytest.approx(0.9)


def test_contended_is_the_time_in_which_somebody_waits() -> None:
    """Spans of waiting are joined; a moment's wait is nobody's."""
    waits = outcome("a", 10, 20, 30), outcome("b", 15, 30, 40), outcome("c", 50, 60, 70)
    found = Contended([*waits, outcome("d", 80, 80.5, 90)])
    assert found.within(0, 100) == pytest.approx(30)
    assert found.within(12, 55) == pytest.approx(18 + 5)
    assert found.within(30, 50) == 0.0
    assert found.within(70, 60) == 0.0


def test_only_what_was_used_while_somebody_waited_counts_as_contended() -> None:
    """Who had the slice to themselves is no measure of how others were treated."""
    run = (outcome("a", 0, 0, 50), outcome("b", 40, 50, 60), outcome("c", 80, 80, 100))
    # a runs for 10 s in which b waits; b has nothing in them; c wants nothing then.
    assert measured(*run).jain_contended == pytest.approx(0.5)


def test_rho_is_what_all_took_by_what_it_takes_alone() -> None:
    """By user: one who waits as long as the cell runs has 2."""
    found = measured(outcome("a", 0, 0, 10), outcome("b", 0, 10, 20), outcome("b", 30, 30, 40)).rho
    assert (found.count, found.most) == (2, pytest.approx(30 / 20))
    assert found.p50 == pytest.approx((1.0 + 1.5) / 2)


def test_a_slice_is_busy_only_within_the_time_that_is_looked_at() -> None:
    """What runs beyond it is work, but not of that time."""
    found = measured(outcome("a", 0, 0, 30), outcome("b", 60, 60, 160), slices=2)
    assert found.utilisation == pytest.approx((30 + 40) / 200)
    assert found.used == pytest.approx(130 / 3600)
    assert found.makespan == 160


def test_starts_that_were_told_are_compared_with_those_that_were() -> None:
    """The error has no sign; which way it was is said beside it."""
    early, late = outcome("a", 0, 10, 20), outcome("b", 0, 20, 30)
    early.told, late.told = (0.0, 14.0), (0.0, 18.0)
    found = measured(early, late, outcome("c", 0, 30, 40))
    assert (found.eta_error.count, found.eta_error.mean, found.eta_late) == (2, 3.0, 0.5)


def test_waits_are_told_by_tier_and_limit() -> None:
    """Each cell is in all, in its tier and in its class."""
    waits = measured(outcome("a", 0, 5, 6, "pro", 60.0), outcome("b", 0, 6, 7, "", 7200.0)).waits
    assert {name: one.mean for name, one in waits.items()} == {
        "all": 5.5,
        "tier none": 6.0,
        "tier pro": 5.0,
        "limit up to 1 min": 5.0,
        "limit longer": 6.0,
    }
    assert [duration_class(one) for one in (61, 601, 3600)] == [
        "up to 10 min",
        "up to 1 h",
        "up to 1 h",
    ]
