"""The newest part of what a cell shows beyond its limits, in order and of bounded size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_JOINED = 64 << 10
"""Pieces of one stream that follow each other are joined up to this size, in bytes."""

_COUNTED_AT_ONCE = 1 << 20
"""Characters that are encoded at a time only to count their bytes."""


@dataclass(frozen=True)
class Shown:
    """One Jupyter message of the cell.

    Attributes:
        size: Bytes that count against a limit: those of a stream's text in UTF-8, and about
            those of a display's data.
    """

    kind: str
    content: dict[str, Any]
    metadata: dict[str, Any]
    buffers: Sequence[bytes | memoryview]
    size: int


def text_message(name: str, text: str) -> Shown:
    """Makes the message of a stream's text."""
    return Shown("stream", {"name": name, "text": text}, {}, (), text_size(text))


class Held:
    """Keeps the last of text and displays; what does not fit is dropped, oldest first.

    Args:
        text_bytes: Most text that is kept.
        displays: Most displays that are kept.
        display_bytes: Most data that these may have together.
    """

    def __init__(self, text_bytes: int, displays: int, display_bytes: int) -> None:
        self._most = (text_bytes, displays, display_bytes)
        # Each entry with its place in the order of all.
        self._texts: deque[tuple[int, Shown]] = deque()
        self._displays: deque[tuple[int, Shown]] = deque()
        self._order = 0
        self._text_bytes = self._display_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._texts or self._displays)

    @property
    def last_text(self) -> str:
        """The newest piece of text, "" where there is none."""
        return str(self._texts[-1][1].content["text"]) if self._texts else ""

    def add_text(self, name: str, text: str) -> int:
        """Keeps text and drops what is too old; returns how many bytes were dropped."""
        before = self._text_bytes + text_size(text)
        text = last_bytes(text, self._most[0])
        last = self._texts[-1][1] if self._texts else None
        if last is not None and self._continues(name, last.size + len(text)):
            self._texts.pop()
            self._text_bytes -= last.size
            text = last.content["text"] + text
        self._append(self._texts, message := text_message(name, text))
        self._text_bytes += message.size
        while self._text_bytes > self._most[0]:
            self._shorten_oldest_text(self._text_bytes - self._most[0])
        return before - self._text_bytes

    def add_display(self, message: Shown) -> int:
        """Keeps a display and drops what is too old; returns how many were dropped."""
        before = len(self._displays) + 1
        self._append(self._displays, message)
        self._display_bytes += message.size
        _, most, most_bytes = self._most
        while len(self._displays) > most or self._display_bytes > most_bytes:
            self._display_bytes -= self._displays.popleft()[1].size
        return before - len(self._displays)

    def take(self) -> list[Shown]:
        """Gives all that is kept, in order, and keeps nothing."""
        entries = sorted([*self._texts, *self._displays], key=lambda entry: entry[0])
        self.drop()
        return [message for _, message in entries]

    def drop(self) -> tuple[int, int]:
        """Forgets all that is kept; returns bytes of text and number of displays."""
        dropped = self._text_bytes, len(self._displays)
        self._texts.clear()
        self._displays.clear()
        self._text_bytes = self._display_bytes = 0
        return dropped

    def _append(self, entries: deque[tuple[int, Shown]], message: Shown) -> None:
        self._order += 1
        entries.append((self._order, message))

    def _continues(self, name: str, joined: int) -> bool:
        """Whether text of this stream may be joined to the last: no display came between."""
        place, last = self._texts[-1]
        is_newest = not self._displays or self._displays[-1][0] < place
        return is_newest and last.content["name"] == name and joined <= _JOINED

    def _shorten_oldest_text(self, excess: int) -> None:
        place, oldest = self._texts.popleft()
        self._text_bytes -= oldest.size
        if oldest.size > excess:
            name, text = oldest.content["name"], oldest.content["text"]
            rest = text_message(name, last_bytes(text, oldest.size - excess))
            self._texts.appendleft((place, rest))
            self._text_bytes += rest.size


def text_size(text: str) -> int:
    """Bytes of the text in UTF-8, at little cost also for a text of gigabytes."""
    if text.isascii():
        return len(text)
    starts = range(0, len(text), _COUNTED_AT_ONCE)
    return sum(len(_encoded(text[start : start + _COUNTED_AT_ONCE])) for start in starts)


def first_bytes(text: str, count: int) -> str:
    """As much of the text's beginning as fits into so many bytes."""
    return _encoded(text[:count])[:count].decode("utf-8", "ignore") if count > 0 else ""


def last_bytes(text: str, count: int) -> str:
    """As much of the text's end as fits into so many bytes."""
    if count <= 0:
        return ""
    if len(text) <= count and text_size(text) <= count:
        return text
    return _encoded(text[-count:])[-count:].decode("utf-8", "ignore")


def data_size(value: Any) -> int:
    """About how many bytes a display's data will have on its way."""
    if isinstance(value, str):
        return text_size(value)
    if isinstance(value, dict):
        return sum(data_size(key) + data_size(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(data_size, value))
    return len(value) if isinstance(value, bytes) else 8


def _encoded(text: str) -> bytes:
    # A lone surrogate counts as the "?" by which it is replaced on its way.
    return text.encode("utf-8", "replace")
