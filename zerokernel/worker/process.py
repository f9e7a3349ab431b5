"""Thin functions over processes: fork hygiene, freezing, killing a tree, why one ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

KILL_SECONDS = 5.0
"""A killed process that is not gone by then hangs in the kernel; it is reported, not awaited."""


def die_with_parent(parent: int) -> None:
    """Has the system kill this process when the process that forked it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process, where they are found and killed."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_single_threaded() -> bool:
    """Whether this process may fork."""
    return len(os.listdir("/proc/self/task")) == 1


def children(process: int) -> list[int]:
    """Direct children of a process; [] if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{process}/task/{thread}/children").read_text()
                found += [int(child) for child in text.split()]
    return found


def descendants(process: int) -> Iterator[int]:
    """All processes below one, parents before children."""
    for child in children(process):
        yield child
        yield from descendants(child)


def freeze(process: int) -> list[int]:
    """Stops a process tree; returns whom to continue, the process itself last."""
    _signal(process, signal.SIGSTOP)
    stopped = [process]
    for descendant in descendants(process):
        _signal(descendant, signal.SIGSTOP)
        stopped.insert(0, descendant)
    return stopped


def thaw(stopped: list[int]) -> None:
    """Continues what ``freeze`` stopped."""
    for process in stopped:
        _signal(process, signal.SIGCONT)


def kill_tree(process: int) -> None:
    """Kills a process and everything below it, frozen or not.

    The root is stopped first so that it forks no more while its tree is walked; a
    descendant that forks meanwhile is found by the next walk.
    """
    _signal(process, signal.SIGSTOP)
    until = time.monotonic() + KILL_SECONDS
    while time.monotonic() < until:
        found = [one for one in descendants(process) if not _is_dead(one)]
        if not found:
            break
        for one in found:
            _signal(one, signal.SIGKILL)
    _signal(process, signal.SIGKILL)


def _is_dead(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def private_memory(process: int) -> int:
    """Bytes that end with this process; 0 if it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        sizes = [int(x.split()[1]) for x in lines if x.startswith(("Private_", "Swap:"))]
        return 1024 * sum(sizes)
    return 0


def out_of_memory_kills() -> int:
    """How often the system or this control group killed for want of memory so far."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def why_ended(status: int, oom_kills: int) -> tuple[str, str]:
    """Cause and detail of an end that nobody here ordered.

    Args:
        status: As os.waitpid gives it.
        oom_kills: Value of ``out_of_memory_kills`` when the process started.
    """
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        if number is signal.SIGKILL and out_of_memory_kills() > oom_kills:
            return "out of memory", "the machine ran out of memory"
        if number is signal.SIGKILL:
            return "killed", "it was killed from outside (SIGKILL)"
        return "killed", f"it crashed: {number.name} ({signal.strsignal(number)})"
    return "exited", f"it ended itself with exit status {os.waitstatus_to_exitcode(status)}"
