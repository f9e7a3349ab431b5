"""Workloads as CSV: one line a cell.

The columns are `arrival_s, user, group, tier, size, limit_s, run_s` and, if there is one,
`notebook`. Cells of one notebook run one after the other: what lies between the end of one
and the arrival of the next is the time that its user thought. Without `notebook`, what a user
asks for of one size is one notebook's.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TextIO

from zerokernel.broker.scheduling import Account
from zerokernel.errors import BadTrace
from zerokernel.simulation.workload import Cell, Notebook, Workload

COLUMNS = ("arrival_s", "user", "group", "tier", "size", "limit_s", "run_s")
NOTEBOOK = "notebook"
SAMPLE = "sample.csv"

_LATEST = 366 * 86_400.0
_LONGEST_NAME = 200


@dataclass(frozen=True)
class _Row:
    line: int
    arrival: float
    account: Account
    size: str
    limit: float
    run: float
    notebook: str


def read_trace(
    path: Path, tiers: Collection[str], longest: float, sizes: Collection[str] = ()
) -> Workload:
    """Reads a trace.

    Args:
        path: The file, in UTF-8.
        tiers: Those that there are; "" is always allowed.
        longest: The longest limit that may be asked for, in seconds.
        sizes: Those that there are; any where none is given.

    Raises BadTrace, which names the line and the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(file, str(path), tiers, longest, sizes))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadTrace(f"The trace {str(path)!r} cannot be read: {error}") from error
    if not rows:
        raise BadTrace(f"The trace {str(path)!r} has no line below its heading.")
    return _workload(rows, path)


def sample_path() -> Path:
    """Gives where the trace is that is shipped with zerokernel."""
    return Path(str(files("zerokernel.simulation").joinpath(SAMPLE)))


def write_trace(workload: Workload, file: TextIO) -> None:
    """Writes a workload, as if nobody had waited. What a notebook lingers is not written."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*COLUMNS, NOTEBOOK))
    for arrival, notebook, cell in sorted(_arrivals(workload), key=lambda one: one[0]):
        account = notebook.account
        names = (account.user, account.group, account.tier, notebook.size)
        times = (f"{cell.limit:g}", f"{cell.run:.1f}")
        writer.writerow((f"{arrival:.1f}", *names, *times, notebook.name))


def _arrivals(workload: Workload) -> Iterator[tuple[float, Notebook, Cell]]:
    for notebook in workload.notebooks:
        at = notebook.opens
        for cell in notebook.cells:
            at += cell.think
            yield at, notebook, cell
            at += cell.run


# --- reading ------------------------------------------------------------------------------


def _rows(
    file: TextIO, name: str, tiers: Collection[str], longest: float, sizes: Collection[str]
) -> Iterator[_Row]:
    reader = csv.DictReader(file, strict=True)
    heading = [one.strip() for one in reader.fieldnames or ()]
    if missing := [one for one in COLUMNS if one not in heading]:
        raise BadTrace(f"{name}, line 1: the heading lacks {', '.join(missing)}.")
    if unknown := [one for one in heading if one not in (*COLUMNS, NOTEBOOK)]:
        known = ", ".join((*COLUMNS, NOTEBOOK))
        raise BadTrace(f"{name}, line 1: unknown column {unknown[0]!r}. There are {known}.")
    reader.fieldnames = heading
    for values in reader:
        if None in values or None in values.values():
            raise BadTrace(f"{name}, line {reader.line_num}: not {len(heading)} columns.")
        fields = _Fields(name, reader.line_num, values)
        yield _Row(
            reader.line_num,
            fields.number("arrival_s", 0.0, _LATEST),
            Account(fields.name("user"), fields.text("group"), fields.one_of("tier", tiers)),
            fields.one_of("size", sizes) if sizes else fields.name("size"),
            fields.number("limit_s", 0.0, longest, above=True),
            fields.number("run_s", 0.0, _LATEST),
            fields.text(NOTEBOOK),
        )


class _Fields:
    """One line's fields; what is wrong with one is said with line and column."""

    def __init__(self, name: str, line: int, values: Mapping[str, str]) -> None:
        self._where = f"{name}, line {line}"
        self._values = values

    def text(self, column: str) -> str:
        value = self._values.get(column, "").strip()
        if len(value) > _LONGEST_NAME:
            raise self._bad(column, f"longer than {_LONGEST_NAME} characters")
        return value

    def name(self, column: str) -> str:
        value = self.text(column)
        if not value:
            raise self._bad(column, "empty")
        return value

    def one_of(self, column: str, known: Collection[str]) -> str:
        value = self.text(column)
        if value and value not in known:
            raise self._bad(column, f"{value!r} is unknown; there are {', '.join(known)}")
        return value if column == "tier" else self.name(column)

    def number(self, column: str, least: float, most: float, above: bool = False) -> float:
        value = self.text(column)
        try:
            number = float(value)
        except ValueError:
            raise self._bad(column, f"{value!r} is no number") from None
        if not (math.isfinite(number) and least <= number <= most) or (above and number == least):
            range = f"more than {least:g}" if above else f"{least:g}"
            raise self._bad(column, f"{value} is not from {range} to {most:g} seconds")
        return number

    def _bad(self, column: str, what: str) -> BadTrace:
        return BadTrace(f"{self._where}, {column}: {what}.")


def _workload(rows: Iterable[_Row], path: Path) -> Workload:
    notebooks: dict[str, list[_Row]] = {}
    for row in sorted(rows, key=lambda one: one.arrival):
        name = row.notebook or f"{row.account.user} ({row.size})"
        cells = notebooks.setdefault(name, [])
        if cells:
            _check_same(cells[0], row, path)
        cells.append(row)
    last = max(cells[-1].arrival for cells in notebooks.values())
    made = tuple(_notebook(name, cells) for name, cells in notebooks.items())
    # To the end of the hour in which the last cell came.
    seconds = math.ceil(max(last, 1.0) / 3600) * 3600.0
    return Workload(made, seconds, f"trace {path.name}")


def _check_same(first: _Row, row: _Row, path: Path) -> None:
    mine = (*_named(first.account), ("size", first.size))
    for (column, before), (_, now) in zip(
        mine, (*_named(row.account), ("size", row.size)), strict=True
    ):
        if before != now:
            raise BadTrace(
                f"{path}, line {row.line}, {column}: {now!r}, but {before!r} on line "
                f"{first.line} for the same notebook."
            )


def _named(account: Account) -> tuple[tuple[str, str], ...]:
    return ("user", account.user), ("group", account.group), ("tier", account.tier)


def _notebook(name: str, rows: list[_Row]) -> Notebook:
    cells, free = [], rows[0].arrival
    for row in rows:
        # One that came while the cell before it ran was written before that had ended.
        cells.append(Cell(max(0.0, row.arrival - free), row.limit, row.run))
        free = max(free, row.arrival) + row.run
    return Notebook(name, rows[0].account, rows[0].size, rows[0].arrival, tuple(cells))
