"""`zerokernel simulate`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zerokernel.errors import BadSimulation
from zerokernel.settings import Settings

if TYPE_CHECKING:
    from zerokernel.broker.scheduling import Policy
    from zerokernel.simulation import Workload

_MOST_USERS, _MOST_HOURS = 1_000_000, 24 * 366.0
_SHIPPED = "sample"
_PARAMETERS = {
    "policy": "a number of the scheduler's, as half_life=600 or tiers.pro=3",
    "population": "what the people are like, as run_median=30",
    "costs": "seconds that starting and ending take, as bind=5",
}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "simulate", help="try the scheduler on a trace, or on people who are made up"
    )
    add = parser.add_argument
    add("--users", type=int, help="people who are made up (default 200)")
    add("--slices", metavar="N|SIZE=N,…", help="slices there are (default 20)")
    add("--hours", type=float, help="time within which notebooks are opened (default 24)")
    add("--seed", type=int, help="of the random generator (default 1)")
    add("--trace", metavar="FILE", help=f"CSV, or {_SHIPPED!r} for the one that is shipped")
    for name, what in _PARAMETERS.items():
        add(f"--{name}", action="append", default=[], metavar="KEY=VALUE", help=what)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all figures as JSON")
    form.add_argument("--csv", action="store_true", help="print all figures as CSV")
    add("--plot", type=Path, metavar="FILE", help="draw them too, as .png or .html")
    add(
        "--write-trace", type=Path, metavar="FILE", help="write the made-up trace; simulate nothing"
    )
    parser.set_defaults(command=simulate)


def simulate(settings: Settings, options: argparse.Namespace) -> int:
    """Simulates and prints. Raises BadSimulation, BadTrace."""
    from zerokernel.broker.scheduling import Policy
    from zerokernel.simulation import Costs, compare, plots, tables
    from zerokernel.simulation.comparison import seldom_told
    from zerokernel.simulation.parameters import changed

    policy = changed(seldom_told(Policy()), options.policy, "--policy")
    costs = changed(Costs(), options.costs, "--costs")
    if options.plot:
        plots.check(options.plot)
    workload, layout = _workload(options, policy)
    if options.write_trace:
        _write(options.write_trace, workload)
        return 0
    comparison = compare(workload, layout, policy, costs)
    if options.json:
        print(json.dumps(comparison.as_plain(), indent=2))
    else:
        print(tables.as_csv(comparison) if options.csv else tables.as_text(comparison))
    if options.plot:
        plots.draw(comparison, options.plot)
        print(f"wrote {options.plot}", file=sys.stderr)
    return 0


def _workload(options: argparse.Namespace, policy: Policy) -> tuple[Workload, dict[str, int]]:
    """Gives what is asked for, and the slices by size."""
    if options.trace is None:
        return _generated(options)
    made_up = ("users", "hours", "seed", "population", "write_trace")
    if given := [one for one in made_up if getattr(options, one)]:
        name = given[0].replace("_", "-")
        raise BadSimulation(f"--{name} is about people who are made up; --trace names a file.")
    return _traced(options, policy)


def _generated(options: argparse.Namespace) -> tuple[Workload, dict[str, int]]:
    from zerokernel.simulation import Population, generate
    from zerokernel.simulation.parameters import changed, layout_of

    users = _within("--users", options.users, 200, _MOST_USERS)
    hours = _within("--hours", options.hours, 24.0, _MOST_HOURS)
    population = changed(Population(), options.population, "--population")
    layout = layout_of(options.slices or "20")
    seed = 1 if options.seed is None else options.seed
    workload = generate(population, int(users), hours, seed, layout)
    if not len(workload):
        raise BadSimulation(f"None of the users opens a notebook within {hours:g} h.")
    return workload, layout


def _within(option: str, given: float | None, default: float, most: float) -> float:
    value = default if given is None else given
    if not (math.isfinite(value) and 0 < value <= most):
        raise BadSimulation(f"{option} must be above 0 and at most {most:,.0f}, not {value}.")
    return value


def _traced(options: argparse.Namespace, policy: Policy) -> tuple[Workload, dict[str, int]]:
    from zerokernel.simulation import read_trace, sample_path
    from zerokernel.simulation.parameters import layout_of

    path = sample_path() if options.trace == _SHIPPED else Path(options.trace)
    slices: str = options.slices or "20"
    named = layout_of(slices) if "=" in slices else {}
    workload = read_trace(path, policy.tiers, policy.longest, named)
    if named:
        return workload, named
    if len(workload.sizes) > 1:
        wanted = ",".join(f"{size}=N" for size in workload.sizes)
        raise BadSimulation(f"The trace asks for several sizes: --slices {wanted}.")
    return workload, layout_of(slices, workload.sizes[0])


def _write(path: Path, workload: Workload) -> None:
    from zerokernel.simulation import write_trace

    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            write_trace(workload, file)
    except OSError as error:
        raise BadSimulation(f"--write-trace {path} cannot be written: {error.strerror}.") from error
