"""Durable leases a second: reserved and settled in the SQL ledger, on the disk each time.

Beside it, in the same run and on the same disk: rows inserted by the database itself with one
durable commit each, as the standard library's `sqlite3` does it, two for a lease's two. Then
heartbeats of many leases, the books in memory, and sums when there are many leases.

Where PostgreSQL is installed, the same on a server of this script's own on the same disk: one
client, then eight at once on one ledger, beside eight connections that insert for themselves, and
the recovery of 10,000 leases that were left open. Takes some seconds.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
from report import Row, median, plain, table, write

from zerokernel.broker.ledger import Beat, Ledger, MemoryLedger
from zerokernel.broker.ledger.books import Pages, reserved
from zerokernel.broker.ledger.port import DAY
from zerokernel.broker.ledger.sql import SqlLedger

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.postgres import Postgres, find_binaries

NOW = 1_800_000_000.0
CLIENTS = 8
LEFT_OPEN = 10_000


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
        recovered = recovery(str(Path(folder) / "left.sqlite"))
        on_server = postgresql(folder, options.leases)
    rows = [
        Row("a lease reserved and settled, durably", leased, "two durable inserts", inserted),
        Row(f"a heartbeat of {options.running} leases", beat, "two durable inserts", inserted),
        Row("a lease reserved and settled in memory", kept),
        Row(f"a user's sums, of {options.leases} leases", sums),
        Row(f"recovery of {LEFT_OPEN} leases", recovered, target_seconds=1.0),
        *on_server,
    ]
    print(table(rows))
    for row in on_server[1:2]:
        print(f"\n{1 / row.seconds:.0f} durable leases a second on PostgreSQL, {CLIENTS} clients")
    print(
        f"\n{1 / leased:.0f} durable leases a second, {2 / inserted:.0f} durable inserts a second"
    )
    content = {"slices": ["no slice"], "repetitions": vars(options), "rows": plain(rows)}
    print(f"wrote {write('ledger', 'cpu', content).name}")
    return 0


def postgresql(folder: str, leases: int) -> list[Row]:
    """The same on a server, whose files lie in a folder; no rows where none is installed."""
    if (binaries := find_binaries()) is None:
        print("no PostgreSQL server here: apt-get install postgresql")
        return []
    with served(binaries, folder) as server:
        ledger, raw = SqlLedger(server.new_schema()), [rows_at(server) for _ in range(CLIENTS)]
        leased, inserted = interleaved(
            [lambda name: lease(ledger, name), lambda name: insert_at(raw[0], name)], leases
        )
        one = [lambda name: lease(ledger, name)] * CLIENTS
        many_leased = together(one, leases)
        many_inserted = together([partial(insert_at, each) for each in raw], leases)
        ledger.close()
        for each in raw:
            each.close()
        recovered = recovery(server.new_schema())
    beside = "two durable inserts"
    return [
        Row("PostgreSQL: a lease, durably", leased, beside, inserted),
        Row(f"PostgreSQL: a lease, {CLIENTS} clients", many_leased, beside, many_inserted, 1e-3),
        Row(f"PostgreSQL: recovery of {LEFT_OPEN} leases", recovered, target_seconds=1.0),
    ]


@contextmanager
def served(binaries: Path, folder: str) -> Iterator[Postgres]:
    os.chmod(folder, 0o711)  # so that the server's user gets to its own part of it
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        server = Postgres(binaries)
    finally:
        tempfile.tempdir = before
    try:
        yield server
    finally:
        server.close()


def rows_at(server: Postgres) -> psycopg.Connection:
    """A connection of its own whose every statement is a durable commit, prepared once."""
    raw = psycopg.connect(server.url(), autocommit=True, prepare_threshold=0)
    raw.execute("CREATE SCHEMA IF NOT EXISTS raw")
    raw.execute(
        "CREATE TABLE IF NOT EXISTS raw.rows (number BIGSERIAL PRIMARY KEY, name TEXT, amount INT8)"
    )
    return raw


def insert_at(raw: psycopg.Connection, name: str) -> None:
    for amount in (60_000, 1_234):
        raw.execute("INSERT INTO raw.rows (name, amount) VALUES (%s, %s)", (name, amount))


def together(clients: list[Callable[[str], None]], count: int) -> float:
    """Seconds for each piece of work, where as many clients as there are do them at once."""

    def work(number: int, client: Callable[[str], None]) -> None:
        for piece in range(count // len(clients)):
            client(f"client{number}-{piece}")

    started = time.perf_counter()
    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(work, range(len(clients)), clients))
    return (time.perf_counter() - started) / (count // len(clients) * len(clients))


def recovery(where: str) -> float:
    """Seconds for settling what an earlier broker left open: many users' leases."""
    ledger = SqlLedger(where)
    users = [f"user{number % 50}" for number in range(LEFT_OPEN)]
    ledger._shelf.write(lambda pages: left_open(pages, users))
    started = time.perf_counter()
    assert len(ledger.recover()) == LEFT_OPEN
    took = time.perf_counter() - started
    ledger.close()
    return took


def left_open(pages: Pages, users: list[str]) -> None:
    for user in sorted(set(users)):
        account, records = pages.account(user), []
        for number in range(users.count(user)):
            account, record = reserved(account, f"{user}-{number}", 60_000, NOW, DAY)
            records.append(record)
        pages.save(account, records)


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
