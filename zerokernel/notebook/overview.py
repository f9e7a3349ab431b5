"""What `%gpu` shows: the machine's slices, the queue, and this notebook's worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerokernel.notebook.markup import table_html
from zerokernel.notebook.receipt import SEPARATOR, seconds

_HEAD = ("slice", "size", "state", "notebook", "left")


@dataclass(frozen=True)
class Overview:
    """What is known now.

    Attributes:
        session: This notebook's session id, "" before it has one.
        broker: The broker's status as it sends it: slices, queue, sessions and the like.
    """

    session: str = ""
    broker: Mapping[str, Any] = field(default_factory=dict)

    def title(self) -> str:
        """Gives the line about the broker."""
        parts = ["zerokernel"]
        if version := self.broker.get("version"):
            parts.append(f"broker {version}")
        if pid := self.broker.get("pid"):
            parts.append(f"process {pid}")
        if (uptime := self.broker.get("uptime")) is not None:
            parts.append(f"up {seconds(uptime)}")
        return SEPARATOR.join(parts)

    def rows(self) -> list[tuple[str, ...]]:
        """Gives one row of texts a slice: name, size, state, notebook, time left."""
        return [self._row(one) for one in self.broker.get("slices", ())]

    def _row(self, one: Mapping[str, Any]) -> tuple[str, ...]:
        state, left = str(one.get("state", "")), one.get("remaining")
        if reason := one.get("reason"):
            state += f" ({reason})"
        return (
            str(one.get("display") or one.get("name", "")),
            str(one.get("size", "")),
            state,
            self._name(one),
            "" if left is None else seconds(max(0.0, left)),
        )

    def _name(self, holder: Mapping[str, Any]) -> str:
        if self.session and holder.get("session") == self.session:
            return "this notebook"
        return str(holder.get("session_name") or "")

    def remarks(self) -> list[str]:
        """Gives the lines below the table: the queue, and this notebook's worker."""
        queue = [self._waiting(one) for one in self.broker.get("queue", ())]
        quota = quota_line(self.broker)
        lines = [*(queue or ["nobody waits"]), self._worker(), *([quota] if quota else [])]
        return lines if self.broker else []

    def _waiting(self, one: Mapping[str, Any]) -> str:
        who = self._name(one) or "another notebook"
        parts = [f"place {one.get('place')}: {who}", f"asks for {seconds(one['duration'])}"]
        if (start := one.get("starts_in")) is not None:
            parts.append(f"starts in about {seconds(max(0.0, start))}")
        return SEPARATOR.join(parts)

    def _worker(self) -> str:
        mine = (s for s in self.broker.get("sessions", ()) if s.get("session") == self.session)
        worker = (next(mine, None) or {}).get("worker")
        if not worker:
            return "this notebook has no worker; its next GPU cell starts one"
        text = f"this notebook's worker: process {worker.get('process')}, {worker.get('state')}"
        if (parked := worker.get("parked_for")) is not None:
            text += f" for {seconds(parked)}"
        return text

    def data(self) -> dict[str, str]:
        """Gives the display's representations by MIME type."""
        rows = self.rows()
        html = table_html(self.title(), _HEAD if rows else (), rows, self.remarks())
        table = aligned([_HEAD, *rows]) if rows else []
        return {
            "text/html": html,
            "text/plain": "\n".join((self.title(), *table, *self.remarks())),
        }

    def metadata(self) -> dict[str, Any]:
        """Gives the output's metadata, with all that is known for programs."""
        figures = {"session": self.session, "broker": dict(self.broker)}
        return {"zerokernel": {"phase": "overview", **figures}}


def quota_line(broker: Mapping[str, Any]) -> str:
    """Says what this person may still use by the broker's status, "" where nothing limits it."""
    known = broker.get("allowance") or {}
    if known.get("quota") is None:
        return ""
    text = f"your quota: {seconds(known['left'])} of {seconds(known['quota'])} left"
    resets = known.get("resets_in")
    return text if resets is None else f"{text}, all of it again in {seconds(resets)}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Gives a table's lines, its columns one under the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
