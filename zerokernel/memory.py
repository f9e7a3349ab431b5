"""How much memory this process may still take, by every limit that Linux sets it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPARE_BYTES = 32 << 20
"""Is left untouched: the interpreter needs some while it works."""

SMALL_BYTES = 16 << 20
"""Amounts that are not worth looking at the limits for."""

_NO_LIMIT = 1 << 60  # control groups of version 1 say "none" by a number about so large


@dataclass(frozen=True)
class Room:
    """Memory that may still be taken.

    Attributes:
        size: Bytes; 0 where nothing is left.
        limit: What ends there, in words for a message.
    """

    size: int
    limit: str


def room(proc: Path = Path("/proc")) -> Room:
    """The least that any limit leaves: machine, control groups, resource limits.

    Args:
        proc: Where the system tells of this process and of itself.
    """
    return min(_rooms(proc), key=lambda one: one.size)


def has_room(size: int) -> bool:
    """Whether so many bytes can be taken and some are spared."""
    return size <= SMALL_BYTES or size <= room().size - SPARE_BYTES


def _rooms(proc: Path) -> Iterator[Room]:
    machine = _amounts(proc / "meminfo", unit=1024)
    yield Room(machine.get("MemAvailable:", _NO_LIMIT) + machine.get("SwapFree:", 0), "the machine")
    yield from _group_rooms(proc)
    yield from _resource_rooms(proc)


def _resource_rooms(proc: Path) -> Iterator[Room]:
    pages = [int(figure) for figure in _read(proc / "self/statm").split()] or [0] * 7
    total, data = pages[0], pages[5]
    page = os.sysconf("SC_PAGE_SIZE")
    used = {
        resource.RLIMIT_AS: (total * page, "this process's limit of address space (ulimit -v)"),
        resource.RLIMIT_DATA: (data * page, "this process's limit of data (ulimit -d)"),
    }
    for kind, (taken, words) in used.items():
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield Room(max(0, soft - taken), words)


# --- control groups ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """What a version of control groups calls its files and figures."""

    limit: str
    used: str
    cached: str
    shared: str


_VERSIONS = {
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"),
    2: _Files("memory.max", "memory.current", "file", "shmem"),
}


def _group_rooms(proc: Path) -> Iterator[Room]:
    """What each control group leaves: this process's own and all above it."""
    groups = _groups(proc)
    for version, root, mount in _mounts(proc):
        group = groups.get(version, "/")
        # In a container the mount's root may be the group itself, or the name one that
        # only the host knows; then the mount shows this process's own.
        inside = group[len(root.rstrip("/")) :] if group.startswith(root) else "/"
        folder = mount / inside.strip("/")
        for one in (folder, *folder.parents):
            yield from _one_group(one, _VERSIONS[version])
            if one == mount:
                break


def _one_group(folder: Path, files: _Files) -> Iterator[Room]:
    limit, used = _read(folder / files.limit).strip(), _read(folder / files.used).strip()
    if not limit.isdigit() or not used.isdigit() or int(limit) >= _NO_LIMIT:
        return
    figures = _amounts(folder / "memory.stat")
    # Cached files give way; shared memory, which is counted among them, does not.
    cached = max(0, figures.get(files.cached, 0) - figures.get(files.shared, 0))
    left = int(limit) - int(used) + cached
    yield Room(max(0, left), f"its control group's limit of {_gib(int(limit))}")


def _groups(proc: Path) -> dict[int, str]:
    """This process's control group for memory by the version of the hierarchy."""
    found = {}
    for line in _read(proc / "self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found[1] = path
        elif number == "0" and not controllers:
            found[2] = path
    return found


def _mounts(proc: Path) -> Iterator[tuple[int, str, Path]]:
    """Version, root and mount point of each mounted hierarchy that may limit memory."""
    for line in _read(proc / "self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = (*rest.split(" ", 2), "", "")[:3]
        _, _, _, root, mount, *_ = fields.split(" ")
        if kind == "cgroup" and "memory" in options.split(" ")[-1].split(","):
            yield 1, root, Path(mount)
        elif kind == "cgroup2":
            yield 2, root, Path(mount)


def _amounts(path: Path, unit: int = 1) -> dict[str, int]:
    """The lines "name number …" of a file, in bytes."""
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) * unit for row in rows if len(row) > 1 and row[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # not on this system, or not for this user: no limit that we know of


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
