"""Compares what the notebooks said, what the witnesses saw, and what the books say.

Text and numbers in, faults out, so that it is tested without a storm.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.killer import Kill
from tests.chaos.population import Kind
from tests.chaos.seat import Answer
from zerokernel.lifecycle import RULES

DOCUMENTED = {"BrokerLost", "BrokerUnavailable", "WorkerKilled", "WorkerLost", "WorkerStartFailed"}
"""What a cell may end with when a process is killed under it; nothing else was done to it."""

_ROUNDING = 0.002
_BEAT = 1.1
"""Seconds for which a lost lease may be charged beyond what was seen: a heartbeat and a bit."""
_AFTERMATH = 5.0
"""So long after its answer a cell's charge may still depend on broker and supervisor."""


@dataclass(frozen=True)
class Entry:
    """A lease in the books; amounts in milliseconds."""

    lease: str
    charged: int
    open: bool
    cause: str
    refunded: bool
    reserved: int = 0


@dataclass(frozen=True)
class Sight:
    """What the witness saw of a cell under one lease, in monotonic seconds."""

    cell: int
    lease: str
    slice: str
    begin: float
    last: float
    ended: bool


def read_books(file: Path) -> list[Entry]:
    """Gives all leases in a ledger that no broker holds open."""
    query = "SELECT lease, charged, is_open, cause, refunded, reserved FROM leases"
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return [
            Entry(lease, charged, bool(is_open), cause, bool(refunded), reserved)
            for lease, charged, is_open, cause, refunded, reserved in connection.execute(query)
        ]
    finally:
        connection.close()


def sights(lines: Iterable[dict[str, Any]]) -> list[Sight]:
    """Sums up a witness's log: one sight for each begin."""
    found: dict[tuple[int, str, int], list[Sight]] = defaultdict(list)
    for line in lines:
        key, at = (line["cell"], line["lease"], line["process"]), line["at"]
        if line["event"] == "begin":
            found[key].append(Sight(line["cell"], line["lease"], line["slice"], at, at, False))
        else:
            one = found[key].pop()
            ended = line["event"] == "end"
            found[key].append(Sight(one.cell, one.lease, one.slice, one.begin, at, ended))
    return [one for each in found.values() for one in each]


def longest_stall(lines: Iterable[dict[str, Any]]) -> float:
    """Seconds for which the machine let a running cell wait: nobody is more exact than that."""
    last: dict[str, float] = {}
    worst = 0.0
    for line in lines:
        if line["event"] != "begin":
            worst = max(worst, line["at"] - last[line["lease"]])
        last[line["lease"]] = line["at"]
    return worst


def examine(
    answers: Sequence[Answer],
    lines: Sequence[dict[str, Any]],
    violations: Sequence[dict[str, Any]],
    books: Sequence[Entry],
    kills: Sequence[Kill],
) -> list[str]:
    """Gives everything that should not be, in words."""
    seen = sights(lines)
    return [
        *(f"two workers on one slice: {one}" for one in violations),
        *_overlaps(seen),
        *_of_answers(answers, seen),
        *_of_books(books, seen),
        *_of_charges(answers, seen, {one.lease: one for one in books}, kills, longest_stall(lines)),
    ]


def _overlaps(seen: Sequence[Sight]) -> Iterator[str]:
    by_slice: dict[str, list[Sight]] = defaultdict(list)
    for one in seen:
        by_slice[one.slice].append(one)
    for each in by_slice.values():
        each.sort(key=lambda one: one.begin)
        for before, after in pairwise(each):
            if after.begin < before.last:
                yield f"two cells at once on {after.slice}: {before} and {after}"


def _of_answers(answers: Sequence[Answer], seen: Sequence[Sight]) -> Iterator[str]:
    begun, ended = Counter(s.cell for s in seen), Counter(s.cell for s in seen if s.ended)
    for one in answers:
        yield from (f"cell {one.cell}: {fault}" for fault in one.faults)
        if begun[one.cell] > 1:
            yield f"cell {one.cell} began {begun[one.cell]} times"
        if one.fate == "hung":
            yield f"cell {one.cell} hung: {one.error}"
        if one.fate == "ok" and ended[one.cell] != 1:
            yield f"cell {one.cell} ended well, its end was seen {ended[one.cell]} times"
        if one.fate == "error" and one.error.partition(":")[0] not in DOCUMENTED:
            yield f"cell {one.cell} failed with {one.error}"


def _of_books(books: Sequence[Entry], seen: Sequence[Sight]) -> Iterator[str]:
    for lease, times in Counter(one.lease for one in books).items():
        if times > 1:
            yield f"the lease {lease} is in the books {times} times"
    for lease, times in Counter(one.lease for one in seen).items():
        if times > 1:
            yield f"under the lease {lease} {times} cells ran"
    known, witnessed = {one.lease for one in books}, {one.lease for one in seen}
    yield from (f"the lease {one} is not in the books" for one in witnessed - known)
    for one in books:
        if one.open or one.reserved:
            yield f"{one} is still open"
        if one.charged < 0:
            yield f"{one} is charged less than nothing"
        free = one.refunded or (one.cause in RULES and not RULES[one.cause].charged)  # type: ignore[index]  # a StrEnum's value is its key
        if free and one.charged:
            yield f"{one} is charged what should have been refunded"
        if one.lease not in witnessed and one.charged > 1000 * _BEAT:
            yield f"{one} is charged for a cell that nobody saw"


def _of_charges(
    answers: Sequence[Answer],
    seen: Sequence[Sight],
    books: dict[str, Entry],
    kills: Sequence[Kill],
    stall: float,
) -> Iterator[str]:
    by_cell = {one.cell: one for one in answers}
    for one in seen:
        entry, answer = books.get(one.lease), by_cell.get(one.cell)
        if entry is None or answer is None:
            continue
        charged, saw = entry.charged / 1000, one.last - one.begin
        exact = entry.cause == "finished" or not _was_shaken(one, answer, kills)
        if answer.fate == "ok" and answer.ran is not None and exact:
            if abs(charged - answer.ran) > _ROUNDING:
                yield f"{entry} is charged other than its receipt's {answer.ran:.4f} s"
        elif charged > saw + _BEAT + stall:
            yield f"{entry} is charged more than the {saw:.3f} s that were seen"


def _was_shaken(one: Sight, answer: Answer, kills: Sequence[Kill]) -> bool:
    """Whether those who keep count were killed while it could matter to this cell."""
    return any(
        kill.kind in (Kind.BROKER, Kind.SUPERVISOR)
        and one.begin <= kill.at <= answer.answered_at + _AFTERMATH
        for kill in kills
    )
