"""Keeps quiet what was said already: the other process has imported and built the same."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


class _Mute:
    """Drops what one thread writes to a stream, which stays the object that it is."""

    def __init__(self, stream: Any, thread: int) -> None:
        self._stream, self._thread = stream, thread
        self._held = vars(stream).get("write", _ABSENT)
        self._write = stream.write
        stream.write = self._write_others

    def _write_others(self, text: str) -> Any:
        return len(text) if threading.get_ident() == self._thread else self._write(text)

    def end(self) -> None:
        if self._held is _ABSENT:
            vars(self._stream).pop("write", None)
        else:
            self._stream.write = self._held


def _mute(stream: Any, thread: int) -> _Mute | None:
    try:
        return _Mute(stream, thread)
    except (AttributeError, TypeError):  # none, or a stream of a kind that cannot be muted
        return None


@contextmanager
def quietly() -> Iterator[None]:
    """What this thread prints, warns or logs meanwhile is not shown; errors are raised.

    For a repetition only. Warnings still count as given, so that none comes a second time
    later. Other threads are not touched.
    """
    thread = threading.get_ident()
    muted = [_mute(stream, thread) for stream in {id(s): s for s in _streams()}.values()]
    show: Any = vars(warnings)["_showwarnmsg"]
    handle = logging.Logger.handle

    def show_others(message: Any) -> None:
        if threading.get_ident() != thread:
            show(message)

    def handle_others(self: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() != thread:
            handle(self, record)

    vars(warnings)["_showwarnmsg"] = show_others
    logging.Logger.handle = handle_others  # type: ignore[method-assign]  # given back below
    try:
        yield
    finally:
        logging.Logger.handle = handle  # type: ignore[method-assign]  # as it was
        vars(warnings)["_showwarnmsg"] = show
        for mute in muted:
            if mute is not None:
                mute.end()


def _streams() -> tuple[Any, Any]:
    return sys.stdout, sys.stderr
