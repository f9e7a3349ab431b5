"""What is said where output was cut, and at the end of a cell some of whose output was."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from zerokernel.worker.held import Held, Shown

MARK_SECONDS = 1.0
"""A cell that goes on showing what nobody sees says so this often."""

_KEPT_DISPLAYS = 100
_LAST_LINE = 200


@dataclass(frozen=True)
class OutputLimits:
    """What a cell may show; see the settings of the same names. Sizes are bytes."""

    output_bytes: int = 16 << 20
    output_messages: int = 10_000
    output_display_bytes: int = 256 << 20

    @property
    def head(self) -> int:
        """Bytes of text that are shown as they come."""
        return self.output_bytes - 2 * self.tail

    @property
    def tail(self) -> int:
        """Bytes of text that are shown at the end, and as much in front of displays."""
        return self.output_bytes // 8

    @property
    def last_displays(self) -> int:
        """Displays beyond the first that are shown at the end."""
        return min(_KEPT_DISPLAYS, self.output_messages // 8)

    @property
    def last_display_bytes(self) -> int:
        """Bytes of data that these may have together."""
        return self.output_display_bytes // 8

    def held(self) -> Held:
        """An empty store of what is shown at the end."""
        return Held(self.tail, self.last_displays, self.last_display_bytes)


@dataclass
class Tally:
    """What the cell has shown since it began or last cleared its output."""

    printed: int = 0
    live_text: int = 0
    between: int = 0
    cut_text: int = 0
    text_closed: bool = False  # the rest of the text is held
    displayed: int = 0
    live_displays: int = 0
    live_display_bytes: int = 0
    cut_displays: int = 0
    displays_closed: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether anything is not shown."""
        return bool(self.cut_text or self.cut_displays)

    def summary(self, limits: OutputLimits) -> Shown:
        """Says what the cell made, what of it is shown, and which setting shows more."""
        lines = []
        if self.cut_text:
            last = self.printed - self.live_text - self.between - self.cut_text
            parts = [f"the first {size_text(self.live_text)}"]
            parts += [f"{size_text(self.between)} before displays"] if self.between else []
            parts += [f"the last {size_text(last)}"] if last else []
            lines.append(
                f"printed {size_text(self.printed)}; shown are {_listed(parts)} "
                f"(setting output_bytes: {limits.output_bytes})"
            )
        if self.cut_displays:
            last = self.displayed - self.live_displays - self.cut_displays
            parts = [f"the first {self.live_displays:,}"]
            parts += [f"the last {last:,}"] if last else []
            lines.append(
                f"made {self.displayed:,} displays; shown are {_listed(parts)} "
                f"(settings output_messages: {limits.output_messages}, "
                f"output_display_bytes: {limits.output_display_bytes})"
            )
        return note("\n".join(lines), self._figures(), f"zerokernel-{uuid.uuid4().hex}")

    def _figures(self) -> dict[str, Any]:
        return {
            "phase": "cut",
            "printed_bytes": self.printed,
            "cut_bytes": self.cut_text,
            "displays": self.displayed,
            "cut_displays": self.cut_displays,
        }


class Gap:
    """One place in a cell's output at which something is missing, or held for now."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._id = f"zerokernel-{uuid.uuid4().hex}"
        self._marked_at: float | None = None
        self._text = self._displays = 0

    def count(self, text: int, displays: int, now: float) -> list[Shown]:
        """Counts what was cut, in bytes and displays; the first time, the place is marked."""
        self._text += text
        self._displays += displays
        return [self._mark(now, "")] if self._cut and self._marked_at is None else []

    def tick(self, now: float, last_text: str) -> list[Shown]:
        """Says that the cell goes on, with the last line that it printed."""
        since = self._since if self._marked_at is None else self._marked_at
        return [self._mark(now, last_text)] if now - since >= MARK_SECONDS else []

    def end(self, now: float) -> list[Shown]:
        """What the place says when the cell is over, or goes on being shown."""
        return [] if self._marked_at is None else [self._mark(now, "")]

    @property
    def _cut(self) -> bool:
        return bool(self._text or self._displays)

    def _mark(self, now: float, last_text: str) -> Shown:
        update, self._marked_at = self._marked_at is not None, now
        parts = [size_text(self._text)] if self._text else []
        parts += [f"{self._displays:,} displays"] if self._displays else []
        missing = " and ".join(parts)
        text = f"… {missing} not shown …" if parts else "… held until the cell's end …"
        if line := _last_line(last_text):
            text += f"\n{line}"
        figures = {"phase": "gap", "cut_bytes": self._text, "cut_displays": self._displays}
        return note(text, figures, self._id, update=update)


def note(text: str, figures: dict[str, Any], display_id: str, *, update: bool = False) -> Shown:
    """Makes a display of zerokernel's own; its metadata tells it from the cell's."""
    content = {
        "data": {"text/plain": text},
        "metadata": {"zerokernel": figures},
        "transient": {"display_id": display_id},
    }
    kind = "update_display_data" if update else "display_data"
    return Shown(kind, content, {}, (), len(text))


def size_text(size: int) -> str:
    """Bytes as a person reads them: three digits, decimal units."""
    value, units = float(size), ("bytes", "kB", "MB", "GB", "TB", "PB")
    step = 0
    while value >= 999.5 and step < len(units) - 1:
        value /= 1000
        step += 1
    digits = 0 if step == 0 or value >= 99.95 else 1
    return f"{value:.{digits}f} {units[step]}"


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _last_line(text: str) -> str:
    lines = text[-4 * _LAST_LINE :].replace("\r", "\n").split("\n")
    return next((line[-_LAST_LINE:] for line in reversed(lines) if line.strip()), "")
