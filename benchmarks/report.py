"""What every benchmark prints and writes: rows beside a peer and a target, as table and JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_LOAD = os.getloadavg()  # one, five and fifteen minutes, before the benchmark adds to it
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure, in seconds, beside a peer's in the same run.

    Attributes:
        what: What was timed.
        seconds: Our time.
        beside: Name of the peer or of the yardstick, "" where there is none.
        beside_seconds: Its time in this run.
        target_seconds: The most that `seconds` should be.
        target_ratio: The most that `seconds / beside_seconds` should be.
    """

    what: str
    seconds: float
    beside: str = ""
    beside_seconds: float | None = None
    target_seconds: float | None = None
    target_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our time over the peer's; below 1 is faster than the peer."""
        return self.seconds / self.beside_seconds if self.beside_seconds else None

    @property
    def target(self) -> str:
        """The target in words, "" where there is none."""
        if self.target_seconds is not None:
            return f"≤ {duration(self.target_seconds)}"
        return f"≤ {self.target_ratio:g} times" if self.target_ratio is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target_seconds is not None:
            return self.seconds <= self.target_seconds
        if self.target_ratio is not None and self.ratio is not None:
            return self.ratio <= self.target_ratio
        return None


def percentile(values: Sequence[float], fraction: float) -> float:
    """Gives the smallest value that `fraction` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * fraction // 1)  # the ceiling
    return ordered[max(0, int(rank) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def duration(seconds: float) -> str:
    """Gives a time in the unit that suits it, three digits."""
    size = abs(seconds)
    if size >= 1:
        return f"{seconds:.2f} s"
    if size >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"


def table(rows: Sequence[Row]) -> str:
    """Gives the rows as a Markdown table, aligned for a terminal."""
    lines = [["what", "ours", "beside", "its time", "ratio", "target", "met"]]
    for row in rows:
        lines.append(
            [
                row.what,
                duration(row.seconds),
                row.beside,
                duration(row.beside_seconds) if row.beside_seconds is not None else "",
                f"{row.ratio:.2f}" if row.ratio is not None else "",
                row.target,
                {True: "yes", False: "NO", None: ""}[row.met],
            ]
        )
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Gives a Markdown table whose first line is the heading."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def machine() -> dict[str, Any]:
    """Describes the machine without naming it."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # What else ran: a figure taken on a busy machine says less.
        "load_before": round(_LOAD[0], 1),
        "linux": platform.release().partition("-")[0],
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy", "ipykernel", "ipyparallel")},
    }


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Gives the rows as JSON-able data."""
    return [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows]


def write(name: str, kind: str, content: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `<name>-<date>-<kind>.json` and returns its path; `kind` is "cpu" or "gpu"."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{today}-{kind}.json"
    document = {"benchmark": name, "date": today, "machine": machine(), **content}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
