"""Durable leases a second: reserved and settled in the SQL ledger, on the disk each time.

Beside it, in the same run and on the same disk: rows inserted by the database itself with one
durable commit each, as the standard library's `sqlite3` does it, two for a lease's two. Then
heartbeats of many leases, the books in memory, and sums when there are many leases. Takes
some seconds.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Row, median, plain, table, write

from zerokernel.broker.ledger import Beat, Ledger, MemoryLedger
from zerokernel.broker.ledger.sql import SqlLedger

NOW = 1_800_000_000.0


def main() -> int:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        ledger, raw = SqlLedger(Path(folder) / "ledger.sqlite"), database(Path(folder) / "raw")
        leased, inserted = interleaved(
            [lambda name: lease(ledger, name), lambda name: insert_twice(raw, name)],
            options.leases,
        )
        for number in range(options.running):
            ledger.reserve("bob", f"running{number}", 60_000, NOW)
        beat = timed(lambda: heartbeats(ledger, options.running), options.leases)
        memory = MemoryLedger()
        kept, _ = interleaved([lambda name: lease(memory, name), lambda name: None], options.leases)
        sums = timed(lambda: ledger.usage("ada"), options.leases)
        ledger.close()
        raw.close()
    rows = [
        Row("a lease reserved and settled, durably", leased, "two durable inserts", inserted),
        Row(f"a heartbeat of {options.running} leases", beat, "two durable inserts", inserted),
        Row("a lease reserved and settled in memory", kept),
        Row(f"a user's sums, of {options.leases} leases", sums),
    ]
    print(table(rows))
    print(
        f"\n{1 / leased:.0f} durable leases a second, {2 / inserted:.0f} durable inserts a second"
    )
    content = {"slices": ["no slice"], "repetitions": vars(options), "rows": plain(rows)}
    print(f"wrote {write('ledger', 'cpu', content).name}")
    return 0


def lease(ledger: Ledger, name: str) -> None:
    ledger.reserve("ada", name, 60_000, NOW)
    ledger.settle("ada", name, 1_234, 2_345)


def insert_twice(raw: sqlite3.Connection, name: str) -> None:
    for amount in (60_000, 1_234):
        raw.execute("INSERT INTO rows (name, amount) VALUES (?, ?)", (name, amount))


def database(path: Path) -> sqlite3.Connection:
    """A database of the same guarantees, whose every statement is a durable commit."""
    raw = sqlite3.connect(path, isolation_level=None)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        raw.execute(f"PRAGMA {pragma}")
    raw.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, name TEXT, amount INTEGER)")
    return raw


def heartbeats(ledger: Ledger, running: int) -> None:
    ledger.heartbeat({f"running{number}": Beat(1_000, 2_000) for number in range(running)})


def interleaved(works: list[Callable[[str], None]], count: int) -> list[float]:
    """Median seconds of each, one after the other, so that all meet the same disk."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(count):
        for place, work in enumerate(works):
            started = time.perf_counter()
            work(f"lease{number}")
            times[place].append(time.perf_counter() - started)
    return [median(some) for some in times]


def timed(work: Callable[[], object], count: int) -> float:
    return interleaved([lambda name: work() and None], count)[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leases", type=int, default=1000)
    parser.add_argument("--running", type=int, default=8)
    parser.add_argument("--directory", help="on the disk to be measured", default=None)
    return parser


if __name__ == "__main__":
    sys.exit(main())
