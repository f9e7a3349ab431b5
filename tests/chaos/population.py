"""Who lives in a chaos run: its processes, told apart by what they run and whose child they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MARK = "ZK_CHAOS_RUN"
"""Set in the environment of everything that a run starts."""


class Kind(StrEnum):
    KERNEL = "kernel"
    WORKER = "worker"
    CHILD = "child of a worker"
    SUPERVISOR = "supervisor"
    BROKER = "broker"


@dataclass(frozen=True)
class Living:
    """A process.

    Attributes:
        started: Its start in clock ticks since the boot: ids are used again.
    """

    process: int
    parent: int
    started: int
    command: str


def living(mark: str) -> list[Living]:
    """Gives the live processes of a run, but not their starter."""
    needle = f"{MARK}={mark}".encode()
    return [one for one in _all() if needle in _environment(one.process)]


def kinds(found: Collection[Living], kernels: Collection[int]) -> dict[Kind, list[Living]]:
    """Sorts processes by kind; one that is none of these (a helper of a kernel) is left out."""
    by_process = {one.process: one for one in found}
    sorted_out: dict[Kind, list[Living]] = {kind: [] for kind in Kind}
    for one in found:
        parent = by_process.get(one.parent)
        below_kernel = parent is not None and parent.process in kernels
        if one.process in kernels:
            sorted_out[Kind.KERNEL].append(one)
        elif "zerokernel.cli broker" in one.command:
            sorted_out[Kind.BROKER].append(one)
        elif "zerokernel.worker.forkserver" in one.command:
            sorted_out[_rank(one, by_process)].append(one)
        elif not below_kernel and "sleep" in one.command:
            sorted_out[Kind.CHILD].append(one)
    return sorted_out


def _rank(one: Living, by_process: dict[int, Living]) -> Kind:
    """A supervisor is nobody's fork, a worker is its child, and what that forked is below."""
    depth = 0
    while (parent := by_process.get(one.parent)) is not None:
        if "zerokernel.worker.forkserver" not in parent.command:
            break
        one, depth = parent, depth + 1
    return (Kind.SUPERVISOR, Kind.WORKER)[depth] if depth < 2 else Kind.CHILD


def is_same(one: Living) -> bool:
    """Whether this very process still lives."""
    found = _look(one.process)
    return found is not None and found.started == one.started


def _all() -> Iterator[Living]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (one := _look(int(entry.name))) is not None:
            yield one


def _look(process: int) -> Living | None:
    try:
        # After the name, which may hold anything and ends at the last bracket.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    words = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return Living(process, int(fields[1]), int(fields[19]), words)


def _environment(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
