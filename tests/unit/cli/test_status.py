"""What `zerokernel status` prints for a given status."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from zerokernel.cli import status as command

SLICE = {
    "display": "half H200 · 70 GB",
    "size": "3g.71gb",
    "state": "leased",
    "reason": "",
    "session_name": "train.ipynb",
    "remaining": 41.6,
}
STATUS: dict[str, Any] = {
    "version": "1.2",
    "pid": 77,
    "uptime": 12.3,
    "books_closed": "",
    "slices": [SLICE, {**SLICE, "state": "free", "session_name": "", "remaining": None}],
    "queue": [
        {"place": 1, "session_name": "b", "size": "full", "duration": 90.0, "starts_in": None}
    ],
    "sessions": [
        {"name": "b", "worker": None},
        {"name": "c", "worker": {"process": 5, "state": "x"}},
    ],
}


def test_tables_are_aligned() -> None:
    """Slices, queue and notebooks, each with its heading."""
    assert command.show_table(STATUS, False).splitlines() == [
        "broker 1.2, process 77, up 12 s",
        "",
        "slice              size     state   notebook     left",
        "half H200 · 70 GB  3g.71gb  leased  train.ipynb  42 s",
        "half H200 · 70 GB  3g.71gb  free",
        "",
        "place  notebook  size  asks for  starts in",
        "1      b         full  90 s",
        "",
        "notebook  worker",
        "b         none",
        "c         process 5, x",
    ]


def test_a_name_cannot_command_the_terminal() -> None:
    """Escape sequences in a notebook's name are shown as what they are: not text."""
    hostile = {**STATUS, "sessions": [{"name": "\x1b]0;pwned\x07\r\n\x9b2J", "worker": None}]}
    text = command.show_table(hostile, False)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "]0;pwned" in text


def test_without_a_broker_it_says_so() -> None:
    """In words for people, as an empty object for programs."""
    assert command.show_table({}, False) == command.NO_BROKER
    assert command.show_json({}, False) == "{}"


def test_watched_json_is_a_line_each() -> None:
    """So that a program can read line by line."""
    assert "\n" not in command.show_json(STATUS, True)
    assert json.loads(command.show_json(STATUS, True)) == STATUS


def test_a_frame_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Longer lines and more of them would scroll it, and leave the remains of the last frame."""
    monkeypatch.setattr(command.shutil, "get_terminal_size", lambda: os.terminal_size((10, 4)))
    command._redraw("\n".join(["x" * 30] * 9))
    drawn = capsys.readouterr().out
    assert drawn == "\x1b[H" + ("x" * 10 + "\x1b[K\n") * 3 + "\x1b[J"


def test_books_that_cannot_be_written_are_told_first() -> None:
    """With the reason, below the line about the broker."""
    shown = command.show_table({**STATUS, "books_closed": "The disk is full."}, False)
    assert shown.splitlines()[1] == "nothing is granted: The disk is full."
