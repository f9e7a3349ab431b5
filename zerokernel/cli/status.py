"""`zerokernel status`: once, or again and again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zerokernel.client import fetch_status, find_broker
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import Settings

EVERY_SECONDS = 1.0
NO_BROKER = "No broker runs; the first notebook starts it."

_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The terminal's second screen without a cursor; the first one comes back as it was."""

Status = dict[str, Any]
Show = Callable[[Status, bool], str]
"""Gives the text for a status, {} where no broker runs; the flag says whether it is watched."""


def once(settings: Settings, show: Show) -> int:
    """Prints the status. Raises BrokerUnavailable, ProtocolMismatch."""
    print(show(_fetch(settings), False))
    return 0


def watch(settings: Settings, show: Show) -> int:
    """Shows the status every second until an interrupt or SIGTERM, which end it properly.

    A terminal is redrawn; into a file or pipe each status goes after the one before.
    """
    with contextlib.suppress(KeyboardInterrupt), _interrupted_by_sigterm():
        draw = _redraw if show is show_table and sys.stdout.isatty() else _append
        with _second_screen(draw is _redraw):
            while True:
                draw(show(_fetch_or_say(settings), True))
                time.sleep(EVERY_SECONDS)
    return 0


def show_json(status: Status, watched: bool) -> str:
    """Gives all that is known: readable, or in one line where it is watched."""
    return json.dumps(status, indent=None if watched else 2)


def show_table(status: Status, watched: bool) -> str:
    """Gives tables of slices, queue and notebooks."""
    if "error" in status:
        lines = str(status["error"]).splitlines()
    else:
        lines = _lines(status) if status else [NO_BROKER]
    text = "\n".join(map(_printable, lines))
    return f"{time.strftime('%H:%M:%S')}  {text}" if watched else text


def _fetch(settings: Settings) -> Status:
    address = find_broker(settings)
    return {} if address is None else fetch_status(address)


def _fetch_or_say(settings: Settings) -> Status:
    """Who watches wants to see a broker come and go: an error is shown, and the next try made."""
    try:
        return _fetch(settings)
    except ZeroKernelError as error:
        return {"error": str(error)}


# --- the terminal -------------------------------------------------------------------------


def _append(text: str) -> None:
    print(text, flush=True)


def _redraw(text: str) -> None:
    size = shutil.get_terminal_size()
    lines = [line[: size.columns] for line in text.splitlines()[: size.lines - 1]]
    body = "".join(f"{line}{_CLEAR_LINE}\n" for line in lines)
    print(f"{_HOME}{body}{_CLEAR_REST}", end="", flush=True)


@contextlib.contextmanager
def _second_screen(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    print(_ENTER, end="")
    try:
        yield
    finally:
        print(_LEAVE, end="", flush=True)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- tables -------------------------------------------------------------------------------


def _lines(status: Status) -> list[str]:
    closed = status.get("books_closed", "")  # not told by an earlier broker
    lines = [
        f"broker {status['version']}, process {status['pid']}, up {status['uptime']:.0f} s",
        *([f"nothing is granted: {closed}"] if closed else []),
        "",
        *table(("slice", "size", "state", "notebook", "left"), map(_slice_row, status["slices"])),
    ]
    if status["queue"]:
        head = ("place", "notebook", "size", "asks for", "starts in")
        lines += ["", *table(head, map(_queue_row, status["queue"]))]
    if status["sessions"]:
        lines += ["", *table(("notebook", "worker"), map(_session_row, status["sessions"]))]
    return lines


def _slice_row(one: Status) -> tuple[str, ...]:
    state = f"{one['state']}: {one['reason']}" if one["reason"] else one["state"]
    left = "" if one["remaining"] is None else f"{one['remaining']:.0f} s"
    return one["display"], one["size"], state, one["session_name"], left


def _queue_row(one: Status) -> tuple[str, ...]:
    start = "" if one["starts_in"] is None else f"{one['starts_in']:.0f} s"
    return str(one["place"]), one["session_name"], one["size"], f"{one['duration']:g} s", start


def _session_row(one: Status) -> tuple[str, ...]:
    worker = one["worker"]
    return one["name"], f"process {worker['process']}, {worker['state']}" if worker else "none"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Gives a table's lines, its columns one under the other."""
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _printable(line: str) -> str:
    """Gives the line without what a terminal obeys: a notebook's name is anybody's text."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
