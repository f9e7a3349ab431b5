"""What it takes to bring objects to a `%%gpu` cell and back.

A 256 MiB array and tensor at their first crossing, unchanged, changed there and made there; a
million small objects first and unchanged; a thousand objects with fifty functions. Beside it, in
the same run: `numpy.copy`, push and pull of ipyparallel, dumps + loads of cloudpickle. Times are
whole cells seen from outside the kernel, less those of a no-op `%%gpu` cell. Takes about two
minutes and 3 GiB of memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
from report import Row, median, plain, table, write
from timed_kernel import TimedKernel, kernel, kind, own_broker

MIB = 1 << 20
ARRAY = "import numpy\nx = numpy.random.default_rng().random({mib} << 17)"
TENSOR = "import torch\nx = torch.rand({mib} << 18)"
OBJECTS = "x = [[number, str(number)] for number in range(500_000)]"
FUNCTIONS = """
class Thing:
    def __init__(self, number):
        self.number = number

x = [Thing(number) for number in range(1_000)]
def f0(value):
    return value

for number in range(1, 50):
    exec(f"def f{number}(value):\\n    return f{number - 1}(value) + {number}")
"""
READ = "%%gpu --quiet\nx\npass"
CALL = "%%gpu --quiet\nx, f49(1)\npass"
# The cell says how long its own work took; what is left of the time is crossing.
WORK = """%%gpu --quiet
import time
started = time.perf_counter()
{work}
worked = time.perf_counter() - started
"""
WORKED = "import json; print(json.dumps(worked))"
ENGINE = """
import ipyparallel, json, numpy, time
cluster = ipyparallel.Cluster(n=1, log_level=40)
engine = cluster.start_and_connect_sync()[0]
"""
PUSH_PULL = """
def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started

x = numpy.random.default_rng().random({mib} << 17)
print(json.dumps([timed(lambda: engine.push({{"x": x}}, block=True)),
                  timed(lambda: engine.pull("x", block=True))]))
"""


def main() -> int:
    options = _parser().parse_args()
    mib, rounds = options.mib, options.rounds
    with own_broker() as environment, kernel(environment) as notebook:
        notebook.reply_time("%load_ext zerokernel")
        for _ in range(5):
            notebook.reply_time("%%gpu --quiet\npass")
        noop = median([notebook.reply_time("%%gpu --quiet\npass") for _ in range(30)])
        array = crossings(notebook, ARRAY.format(mib=mib), READ, noop, rounds, "x += 1")
        tensor = crossings(notebook, TENSOR.format(mib=mib), READ, noop, rounds, "x.add_(1)")
        made = results_home(notebook, f"y = numpy.ones({mib} << 17)", noop, rounds)
        objects = crossings(notebook, OBJECTS, READ, noop, rounds)
        functions = crossings(notebook, FUNCTIONS, CALL, noop, rounds)
        status = notebook.broker()
    rows = rows_of(array, tensor, made, objects, functions, peers(mib, rounds), mib)
    print(table(rows))
    slices = [one["display"] for one in status["slices"]]
    content = {"slices": slices, "repetitions": vars(options), "rows": plain(rows)}
    print(f"\nwrote {write('crossing', kind(status), content).name}")
    return 0


def crossings(
    notebook: TimedKernel, make: str, use: str, noop: float, rounds: int, change: str = ""
) -> dict[str, float]:
    """Times the first crossing of new objects, the next one, and one that changes them."""
    times: dict[str, list[float]] = {"first": [], "unchanged": [], "changed": []}
    for _ in range(rounds):
        notebook.reply_time(make)
        times["first"].append(notebook.reply_time(use) - noop)
        times["unchanged"].append(notebook.reply_time(use) - noop)
        if change:
            times["changed"].append(_crossing_of(notebook, change, noop))
    return {name: median(values) for name, values in times.items() if values}


def results_home(notebook: TimedKernel, make: str, noop: float, rounds: int) -> float:
    """Times the way home of something that the cell makes."""
    return median([_crossing_of(notebook, make, noop) for _ in range(rounds)])


def _crossing_of(notebook: TimedKernel, work: str, noop: float) -> float:
    total = notebook.reply_time(WORK.format(work=work))
    return total - noop - float(notebook.value(WORKED))


def peers(mib: int, rounds: int) -> dict[str, float]:
    """Times the yardsticks, in this process and in an engine of ipyparallel."""
    array = np.random.default_rng().random(mib << 17)
    small = [[number, str(number)] for number in range(500_000)]
    found = {
        "numpy.copy": _median_time(array.copy, rounds),
        "cloudpickle": _median_time(lambda: _through_pickle(array), rounds),
        "cloudpickle objects": _median_time(lambda: _through_pickle(small), rounds),
        "cloudpickle functions": _functions_through_pickle(rounds),
    }
    with kernel() as one:
        one.reply_time(ENGINE)
        try:
            pairs = [one.value(PUSH_PULL.format(mib=mib)) for _ in range(rounds)]
        finally:
            one.reply_time("cluster.stop_cluster_sync()")
    found["push"] = median([push for push, _ in pairs])
    found["pull"] = median([pull for _, pull in pairs])
    return found


def _through_pickle(value: Any) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(value))


def _functions_through_pickle(rounds: int) -> float:
    # In `__main__`, as in a notebook: there cloudpickle takes functions and classes by value.
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(FUNCTIONS, namespace)
    both = namespace["x"], namespace["f49"]
    return _median_time(lambda: _through_pickle(both), rounds)


def _median_time(work: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
        del result
    return median(times)


def rows_of(
    array: dict[str, float],
    tensor: dict[str, float],
    made: float,
    objects: dict[str, float],
    functions: dict[str, float],
    beside: dict[str, float],
    mib: int,
) -> list[Row]:
    rows = []
    for name, ours in ((f"{mib} MiB array", array), (f"{mib} MiB tensor", tensor)):
        rows += [
            _row(f"{name}, first crossing", ours["first"], "numpy.copy", beside, ratio=1.5),
            _row(f"{name}, first crossing", ours["first"], "push", beside),
            _row(f"{name}, first crossing", ours["first"], "cloudpickle", beside),
            _row(
                f"{name}, unchanged",
                ours["unchanged"],
                "own first",
                {"own first": ours["first"]},
                ratio=0.35,
            ),
            _row(f"{name}, changed there, back", ours["changed"], "pull", beside),
        ]
    return [
        *rows,
        _row(f"{mib} MiB array made there, home", made, "pull", beside),
        _row("10⁶ small objects, first", objects["first"], "cloudpickle objects", beside, 1.5),
        _row(
            "10⁶ small objects, unchanged", objects["unchanged"], "cloudpickle objects", beside, 0.4
        ),
        _row(
            "1,000 objects + 50 functions",
            functions["first"],
            "cloudpickle functions",
            beside,
            10e-3,
        ),
        _row("the same, unchanged", functions["unchanged"], "cloudpickle functions", beside, 10e-3),
    ]


def _row(
    what: str,
    seconds: float,
    name: str,
    beside: dict[str, float],
    limit: float | None = None,
    ratio: float | None = None,
) -> Row:
    return Row(what, seconds, name, beside[name], limit, ratio)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=256, help="size of the array and the tensor")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of every figure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
