"""What it takes to bring objects to a `%%gpu` cell and back.

A 256 MiB array and tensor at their first crossing, unchanged, changed there and made there; a
model of 200 tensors of which one is changed, and one on the emulated device; 5,000 tiny tensors; a
million small objects first and unchanged; a thousand objects with fifty functions; 1 MB that is
used in a namespace of gigabytes.
Beside it: `numpy.copy`, push and pull of ipyparallel, dumps + loads of cloudpickle in this run.
Times are whole cells seen from outside the kernel, less those of a no-op `%%gpu` cell. A second
table gives the memory that both processes need at most beyond the notebook's own copy of the data.
Takes about three minutes and 6 GiB of memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from report import Row, aligned, median, plain, table, write
from timed_kernel import TimedKernel, kernel, kind, own_broker

from zerokernel import settings
from zerokernel.crossing import pages

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
MODEL = """
import torch
x = torch.nn.ParameterList(torch.rand({mib} * (1 << 18) // 200) for _ in range(200))
"""
EMULATE = "import zerokernel; zerokernel.emulate()"
ON_DEVICE = f"{MODEL}x.to('cuda')"
ONE_TENSOR = "with torch.no_grad(): x[100].add_(1)"
TINY = "import torch\nx = [torch.rand(10) for _ in range(5_000)]"
# A part of it is known to the worker, from a cell before.
FULL = """
others = [numpy.random.default_rng().random(1 << 25) for _ in range({gib} * 4)]
known = others[::4]
"""
MEGABYTE = "import numpy\nx = numpy.random.default_rng().random(1 << 17)"
READ = "%%gpu --quiet\nx\npass"
READ_KNOWN = "%%gpu --quiet\nknown\npass"
PROCESS = "import json, os; print(json.dumps(os.getpid()))"
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


def touch_memory(gib: int) -> None:
    """Writes to so much memory and lets go of it.

    A virtual machine gets most of its memory when it first writes to it, at some ten times the
    usual cost, and gives it back seconds after nobody uses it; that is not what is compared here.
    """
    held = [np.ones(1 << 30, np.uint8) for _ in range(gib)]
    held.clear()


def main() -> int:
    options = _parser().parse_args()
    mib, rounds = options.mib, options.rounds
    touch_memory(options.touched_gib)
    with own_broker() as environment, kernel(environment) as notebook:
        notebook.reply_time("%load_ext zerokernel")
        for _ in range(5):
            notebook.reply_time("%%gpu --quiet\npass")
        noop = median([notebook.reply_time("%%gpu --quiet\npass") for _ in range(30)])
        array = crossings(notebook, ARRAY.format(mib=mib), READ, noop, rounds, "x += 1")
        tensor = crossings(notebook, TENSOR.format(mib=mib), READ, noop, rounds, "x.add_(1)")
        made = results_home(notebook, f"y = numpy.ones({mib} << 17)", noop, rounds)
        model_mib = options.model_mib
        touched = 2 * model_mib
        model = crossings(
            notebook, MODEL.format(mib=model_mib), READ, noop, rounds, ONE_TENSOR, touched=touched
        )
        tiny = crossings(notebook, TINY, READ, noop, rounds)
        alone = crossings(notebook, MEGABYTE, READ, noop, rounds)
        notebook.reply_time(FULL.format(gib=options.namespace_gib))
        notebook.reply_time(READ_KNOWN)
        beside = crossings(notebook, MEGABYTE, READ, noop, rounds)
        notebook.reply_time("del others, known")
        functions = crossings(notebook, FUNCTIONS, CALL, noop, rounds)
        objects = crossings(notebook, OBJECTS, READ, noop, rounds)
        memory = peaks(notebook, mib)
        notebook.reply_time(EMULATE)
        on_device = ON_DEVICE.format(mib=model_mib)
        device = crossings(notebook, on_device, READ, noop, rounds, touched=touched)
        status = notebook.broker()
    rows = rows_of(array, tensor, made, objects, functions, peers(mib, rounds), mib)
    rows += more_rows(model, tiny, alone, beside, options)
    rows += device_rows(device, options)
    print(table(rows))
    print(f"\n{memory_table(memory)}")
    slices = [one["display"] for one in status["slices"]]
    content = {
        "slices": slices,
        "repetitions": vars(options),
        "rows": plain(rows),
        "peak memory by the size of the data": memory,
    }
    print(f"\nwrote {write('crossing', kind(status), content).name}")
    return 0


def crossings(
    notebook: TimedKernel,
    make: str,
    use: str,
    noop: float,
    rounds: int,
    change: str = "",
    touched: int = 0,
) -> dict[str, float]:
    """Times the first crossing of new objects, the next one, and one that changes them.

    Before the first one so many MiB of memory are touched.
    """
    times: dict[str, list[float]] = {"first": [], "unchanged": [], "changed": []}
    for _ in range(rounds):
        notebook.reply_time(make)
        touch_memory(touched >> 10)
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


def peaks(notebook: TimedKernel, mib: int) -> dict[str, float]:
    """The most memory beyond the notebook's own array, of both processes, by its size."""
    processes = [notebook.value(PROCESS), notebook.value(f"%%gpu --quiet\n{PROCESS}")]
    found = {}
    for name, work in (("read only", "pass"), ("every byte changed", "x += 1")):
        notebook.reply_time(ARRAY.format(mib=mib))
        before = [_memory_of(process, "VmRSS") for process in processes]
        for process in processes:
            Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak begins anew
        notebook.reply_time(f"%%gpu --quiet\nx\n{work}")
        after = [_memory_of(process, "VmHWM") for process in processes]
        found[name] = (sum(after) - sum(before)) / (mib * MIB)
        notebook.reply_time("del x")
        notebook.reply_time("%%gpu --quiet\npass")
    return found


def _memory_of(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def memory_table(found: dict[str, float]) -> str:
    limits = {"read only": 1.1, "every byte changed": 2.1}
    lines = [["peak memory beyond the notebook's copy", "by its size", "target", "met"]]
    for name, ratio in found.items():
        met = "yes" if ratio <= limits[name] else "NO"
        lines.append([name, f"{ratio:.2f}", f"≤ {limits[name]}", met])
    return aligned(lines)


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
                ratio=_unchanged_ratio(),
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


def more_rows(
    model: dict[str, float],
    tiny: dict[str, float],
    alone: dict[str, float],
    beside: dict[str, float],
    options: argparse.Namespace,
) -> list[Row]:
    name = f"{options.model_mib} MiB model of 200 tensors"
    first = {"own first": model["first"], "1 MB alone": alone["first"]}
    ratio = _unchanged_ratio()
    full = f"1 MB used beside {options.namespace_gib} GiB"
    return [
        Row(f"{name}, first crossing", model["first"]),
        _row(f"{name}, unchanged", model["unchanged"], "own first", first, ratio=ratio),
        _row(f"{name}, one changed there", model["changed"], "own first", first, ratio=ratio),
        Row("5,000 tiny tensors, first", tiny["first"], target_seconds=0.1),
        Row("5,000 tiny tensors, unchanged", tiny["unchanged"], target_seconds=0.1),
        _row(full, beside["first"], "1 MB alone", first, ratio=1.5),
    ]


def device_rows(device: dict[str, float], options: argparse.Namespace) -> list[Row]:
    """A model on the emulated device, beside a copy of as many bytes."""
    source = np.ones(options.model_mib << 17)
    copy = {"numpy.copy": _median_time(source.copy, options.rounds), "own first": device["first"]}
    name, ratio = f"{options.model_mib} MiB model on the emulated device", _unchanged_ratio()
    return [
        _row(f"{name}, first crossing", device["first"], "numpy.copy", copy, ratio=1.5),
        _row(f"{name}, unchanged", device["unchanged"], "own first", copy, ratio=ratio),
    ]


def _unchanged_ratio() -> float:
    """What is asked of unchanged data: with write tracking, or where only hashing is possible."""
    tracked = not pages.trial() and settings.load().change_detection != "hash"
    return 0.1 if tracked else 0.35


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
    parser.add_argument("--touched-gib", type=int, default=6, help="memory written to before")
    parser.add_argument("--mib", type=int, default=256, help="size of the array and the tensor")
    parser.add_argument("--model-mib", type=int, default=1024, help="size of the model")
    parser.add_argument("--namespace-gib", type=int, default=2, help="what lies there unused")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of every figure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
