"""What it costs to look after real slices: discovery, a look, and the time between two users.

Prints a table and writes JSON. It changes no setting of the device. Exit status 2: none here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for report.py

from report import Row, median, table, write

from zerokernel.broker.devices import Use, choose_devices
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import load

NO_DEVICE = 2
TURNS = 5


def main() -> int:
    settings = load({**os.environ, "ZEROKERNEL_DEVICES": "nvidia"})
    try:
        devices = choose_devices(settings, os.environ.get("CUDA_VISIBLE_DEVICES"))
        slices = devices.discover()
    except ZeroKernelError as error:
        print(f"Nothing to measure: {error}", file=sys.stderr)
        return NO_DEVICE
    if not slices:
        print("Nothing to measure: no NVIDIA device is visible.", file=sys.stderr)
        return NO_DEVICE
    one = slices[0]
    rows = [
        Row("discovery", timed(devices.discover)),
        Row("a look at all slices", timed(lambda: devices.find_troubles(slices, Use()))),
        Row("verify that a slice is free", timed(lambda: checked(devices.clean(one, False)))),
        Row("overwrite its memory", timed(lambda: checked(devices.clean(one, True)))),
    ]
    devices.close()
    print(f"{one.display}, median of {TURNS}\n\n{table(rows)}")
    content = {"device": one.display, "memory": one.memory, "rows": [vars(row) for row in rows]}
    print(f"\nwrote {write('slices', 'gpu', content).name}")
    return 0


def checked(reason: str) -> None:
    if reason:
        raise SystemExit(f"The slice is not clean: {reason}")


def timed(work: Callable[[], object]) -> float:
    """Gives the median time of some runs, in seconds."""
    seconds = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


if __name__ == "__main__":
    sys.exit(main())
