"""What a `%%gpu` cell adds to a plain one, and what the first cell and an interrupt take.

Beside it, in the same run: a plain cell, a fresh ipykernel, a fresh Python that imports torch,
and ipyparallel's `%%px` with one engine. All times are taken from outside the kernel, as a
front end sees them. Targets are those of the design. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

from report import Row, median, percentile, plain, table, write
from timed_kernel import TimedKernel, connected, idle, kernel, kind, leased, own_broker

NOOP, GPU_NOOP = "pass", "%%gpu --quiet\npass"
SPIN = "%%gpu --quiet\nprint('running', flush=True)\nwhile True:\n    pass"
ENGINE = """
import ipyparallel
cluster = ipyparallel.Cluster(n=1, log_level=40)
engines = cluster.start_and_connect_sync(activate=True)
"""


def main() -> int:
    options = _parser().parse_args()
    with own_broker() as environment, kernel(environment) as warm:
        loading = warm.reply_time("%load_ext zerokernel")
        warm.reply_time(GPU_NOOP)
        warm.reply_time("%gpu restart")
        first = first_cells(environment, warm, options.starts)
        added = added_times(warm, NOOP, GPU_NOOP, options.cells)
        stops = interrupts(warm, options.interrupts)
        status = warm.broker()
    peers = {
        "px": engine_times(options.cells),
        "ipykernel": fresh_kernels(options.starts),
        "torch": fresh_torch(options.starts),
    }
    rows = [
        *rows_of(added, first, stops, peers),
        Row("%load_ext zerokernel", loading, target_seconds=60e-3),
    ]
    print(table(rows))
    slices = [one["display"] for one in status["slices"]]
    content = {"slices": slices, "repetitions": vars(options), "rows": plain(rows)}
    print(f"\nwrote {write('cell-latency', kind(status), content).name}")
    return 0


def first_cells(environment: dict[str, str], warm: TimedKernel, count: int) -> list[float]:
    """First output of the first `%%gpu` cell of a session whose forkserver is warm.

    Another kernel, `warm`, has used the forkserver before, and holds no worker.
    """
    times = []
    for _ in range(count):
        warm.wait_for_broker(idle)
        with kernel(environment) as fresh:
            fresh.reply_time("%load_ext zerokernel")
            warm.wait_for_broker(connected(2))
            times.append(fresh.first_output_time("%%gpu --quiet\nprint('here')"))
        warm.wait_for_broker(connected(1))
    return times


def added_times(one: TimedKernel, plain: str, gpu: str, count: int) -> dict[str, list[float]]:
    """Times a plain cell and another in turns, so that both see the same machine."""
    for _ in range(10):
        one.reply_time(plain)
        one.reply_time(gpu)
    times: dict[str, list[float]] = {"plain": [], "other": []}
    for _ in range(count):
        times["plain"].append(one.reply_time(plain))
        times["other"].append(one.reply_time(gpu))
    return times


def interrupts(one: TimedKernel, count: int) -> list[float]:
    """From the interrupt to the moment when the broker lists no lease."""
    times = []
    for _ in range(count):
        started = one.interrupt(SPIN)
        one.wait_for_broker(lambda status: not leased(status))
        times.append(time.perf_counter() - started)
        one.reply_time(GPU_NOOP)
    return times


def engine_times(count: int) -> dict[str, list[float]]:
    """The `%%px` of ipyparallel, with one engine, in turns with a plain cell."""
    with kernel() as one:
        one.reply_time(ENGINE)
        try:
            return added_times(one, NOOP, "%%px\npass", count)
        finally:
            one.reply_time("cluster.stop_cluster_sync()")


def fresh_kernels(count: int) -> list[float]:
    """A new ipykernel, from its start to its first output."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        with kernel() as one:
            one.first_output_time("print('here')")
            times.append(time.perf_counter() - started)
    return times


def fresh_torch(count: int) -> list[float]:
    """A new Python that imports torch, from its start to its end."""
    command = [sys.executable, "-c", "import torch"]
    times = []
    for _ in range(count):
        started = time.perf_counter()
        subprocess.run(command, check=True)
        times.append(time.perf_counter() - started)
    return times


def rows_of(
    added: dict[str, list[float]], first: list[float], stops: list[float], peers: dict[str, Any]
) -> list[Row]:
    plain, px_plain = median(added["plain"]), median(peers["px"]["plain"])
    ours = [seconds - plain for seconds in added["other"]]
    px = [seconds - px_plain for seconds in peers["px"]["other"]]
    return [
        Row("plain cell", plain),
        Row(
            "no-op %%gpu cell, warm: added, p50", median(ours), "%%px, added p50", median(px), 3e-3
        ),
        Row(
            "no-op %%gpu cell, warm: added, p99",
            percentile(ours, 0.99),
            "%%px, added p99",
            percentile(px, 0.99),
            10e-3,
        ),
        Row(
            "first cell of a session, to output",
            median(first),
            "fresh ipykernel",
            median(peers["ipykernel"]),
            40e-3,
        ),
        Row(
            "first cell of a session, to output",
            median(first),
            "python + import torch",
            median(peers["torch"]),
            40e-3,
        ),
        Row("interrupt → lease released, worst", max(stops), target_seconds=1.0),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=300, help="no-op cells of each sort")
    parser.add_argument("--starts", type=int, default=7, help="first cells, fresh processes")
    parser.add_argument("--interrupts", type=int, default=7)
    return parser


if __name__ == "__main__":
    sys.exit(main())
