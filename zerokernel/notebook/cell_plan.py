"""`%%gpu --plan`: what the cell would bring along, need and wait for. Nothing is run or leased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerokernel.crossing.forecast import Forecast, Passage
from zerokernel.notebook.markup import table_html
from zerokernel.notebook.overview import aligned, quota_line
from zerokernel.notebook.receipt import SEPARATOR, seconds, size

_HEAD = ("name", "type", "size", "goes over", "")

_KNOWN_BYTES = 64
"""What says of a name that the worker has its object."""


@dataclass(frozen=True)
class CellPlan:
    """What is known of a cell before it runs.

    Attributes:
        forecast: What would go over.
        wanted: The size that the cell asks for, as its option says; "" for the default.
        limit: Seconds that it may run.
        session: This notebook's session id.
        broker: The broker's status.
        memory: Bytes that the slice must have.
        capability: Compute capability that it must have, () for any.
    """

    forecast: Forecast
    wanted: str
    limit: float
    session: str = ""
    broker: Mapping[str, Any] = field(default_factory=dict)
    memory: int = 0
    capability: tuple[int, ...] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """Gives one row of texts a name."""
        return [_row(one) for one in self.forecast.passages]

    def remarks(self) -> list[str]:
        """Gives the lines below the table."""
        found = self.forecast
        total = f"{size(found.travels)} of {size(found.size)} would go over"
        if found.changes > _KNOWN_BYTES:
            total += f", {size(found.changes)} of that for what changed in what is there"
        limit = f"limit {seconds(self.limit)}"
        return [
            total,
            *(one.blocked for one in found.passages if one.blocked),
            *self._memory(),
            SEPARATOR.join((limit, self._start())),
            *self._quota(),
        ]

    def _quota(self) -> list[str]:
        """What is left of the quota, and what becomes of a limit that is more."""
        line = quota_line(self.broker)
        left = (self.broker.get("allowance") or {}).get("left")
        if line and left is not None and left < self.limit:
            line += "; the limit shrinks to it, or the cell waits behind those within theirs"
        return [line] if line else []

    def _slices(self) -> list[Mapping[str, Any]]:
        slices = list(self.broker.get("slices", ()))
        name = self._size()
        return [one for one in slices if one["size"] == name and one["state"] != "set aside"]

    def _size(self) -> str:
        """The smallest size that has what the cell asks for, "" where none has."""
        if not self.memory and not self.capability:
            return self.wanted or next(iter(self.broker.get("sizes", ())), "")
        for one in sorted(self.broker.get("slices", ()), key=lambda one: one["memory"]):
            fits = self.memory <= one["memory"] and self.capability <= tuple(one["capability"])
            if fits and self.wanted in ("", one["size"]):
                return str(one["size"])
        return ""

    def _memory(self) -> list[str]:
        """Whether the size that is asked for has room; another is proposed, never taken."""
        need = self.forecast.size
        room = min((one["memory"] for one in self._slices()), default=None)
        if room is None or need <= room:
            return []
        text = f"{size(need)} are more than a slice of this size has ({size(room)})"
        larger = [s for s in self.broker.get("slices", ()) if s["memory"] >= need]
        if not larger:
            return [f"{text}, and no size here has as much: use less in the cell"]
        best = min(larger, key=lambda one: one["memory"])
        return [f"{text}: ask for --size {best['size']} ({size(best['memory'])})"]

    def _start(self) -> str:
        slices = self._slices()
        names = {one["size"] for one in slices}
        ahead = [one for one in self.broker.get("queue", ()) if one["size"] in names]
        if not slices:
            return "no slice of this size is in service"
        if not ahead and any(self._is_open(one) for one in slices):
            return "it would start at once"
        waits = [one["remaining"] for one in slices if one.get("remaining") is not None]
        queue = f"{len(ahead)} request{'s' if len(ahead) != 1 else ''} ahead"
        if not waits:
            return queue
        return f"{queue}; the next slice is free in {seconds(max(0.0, min(waits)))} at the latest"

    def _is_open(self, one: Mapping[str, Any]) -> bool:
        """Free or nearly, or with a parked worker, which is ours or gives way."""
        return one["state"] in ("free", "cleaning", "parked")

    def data(self) -> dict[str, str]:
        """Gives the display's representations by MIME type."""
        title, rows = "zerokernel · plan of this cell; nothing was run", self.rows()
        head: Sequence[str] = _HEAD if rows else ()
        table = aligned([_HEAD, *rows]) if rows else ["it uses nothing of the notebook"]
        return {
            "text/html": table_html(title, head, rows, self.remarks()),
            "text/plain": "\n".join((title, *table, *self.remarks())),
        }

    def metadata(self) -> dict[str, Any]:
        """Gives the output's metadata, for programs. Sizes in bytes, times in seconds."""
        found = self.forecast
        figures = {
            "names": [vars(one) for one in found.passages],
            "changes": found.changes,
            "travels": found.travels,
            "size": found.size,
            "limit": self.limit,
            "start": self._start(),
            "allowance": dict(self.broker.get("allowance") or {}),
        }
        return {"zerokernel": {"phase": "plan", **figures}}


def _row(one: Passage) -> tuple[str, ...]:
    if one.blocked:
        return (one.name, one.kind, "", "", "cannot travel")
    known = one.travels <= _KNOWN_BYTES < one.size
    going = "" if known else size(one.travels)
    return (one.name, one.kind, size(one.size), going, "is there" if known else "")
