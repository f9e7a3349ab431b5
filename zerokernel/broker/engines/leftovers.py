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

from zerokernel.containment import clear_groups, end_supervisor, group_prefix

_POLL_SECONDS = 0.05


def record_process(file: Path, process: int) -> None:
    """Writes down which process a supervisor is, for the broker after this one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        created = psutil.Process(process).create_time()
        groups = group_prefix(process)
        file.write_text(json.dumps({"process": process, "created": created, "groups": groups}))


def find_leftovers(directory: Path) -> list[psutil.Process]:
    """Gives the supervisors of earlier brokers that still run; forgets those that do not."""
    running = []
    for file in directory.glob("supervisor-*.process"):
        process = _running(file)
        if process is not None:
            running.append(process)
        else:
            clear_groups(_groups(file))
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


def _groups(file: Path) -> str:
    """How the control groups that it made begin, which can outlive it; "" where it made none."""
    try:
        groups = json.loads(file.read_text())["groups"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return groups if isinstance(groups, str) else ""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    if process.is_running():  # not another one that got its id
        end_supervisor(process.pid, group_prefix(process.pid))
