"""Keeps quiet what was said already: the other process has imported and built the same."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Muted:
    """A stream that drops what one thread writes, while it lasts."""

    def __init__(self, stream: Any, thread: int) -> None:
        self._stream, self._thread = stream, thread
        self.lasts = True

    def _drops(self) -> bool:
        return self.lasts and threading.get_ident() == self._thread

    def write(self, text: str) -> Any:
        return len(text) if self._drops() else self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def quietly() -> Iterator[None]:
    """What this thread prints, warns or logs meanwhile is not shown; errors are raised.

    For a repetition only. Warnings still count as given, so that none comes a second time
    later. Other threads are not touched.
    """
    thread = threading.get_ident()
    streams = sys.stdout, sys.stderr
    muted = [_Muted(stream, thread) for stream in streams]
    show: Any = vars(warnings)["_showwarnmsg"]
    handle = logging.Logger.handle

    def show_others(message: Any) -> None:
        if threading.get_ident() != thread:
            show(message)

    def handle_others(self: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() != thread:
            handle(self, record)

    sys.stdout, sys.stderr = muted
    vars(warnings)["_showwarnmsg"] = show_others
    logging.Logger.handle = handle_others  # type: ignore[method-assign]  # given back below
    try:
        yield
    finally:
        logging.Logger.handle = handle  # type: ignore[method-assign]  # as it was
        vars(warnings)["_showwarnmsg"] = show
        # What ran meanwhile may have put other streams there, which stay.
        sys.stdout = streams[0] if sys.stdout is muted[0] else sys.stdout
        sys.stderr = streams[1] if sys.stderr is muted[1] else sys.stderr
        for stream in muted:
            stream.lasts = False
