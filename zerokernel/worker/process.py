"""Thin functions over the worker's process: whether it may be forked, and why it ended."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def is_single_threaded() -> bool:
    """Whether this process may fork."""
    return len(os.listdir("/proc/self/task")) == 1


def private_memory(process: int) -> int:
    """Bytes that end with this process; 0 if it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        sizes = [int(x.split()[1]) for x in lines if x.startswith(("Private_", "Swap:"))]
        return 1024 * sum(sizes)
    return 0


def resident_pages(process: int) -> int:
    """Pages that a process has in memory, shared ones too: told at once; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1])
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
