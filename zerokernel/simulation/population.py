"""A made-up population: who opens notebooks when, and what their cells ask for and need.

All of it follows from stated parameters and a seed. docs/simulator.md says where the shapes
are from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

from zerokernel.broker.scheduling import Account
from zerokernel.simulation.workload import Cell, Notebook, Workload

_HOUR, _DAY = 3600.0, 86_400.0

# What people write behind `--duration`.
_ROUND = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400)


@dataclass(frozen=True)
class Population:
    """What is known of the people. Times in seconds; log-normal ones by median and sigma.

    Raises ValueError where a number is not finite, negative, or a share above 1.

    Attributes:
        notebooks_per_day: That a usual user opens.
        cells: GPU cells of a notebook, on average (geometric).
        run_median, run_sigma, run_longest: What a cell needs, cut at the longest.
        limit_factor, limit_sigma: What it asks for is this median times what it needs, at
            least as much as that, rounded up to what people write ("5m").
        overrun_share: So many cells ask for half of what they need.
        think_median, think_sigma, think_longest: Between the end of a cell and the next.
        linger: How long a notebook stays open after its last cell, on average (exponential).
        night: By so much of the average fewer notebooks are opened at the quietest time of the
            day, and more at the busiest.
        peak_hour: When that is; the simulation begins at midnight.
        heavy_share, heavy_factor: So many users open so many times as many notebooks.
        group_share, group_size: So many users belong to groups of that size.
        tiers: How many users have which tier, relative to one another.
    """

    notebooks_per_day: float = 0.85
    cells: float = 10.0
    run_median: float = 60.0
    run_sigma: float = 2.2
    run_longest: float = 6 * _HOUR
    limit_factor: float = 2.0
    limit_sigma: float = 0.5
    overrun_share: float = 0.02
    think_median: float = 120.0
    think_sigma: float = 1.5
    think_longest: float = 2 * _HOUR
    linger: float = 1800.0
    night: float = 0.8
    peak_hour: float = 15.0
    heavy_share: float = 0.02
    heavy_factor: float = 10.0
    group_share: float = 0.5
    group_size: float = 20.0
    tiers: Mapping[str, float] = field(
        default_factory=lambda: {"anonymous": 0.05, "free": 0.7, "pro": 0.2, "enterprise": 0.05},
        hash=False,
    )

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tiers"}
        numbers |= {f"tiers.{name}": share for name, share in self.tiers.items()}
        for name, number in numbers.items():
            if not (math.isfinite(number) and number >= 0):
                raise ValueError(f"{name} must be a number of 0 or more, not {number}.")
            if (name.endswith("_share") or name == "night") and number > 1:
                raise ValueError(f"{name} is a share: at most 1, not {number}.")
        for name in ("cells", "group_size"):
            if numbers[name] < 1:
                raise ValueError(f"{name} must be at least 1, not {numbers[name]}.")
        for name in ("run_median", "run_longest", "limit_factor", "think_median"):
            if not numbers[name]:
                raise ValueError(f"{name} must be above 0.")
        if not sum(self.tiers.values()):
            raise ValueError("tiers must give a share above 0 to one tier at least.")


def generate(
    population: Population, users: int, hours: float, seed: int, layout: Mapping[str, int]
) -> Workload:
    """Makes a workload. The same arguments make the same.

    Args:
        population: What the people are like.
        users: How many there are.
        hours: Notebooks are opened within this time.
        seed: Of the random generator.
        layout: Slices by size: notebooks use the sizes in proportion.
    """
    source = random.Random(seed)
    notebooks = [
        _notebook(f"{account.user}-{number}", account, opens, population, source, layout)
        for account, rate in _people(population, users, source)
        for number, opens in enumerate(_openings(rate, hours, population, source), 1)
    ]
    return Workload(tuple(notebooks), hours * _HOUR, f"generated: {users:,} users, seed {seed}")


def _people(
    population: Population, users: int, source: random.Random
) -> Iterator[tuple[Account, float]]:
    """Gives everybody, with how many notebooks a second they open."""
    tiers, shares = list(population.tiers), list(population.tiers.values())
    groups = max(1, round(users * population.group_share / population.group_size))
    for number in range(1, users + 1):
        group = (
            f"group{source.randrange(groups) + 1}" if _is(population.group_share, source) else ""
        )
        tier = source.choices(tiers, shares)[0]
        heavy = population.heavy_factor if _is(population.heavy_share, source) else 1.0
        yield Account(f"user{number}", group, tier), population.notebooks_per_day * heavy / _DAY


def _is(share: float, source: random.Random) -> bool:
    return source.random() < share


def _openings(
    rate: float, hours: float, population: Population, source: random.Random
) -> Iterator[float]:
    """Gives the times of a Poisson process whose rate goes with the day."""
    at, highest = 0.0, 1.0 + population.night
    while rate:
        at += source.expovariate(rate * highest)
        if at >= hours * _HOUR:
            return
        angle = 2 * math.pi * (at / _HOUR - population.peak_hour) / 24
        if _is((1.0 + population.night * math.cos(angle)) / highest, source):
            yield at


def _notebook(
    name: str,
    account: Account,
    opens: float,
    population: Population,
    source: random.Random,
    layout: Mapping[str, int],
) -> Notebook:
    size = source.choices(list(layout), list(layout.values()))[0]
    cells = [_cell(population, source)]
    while not _is(1.0 / population.cells, source):
        cells.append(_cell(population, source))
    lingers = source.expovariate(1.0 / population.linger) if population.linger else 0.0
    return Notebook(name, account, size, opens, tuple(cells), lingers)


def _cell(population: Population, source: random.Random) -> Cell:
    run = _log_normal(population.run_median, population.run_sigma, source)
    run = min(run, population.run_longest)
    think = _log_normal(population.think_median, population.think_sigma, source)
    factor = max(1.0, _log_normal(population.limit_factor, population.limit_sigma, source))
    if _is(population.overrun_share, source):
        factor = 0.5
    return Cell(min(think, population.think_longest), rounded_up(run * factor), run)


def _log_normal(median: float, sigma: float, source: random.Random) -> float:
    return source.lognormvariate(math.log(median), sigma)


def rounded_up(seconds: float) -> float:
    """Gives the least time that people write that is no shorter; whole days above a day."""
    for one in _ROUND:
        if seconds <= one:
            return float(one)
    return math.ceil(seconds / _DAY) * _DAY
