"""What encloses a chaos run: a control group of its own, where one can be had."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tests.chaos.population import living
from zerokernel.containment.control_group import locate


class Enclosure:
    """Has everything that a run starts in one control group, so that none is overlooked.

    Without the right to make one, processes are found by their mark alone; then zerokernel
    makes no groups either.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._home = _own_group()
        self._group = self._enter()

    def _enter(self) -> Path | None:
        if self._home is None:
            return None
        group = self._home / f"chaos-{os.getpid()}"
        try:
            group.mkdir()
            (group / "cgroup.procs").write_text("0")
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            return None
        return group

    def processes(self) -> list[str]:
        """Gives what lives beside this process, in words."""
        found = {one.process: one.command for one in living(self._mark)}
        if self._group is not None:
            for number in (self._group / "cgroup.procs").read_text().split():
                found.setdefault(int(number), "without the mark")
            found.pop(os.getpid(), None)
        return [f"{process}: {command[:160]}" for process, command in found.items()]

    def groups(self) -> list[str]:
        """Gives the control groups that are left."""
        if self._group is None:
            return []
        return [entry.name for entry in self._group.iterdir() if entry.is_dir()]

    def leave(self) -> None:
        """Ends what is left, and the group."""
        for one in living(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.process, 9)
        if self._group is None or self._home is None:
            return
        (self._home / "cgroup.procs").write_text("0")
        (self._group / "cgroup.kill").write_text("1")
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                for path, _, _ in os.walk(self._group, topdown=False):
                    os.rmdir(path)
                return
            time.sleep(0.01)


def _own_group() -> Path | None:
    try:
        memberships = Path("/proc/self/cgroup").read_text()
        return locate(memberships, Path("/proc/self/mountinfo").read_text())
    except OSError:
        return None
