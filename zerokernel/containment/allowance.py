"""What a worker's processes may use of the machine together, held by control groups.

Cores and memory, where this process may make groups with those controllers: of version 2, or of
each controller's own hierarchy of version 1. Pages of /dev/shm count as memory of who wrote them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zerokernel.containment import processes
from zerokernel.containment.control_group import locate, write_control

_PREFIX = "zerokernel-allowance"
_PERIOD = 100_000
"""Microseconds in which a group may use its share of the processors."""

_EVENTS = ("memory.events", "memory.oom_control")
_CLEAR_SECONDS = 1.0
_POLL_SECONDS = 0.005

_numbers = itertools.count(1)


@dataclass(frozen=True)
class _Controller:
    """A limit's name, and how each version of control groups is told about it."""

    limit: str
    name: str
    first: str
    second: str

    def value(self, amount: int, version: int) -> str:
        if self.limit != "cores":
            return str(amount)
        quota = amount * _PERIOD
        return f"{quota} {_PERIOD}" if version == 2 else str(quota)


CONTROLLERS = (
    _Controller("cores", "cpu", "cpu.cfs_quota_us", "cpu.max"),
    _Controller("memory", "memory", "memory.limit_in_bytes", "memory.max"),
)


@dataclass
class Allowance:
    """The groups that hold one worker to its limits.

    Attributes:
        enforced: Which limits are.
        refused: Which are not, each with the reason.
    """

    enforced: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    _groups: list[Path] = field(default_factory=list)
    _watched: list[Path] = field(default_factory=list)

    @property
    def ran_out(self) -> bool:
        """Whether the system ended something because all memory of the limit was in use."""
        files = (one / name for one in self._groups + self._watched for name in _EVENTS)
        return any(_kills(file) for file in files)

    def clear(self) -> None:
        """Gives the groups back, once what was in them has ended."""
        until = time.monotonic() + _CLEAR_SECONDS
        while self._groups and time.monotonic() < until:
            self._groups = [one for one in self._groups if not _removed(one)]
            if self._groups:
                time.sleep(_POLL_SECONDS)


def _kills(file: Path) -> int:
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def limit(process: int, limits: Mapping[str, int], own: Path | None = None) -> Allowance:
    """Holds a process, and what it starts from now on, to its limits, as far as that is possible.

    Args:
        process: The worker.
        limits: "cores", and "memory" in bytes. Others are refused: nothing here holds them.
        own: The worker's group of version 2, where it is in one of its own already.
    """
    allowance = Allowance()
    name = f"{_PREFIX}-{os.getpid()}-{processes.started_at(os.getpid())}-{next(_numbers)}"
    for key, amount in limits.items():
        found = next((one for one in CONTROLLERS if one.limit == key), None)
        if own is not None and own not in allowance._watched:
            allowance._watched.append(own)
        if found is None:
            allowance.refused[key] = "no control group holds it"
            continue
        try:
            _hold(found, amount, process, name, own, allowance)
            allowance.enforced += (key,)
        except OSError as error:
            allowance.refused[key] = str(error)
    return allowance


def _hold(
    found: _Controller,
    amount: int,
    process: int,
    name: str,
    own: Path | None,
    allowance: Allowance,
) -> None:
    """Raises OSError where it cannot be held."""
    if own is not None and _is_enabled(found, own):
        write_control(own / found.second, found.value(amount, 2))
        return
    folder = _folder_of(found.name)
    if folder is None:
        raise OSError(f"there is no control group for {found.name} here that can be used")
    group = folder / name
    group.mkdir(exist_ok=True)
    if group not in allowance._groups:
        allowance._groups.append(group)
    version = 2 if (group / "cgroup.controllers").exists() else 1
    write_control(
        group / (found.second if version == 2 else found.first), found.value(amount, version)
    )
    for one in (process, *processes.descendants(process)):
        write_control(group / "cgroup.procs", str(one))


def _is_enabled(found: _Controller, group: Path) -> bool:
    """Whether a group of version 2 has a controller; has its parent give it where it may."""
    if (group / found.second).exists():
        return True
    with contextlib.suppress(OSError):
        write_control(group.parent / "cgroup.subtree_control", f"+{found.name}")
    return (group / found.second).exists()


def _folder_of(controller: str) -> Path | None:
    """This process's own group in the hierarchy of a controller, None where there is none."""
    try:
        memberships = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    return locate_first(controller, memberships, mounts) or _second(
        controller, locate(memberships, mounts)
    )


def _second(controller: str, folder: Path | None) -> Path | None:
    """A folder of version 2 whose groups have a controller."""
    with contextlib.suppress(OSError):
        if folder is not None:
            given = (folder / "cgroup.subtree_control").read_text().split()
            return folder if controller in given else None
    return None


def locate_first(controller: str, memberships: str, mounts: str) -> Path | None:
    """Finds a process's group in a controller's hierarchy of version 1.

    Args:
        controller: "cpu" or "memory".
        memberships: Content of its /proc/PID/cgroup.
        mounts: Content of /proc/self/mountinfo.
    """
    rows = (line.split(":", 2) for line in memberships.splitlines())
    own = next((path for _, names, path in rows if controller in names.split(",")), None)
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = (*rest.split(" ", 2), "", "")[:3]
        if own is None or kind != "cgroup" or controller not in options.split(","):
            continue
        root, point = fields.split(" ")[3:5]
        if own == root or own.startswith(root.rstrip("/") + "/"):
            return Path(point, own[len(root) :].lstrip("/"))
    return None


def possible() -> dict[str, str]:
    """Tries each limit on a group that is removed again: limit → why not, "" where it holds."""
    found = {}
    for one in CONTROLLERS:
        folder = _folder_of(one.name)
        found[one.limit] = "no control group for it can be used" if folder is None else _try(folder)
    return found


def _try(folder: Path) -> str:
    group = folder / f"{_PREFIX}-{os.getpid()}-{processes.started_at(os.getpid())}-0"
    try:
        group.mkdir()
        group.rmdir()
    except OSError as error:
        return f"no control group may be made: {error.strerror}"
    return ""


def remove_stray_allowances() -> None:
    """Removes empty groups beside this process's own whose maker is dead."""
    for one in CONTROLLERS:
        folder = _folder_of(one.name)
        with contextlib.suppress(OSError):
            for name in os.listdir(folder) if folder is not None else ():
                begin, _, rest = name.rpartition(f"{_PREFIX}-")
                numbers = rest.split("-")
                if begin or len(numbers) != 3 or not all(n.isdecimal() for n in numbers):
                    continue
                if processes.started_at(int(numbers[0])) != int(numbers[1]) and folder is not None:
                    _removed(folder / name)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # something is still ending in it
        return False
    return True
