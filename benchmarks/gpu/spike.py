"""What the process model rests on, measured on a real device, each experiment in its own process.

Prints a table and writes JSON. It takes plain allocations of a bounded size and changes no
setting of the device: no clocks, no compute mode, no MIG layout. Exit status 2: no device here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for report.py

import experiments
from report import aligned, duration, median, write
from target import NoDevice, Rehearsal, Target, devices, target

NO_DEVICE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.inside:
        figures = experiments.ALL[options.inside](target(options.device), options.mib)
        print(json.dumps(figures))
        return 0
    try:
        on = _chosen(options.device)
    except NoDevice as error:
        print(f"Nothing to measure: {error}", file=sys.stderr)
        return NO_DEVICE
    found, failed = run_all(on, options)
    print(f"{on.name}, median of {options.repeats}\n\n{table(found)}")
    for name, why in failed.items():
        print(f"\n{name} failed: {why}", file=sys.stderr)
    if options.device != "cpu":
        content = {"device": on.name, "mib": options.mib, "figures": found, "failed": failed}
        print(f"\nwrote {write('spike', 'gpu', content).name}")
    return 1 if failed else 0


def run_all(
    on: Target, options: argparse.Namespace
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Runs the experiments; gives the figures of those that worked, and why others did not."""
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name in options.only or experiments.ALL:
        try:
            runs = [_run(name, on, options) for _ in range(options.repeats)]
        except subprocess.TimeoutExpired as error:
            failed[name] = f"it took longer than {error.timeout:g} s"
        except subprocess.CalledProcessError as error:
            failed[name] = str(error.stderr)[-2000:]
        else:
            found[name] = summary(runs)
    return found, failed


def summary(runs: Sequence[experiments.Figures]) -> dict[str, Any]:
    """Gives for each figure its median, unit and all values."""
    return {
        what: {
            "value": median([run[what][0] for run in runs]),
            "unit": runs[0][what][1],
            "all": [run[what][0] for run in runs],
        }
        for what in runs[0]
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Gives the figures as a table, one line a figure."""
    lines = [["experiment", "what", "median", "least", "most"]]
    for name, figures in found.items():
        for what, one in figures.items():
            values = (one["value"], min(one["all"]), max(one["all"]))
            lines.append([name, what, *(_said(value, one["unit"]) for value in values)])
    return aligned(lines)


def _said(value: float, unit: str) -> str:
    return duration(value) if unit == "s" else f"{value:.4g} {unit}"


def _run(name: str, on: Target, options: argparse.Namespace) -> experiments.Figures:
    uuid = getattr(on, "uuid", "cpu")
    inside = ["--inside", name, "--device", uuid, "--mib", str(options.mib)]
    done = subprocess.run(
        [sys.executable, __file__, *inside],
        env={**os.environ, **on.environment()},
        capture_output=True,
        text=True,
        timeout=options.timeout,
        check=True,
    )
    return {what: (value, unit) for what, (value, unit) in json.loads(done.stdout).items()}


def _chosen(name: str) -> Target:
    if name == "cpu":
        return Rehearsal()
    there = devices()
    for one in there:
        if not name or one.uuid.startswith(name):
            return one
    raise NoDevice(f"no device is called {name}; there are {', '.join(one.uuid for one in there)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--device",
        default="",
        help="a UUID; the first device unless said; cpu rehearses the experiments without one",
    )
    parser.add_argument("--mib", type=int, default=1024, help="size of the largest allocations")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=120, help="seconds an experiment may take")
    parser.add_argument("--only", nargs="+", choices=list(experiments.ALL))
    parser.add_argument("--inside", choices=list(experiments.ALL), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
