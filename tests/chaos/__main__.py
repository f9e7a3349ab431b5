"""`python -m tests.chaos --kills 500 --seed 7`: prints what happened; fails on any fault."""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading

from tests.chaos.storm import Storm, Weather

_WINDING_UP = 300.0
"""Seconds that the quiet moments and the end may take beside the storm itself."""


def main() -> int:
    """Runs one storm; gives the exit status."""
    weather = _parse()
    print(f"chaos with seed {weather.seed}", flush=True)
    storm = Storm(weather)
    watchdog = threading.Timer(weather.seconds + _WINDING_UP, _give_up, [storm])
    watchdog.daemon = True
    watchdog.start()
    report = storm.run()
    watchdog.cancel()
    print(report.text(), flush=True)
    return 1 if report.faults else 0


def _give_up(storm: Storm) -> None:
    print("the run took far too long and is ended", flush=True)
    print(storm.give_up().text(), flush=True)
    os._exit(3)


def _parse() -> Weather:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--cells", type=int, default=24, help="at least so many")
    parser.add_argument("--kernels", type=int, default=10)
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--seconds", type=float, help="no kill after these; 4 pauses for each")
    options = vars(parser.parse_args())
    if options["seconds"] is None:
        options["seconds"] = 120 + 4 * options["pause"] * options["kills"]
    return Weather(**options)


if __name__ == "__main__":
    sys.exit(main())
