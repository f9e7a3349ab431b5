"""Supervisors that a killed broker left behind: written down by one broker for the next.

A supervisor waits a while for another broker. Its workers run on meanwhile, so the next
broker takes it over, or ends it where it does not answer.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from zerokernel.containment import clear_groups

_SUFFIXES = (".process", ".address", ".sock", ".log")


@dataclass(frozen=True)
class SupervisorRecord:
    """What a broker needs to take a supervisor over.

    Attributes:
        process: Its process id.
        created: When that process began, seconds since the epoch: ids are used again.
        python: The interpreter that it runs.
        address: Where it listens, "" as long as it is only starting.
        secret: What a caller proves to know (hex).
        groups: How the control groups of its workers begin, which can outlive it; "" if it
            makes none.
        user: For whom it forks; "" where an earlier version wrote this.
    """

    process: int
    created: float
    python: str
    address: str
    secret: str
    groups: str = ""
    user: str = ""

    def __repr__(self) -> str:
        return f"SupervisorRecord({self.process}, {self.address!r})"  # no secret in logs

    def find_process(self) -> psutil.Process | None:
        """Gives the process, None where it is over."""
        try:
            process = psutil.Process(self.process)
            same = abs(process.create_time() - self.created) < 1.0
        except psutil.Error:
            return None
        return process if same and is_alive(process) else None


def write_record(file: Path, record: SupervisorRecord) -> None:
    """Writes a record whole or not at all, for its owner's eyes only."""
    temporary = file.with_name(f"{file.name}.new")
    with open(temporary, "w", opener=_private) as out:
        json.dump(asdict(record), out)
    temporary.rename(file)


def find_records(directory: Path) -> list[tuple[Path, SupervisorRecord]]:
    """Gives the supervisors of earlier brokers that still run; forgets those that do not."""
    running = []
    for unfinished in directory.glob("supervisor-*.new"):
        unfinished.unlink(missing_ok=True)
    for file in sorted(directory.glob("supervisor-*.process")):
        record = _read(file)
        if record is not None and record.find_process() is not None:
            running.append((file, record))
        else:
            if record is not None:
                clear_groups(record.groups)
            forget(file)
    return running


def forget(file: Path) -> None:
    """Takes a supervisor's files away."""
    for suffix in _SUFFIXES:
        file.with_suffix(suffix).unlink(missing_ok=True)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _read(file: Path) -> SupervisorRecord | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return SupervisorRecord(**json.loads(file.read_text()))
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
