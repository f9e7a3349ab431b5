"""How soon losses are over: a killed worker, a dead kernel, a broker that starts again.

All times are taken from outside: from the signal to the first output of the next cell, or to
the moment when the broker's status says so. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from report import Row, median, plain, table, write
from timed_kernel import TimedKernel, idle, kernel, kind, own_broker

from zerokernel.client import BrokerAddress, find_broker
from zerokernel.client.rest import fetch_status
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import Settings, load

HERE = "%%gpu --quiet\nprint('here')"
SUICIDE = "%%gpu --quiet\nimport os\nos.kill(os.getpid(), 9)"
LONG = "%%gpu --quiet -d 600\nprint('running', flush=True)\nimport time\ntime.sleep(600)"
FIGURES = (
    ("killed worker → next cell's first output", "worker", 0.1),
    ("interrupt → lease released", "interrupt", 1.0),
    ("death of a kernel under its cell → slice free", "kernel", 1.0),
    ("death of the broker under a cell → its session is back", "broker", 2.0),
)


def main() -> int:
    options = _parser().parse_args()
    with own_broker() as environment, kernel(environment) as one:
        settings = load(environment)
        one.reply_time("%load_ext zerokernel")
        one.reply_time(HERE)
        times = {
            "worker": [after_killed_worker(one) for _ in range(options.repeat)],
            "interrupt": [after_interrupt(one, settings) for _ in range(options.repeat)],
            "kernel": [after_killed_kernel(environment, settings) for _ in range(options.repeat)],
            "broker": [after_killed_broker(one, settings) for _ in range(options.repeat)],
        }
        status = one.broker()
    rows = [
        Row(f"{what}, {word}", pick(times[name]), target_seconds=target)
        for what, name, target in FIGURES
        for word, pick in (("p50", median), ("worst", max))
    ]
    print(table(rows))
    slices = [one["display"] for one in status["slices"]]
    content = {"slices": slices, "repetitions": vars(options), "rows": plain(rows)}
    print(f"\nwrote {write('life-cycle', kind(status), content).name}")
    return 0


def after_killed_worker(one: TimedKernel) -> float:
    """The error is here; how long until the next cell shows something?"""
    one.outputs(one.client.execute(SUICIDE))
    return one.first_output_time(HERE)


def after_interrupt(one: TimedKernel, settings: Settings) -> float:
    started = one.interrupt(LONG)
    _until(settings, lambda _, status: idle(status))
    return time.perf_counter() - started


def after_killed_kernel(environment: dict[str, str], settings: Settings) -> float:
    with kernel(environment) as victim:
        victim.reply_time("%load_ext zerokernel")
        _start_long_cell(victim)
        started = time.perf_counter()
        os.kill(victim.manager.provisioner.pid, signal.SIGKILL)
        _until(settings, lambda _, status: all(s["state"] == "free" for s in status["slices"]))
        return time.perf_counter() - started


def after_killed_broker(one: TimedKernel, settings: Settings) -> float:
    _start_long_cell(one)
    before = find_broker(settings)
    assert before is not None
    started = time.perf_counter()
    os.kill(before.pid, signal.SIGKILL)
    _until(
        settings,
        lambda found, status: found.pid != before.pid and status["sessions"][0]["connected"],
    )
    elapsed = time.perf_counter() - started
    one.manager.interrupt_kernel()
    _until(settings, lambda _, status: idle(status))
    return elapsed


def _start_long_cell(one: TimedKernel) -> None:
    message = one.client.execute(LONG)
    for output in one._iopub(message):
        if output["msg_type"] == "stream":
            return


def _until(settings: Settings, condition: Callable[[BrokerAddress, dict[str, Any]], bool]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(ZeroKernelError, IndexError):
            found = find_broker(settings)
            if found is not None and condition(found, fetch_status(found)):
                return
        time.sleep(0.005)
    raise TimeoutError("the broker did not get there")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="times for each figure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
