"""What a cell cost and what became of it, in one line and for programs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEPARATOR = " · "


@dataclass(frozen=True)
class Receipt:
    """What one `%%gpu` cell used.

    Attributes:
        slice: What people call the slice, such as "half H200".
        ran: Seconds from the cell's first line to its last: what is charged.
        waited: Seconds in the queue.
        sent_bytes: What travelled to the worker.
        returned_bytes: What came back.
        total: Seconds that the cell took for the person who waits; 0 where not known.
        worker_only: What stayed in the worker: its name or path → why, and what to do.
        notes: What the user should know beside, one sentence each.
        conflicts: Those of them that say what the notebook changed while the cell ran.
    """

    slice: str
    ran: float
    waited: float = 0.0
    sent_bytes: int = 0
    returned_bytes: int = 0
    total: float = 0.0
    worker_only: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()

    def line(self) -> str:
        """Gives the one line; figures that are next to nothing are left out."""
        parts = [f"ran {seconds(self.ran)} on {self.slice}"]
        if self.waited >= 0.05:
            parts.append(f"waited {seconds(self.waited)}")
        if self.sent_bytes:
            parts.append(f"sent {size(self.sent_bytes)}")
        if self.returned_bytes:
            parts.append(f"returned {size(self.returned_bytes)}")
        if self.worker_only:
            parts.append(f"worker-only: {', '.join(self.worker_only)}")
        return SEPARATOR.join(parts)

    def details(self) -> tuple[str, ...]:
        """Gives what stands under the line: what stayed in the worker and why, and notes."""
        stayed = (f"{name} stayed in the worker: {why}" for name, why in self.worker_only.items())
        return (*stayed, *self.notes)

    def figures(self) -> dict[str, Any]:
        """Gives all fields as JSON-able data."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {"notes": list(self.notes), "conflicts": list(self.conflicts)}
        return values | {"worker_only": dict(self.worker_only), **lists}


def seconds(value: float) -> str:
    """Says a time as people do: "3 ms", "12.4 s", "2 min 5 s", "1 h 30 min".

    Raises:
        ValueError: The value is negative or not finite.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{value} is no length of time.")
    if (thousandths := round(value * 1000)) < 1000:
        return f"{thousandths} ms"
    if (tenths := round(value * 10)) < 600:
        return f"{_decimal(tenths)} s"
    if (whole := round(value)) < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    minutes = round(value / 60)
    return _two(minutes // 60, "h", minutes % 60, "min")


def _two(high: int, high_unit: str, low: int, low_unit: str) -> str:
    return f"{high} {high_unit} {low} {low_unit}" if low else f"{high} {high_unit}"


def _decimal(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}" if tenths % 10 else str(tenths // 10)


_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(count: int) -> str:
    """Says a number of bytes with decimal units, as devices are sold: "1.2 GB".

    Raises:
        ValueError: The count is negative.
    """
    if count < 0:
        raise ValueError(f"{count} is no number of bytes.")
    if count < 1000:
        return f"{count} B"
    scaled = float(count)
    for unit in _UNITS:
        scaled /= 1000
        if (tenths := round(scaled * 10)) < 100:
            return f"{_decimal(tenths)} {unit}"
        if round(scaled) < 1000 or unit == _UNITS[-1]:
            return f"{round(scaled)} {unit}"
    raise AssertionError("unreachable: the last unit takes all")
