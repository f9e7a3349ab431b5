"""What the cells of the chaos run do: watch that they are alone on their slice, and say so.

Imported by kernels and workers, so that it travels by name. It is the recording observer
with which the books are compared afterwards.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

FOLDER = "ZK_CHAOS_FOLDER"
"""Environment variable with the folder of locks and log."""

LOG, VIOLATIONS = "witness.log", "violations.log"

BEAT_SECONDS = 0.05
"""So often a running cell says that it still runs."""

_CHILD_SECONDS = 20.0
"""What a cell leaves running ends by itself after this time, whatever becomes of the run."""


def attend(cell: int, seconds: float, child: str) -> None:
    """Runs for so long as the only one on the slice.

    Args:
        cell: Its number.
        seconds: How long.
        child: What runs beside it and is left behind: "" nothing, "program", or "fork", a
            child in a session of its own that keeps the slice's lock for as long as it lives.
    """
    lease, place = os.environ["ZEROKERNEL_LEASE"], os.environ["ZEROKERNEL_SLICE"]
    told = {"cell": cell, "lease": lease, "slice": place, "process": os.getpid()}
    lock = os.open(_folder() / f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(told).encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 4096, 0).decode()
        _write(VIOLATIONS, told | {"at": time.monotonic(), "holder": holder})
    _write(LOG, told | {"event": "begin", "at": time.monotonic()})
    _start_child(child)
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        time.sleep(min(BEAT_SECONDS, until - now))
        _write(LOG, told | {"event": "beat", "at": time.monotonic()})
    _write(LOG, told | {"event": "end", "at": time.monotonic()})
    fcntl.flock(lock, fcntl.LOCK_UN)  # also for what shares it: from here on it is idle
    os.close(lock)


def _start_child(kind: str) -> None:
    if kind == "program":
        # Nobody waits for it: the worker's end is what ends it.
        child = subprocess.Popen(["sleep", str(_CHILD_SECONDS)], start_new_session=True)
        child.returncode = 0
    elif kind == "fork" and os.fork() == 0:
        os.setsid()
        until = time.monotonic() + _CHILD_SECONDS
        while time.monotonic() < until:
            time.sleep(0.2)
        os._exit(0)


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _write(name: str, line: dict[str, Any]) -> None:
    """One write with O_APPEND: lines of several processes do not mix, a kill leaves no half."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(_folder() / name, flags, 0o600)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Gives the lines of one log, in the order in which they were written."""
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
