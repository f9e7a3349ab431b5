"""Supervisors that a killed broker left behind.

They end by themselves after a grace time, in which a cell of theirs may still finish. Until
then the slices are not free, so the next broker waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import psutil

_POLL_SECONDS = 0.05


def record_process(file: Path, process: int) -> None:
    """Writes down which process a supervisor is, for the broker after this one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        created = psutil.Process(process).create_time()
        file.write_text(json.dumps({"process": process, "created": created}))


def find_leftovers(directory: Path) -> list[psutil.Process]:
    """Gives the supervisors of earlier brokers that still run; forgets those that do not."""
    running = []
    for file in directory.glob("supervisor-*.process"):
        process = _running(file)
        if process is not None:
            running.append(process)
        else:
            for suffix in (".process", ".address", ".sock", ".log"):
                file.with_suffix(suffix).unlink(missing_ok=True)
    return running


async def wait_until_gone(processes: list[psutil.Process], grace: float) -> None:
    """Waits until they ended; kills what is left of them after ``grace`` seconds."""
    until = time.monotonic() + grace
    while running := [p for p in processes if _is_alive(p)]:
        if time.monotonic() >= until:
            for process in running:
                _kill(process)
        await asyncio.sleep(_POLL_SECONDS)


def _running(file: Path) -> psutil.Process | None:
    try:
        known = json.loads(file.read_text())
        process = psutil.Process(int(known["process"]))
        # A process id is used again; the time of its start tells them apart.
        same = abs(process.create_time() - float(known["created"])) < 1.0
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if same and _is_alive(process) else None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                one.kill()
