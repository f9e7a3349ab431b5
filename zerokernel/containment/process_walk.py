"""The mechanism that works everywhere: the tree is found by walking it.

Orphans stay inside, because the worker adopts them, and after its end its supervisor.
"""

from __future__ import annotations

import os
import signal

from zerokernel.containment import processes
from zerokernel.containment.port import Main


class ProcessWalk:
    """Stops and kills what is found below the worker until nothing more is found."""

    name = "process walk"

    def fork(self, main: Main) -> WalkedTree:
        """Forks a worker that adopts its orphans and dies with this process."""
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            processes.become(lambda: _begin(parent, main))
        return WalkedTree(child)


def _begin(parent: int, main: Main) -> None:
    processes.die_with_parent(parent)
    processes.adopt_orphans()
    main()


class WalkedTree:
    """A worker and what is found below it."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.roots = (process,)
        self._stopped: list[int] = []

    def __repr__(self) -> str:
        return f"<WalkedTree {self.process}{', frozen' if self.frozen else ''}>"

    @property
    def frozen(self) -> bool:
        """Whether it is stopped."""
        return bool(self._stopped)

    def freeze(self) -> None:
        """Stops all of it, the worker first."""
        processes.send_signal(self.process, signal.SIGSTOP)
        below = processes.stop_all(lambda: processes.descendants(self.process))
        self._stopped = [*below, self.process]

    def thaw(self) -> None:
        """Continues it, the worker last."""
        processes.continue_all(self._stopped)
        self._stopped = []

    def kill(self) -> None:
        """Kills all of it."""
        processes.kill_tree(self.process)

    def clear(self) -> None:
        """Nothing held it. What it left behind is the supervisor's child now, who kills it."""
