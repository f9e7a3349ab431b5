"""Stands in for a supervisor: forks one tree under a mechanism and does what it is told.

    python -m tests.integration.containment.holder MECHANISM

Reads a line for each command and answers each with a line of JSON. What is in the tree holds a
pipe open, so that its end is the proof that nothing of it lives.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from zerokernel.containment import (
    Containment,
    Tree,
    adopt_orphans,
    process_outside,
    processes,
    settle,
    wait_until_contained,
)

PATIENCE = 20.0
DYING_SECONDS = 2.0
BOMB_LIMIT = 200
_NEW_USER = 0x10000000


def sleep_forever(say: int) -> None:
    os.write(say, b"x")
    while True:
        signal.pause()


def hostile(say: int) -> None:
    """Eight descendants that ignore what can be ignored, and leave session and parent."""
    for number in range(4):
        if os.fork() == 0:
            os.setsid()
            for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(ignored, signal.SIG_IGN)
            if os.fork() == 0:
                os.setsid()
                if number % 2 and os.fork() != 0:  # its child is an orphan
                    os._exit(0)
                sleep_forever(say)
            sleep_forever(say)
    sleep_forever(say)


def bomb(say: int) -> None:
    """Forks while half of those that forked end: a limited number at a time, for a limited time.

    The first that finds the limit reached says so.
    """
    until = time.monotonic() + PATIENCE
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    take, give = os.pipe()
    os.set_blocking(take, False)
    os.write(give, b"." * BOMB_LIMIT)
    told = False
    while time.monotonic() < until:
        try:
            os.read(take, 1)
        except BlockingIOError:
            if not told:
                told = True
                os.write(say, b"x")
            time.sleep(0.005)
            continue
        if os.fork() == 0:
            os.setsid()
            random.seed(os.getpid())
        elif random.random() < 0.5 and os.getpid() != _worker:
            os.write(give, b".")
            os._exit(0)


def leaving(how: Callable[[], Any]) -> Callable[[int], None]:
    def main(say: int) -> None:
        os.write(say, b"x")
        how()

    return main


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    ctypes.string_at(0)


def orphaned(say: int) -> None:
    """Its orphan finds itself in the same tree."""
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            sleep_forever(say)
        os._exit(0)
    sleep_forever(say)


MAINS: dict[str, tuple[Callable[[int], None], int]] = {  # and how many say that they are there
    "quiet": (sleep_forever, 1),
    "hostile": (hostile, 9),
    "bomb": (bomb, 1),
    "orphaned": (orphaned, 2),
    "exits": (leaving(lambda: os._exit(7)), 1),
    "kills itself": (leaving(kill_self), 1),
    "crashes": (leaving(crash), 1),
    "raises": (leaving(lambda: 1 / 0), 1),
}
_worker = 0


class Holder:
    """Carries out the commands."""

    def __init__(self, containment: Containment) -> None:
        self.containment = containment
        self.tree: Tree | None = None
        self.alive = -1

    def fork(self, what: str) -> dict[str, Any]:
        main, count = MAINS[what]
        self.alive, say = os.pipe()

        def worker() -> None:
            global _worker
            _worker = os.getpid()
            os.close(self.alive)
            wait_until_contained()
            os.write(say, f"{process_outside()};".encode())
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - to the process's end
            main(say)

        begin = time.perf_counter()
        self.tree = self.containment.fork(worker)
        took = time.perf_counter() - begin
        os.close(say)
        outside = b""
        while not outside.endswith(b";"):
            outside += os.read(self.alive, 1)
        for _ in range(count):
            if os.read(self.alive, 1) != b"x":
                raise RuntimeError("the tree ended too early")
        return {
            "process": self.tree.process,
            "outside": int(outside[:-1]),
            "seconds": took,
            "below": list(processes.descendants(os.getpid())),
        }

    def freeze(self) -> dict[str, Any]:
        assert self.tree is not None
        self.tree.freeze()
        return {}

    def thaw(self) -> dict[str, Any]:
        assert self.tree is not None
        self.tree.thaw()
        return {}

    def wait(self) -> dict[str, Any]:
        """As when the worker ends by itself."""
        assert self.tree is not None
        status = os.waitpid(self.tree.process, 0)[1]
        self._take_back()
        return {"status": status, "all gone": self._is_over(), "children": self._children()}

    def kill(self) -> dict[str, Any]:
        assert self.tree is not None
        begin = time.perf_counter()
        self.tree.kill()
        status = os.waitpid(self.tree.process, 0)[1]
        self._take_back()
        over = self._is_over()
        took = time.perf_counter() - begin
        return {"status": status, "all gone": over, "seconds": took, "children": self._children()}

    def starve(self) -> dict[str, Any]:
        """Has the system refuse every namespace that could be made from now on."""
        ctypes.CDLL(None).unshare(_NEW_USER)
        for name, line in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
        with open("/proc/sys/user/max_pid_namespaces", "w") as file:
            file.write("0")
        return {}

    def _take_back(self) -> None:
        assert self.tree is not None
        self.tree.clear()
        self.tree = None
        processes.kill_below(os.getpid())

    def _is_over(self) -> bool:
        """Whether the pipe says that nothing of the tree lives; what it said before is read."""
        while select.select([self.alive], [], [], PATIENCE)[0]:
            if not os.read(self.alive, 65536):
                return True
        return False

    def _children(self) -> int:
        """Living children of this process; the dead, and those just about to be, are reaped."""
        until = time.monotonic() + DYING_SECONDS
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    if time.monotonic() > until:
                        return len(processes.children(os.getpid()))
                    time.sleep(0.001)  # killed, it lets go of its descriptors before it is dead
            except ChildProcessError:
                return 0


def main() -> None:
    adopt_orphans()
    holder = Holder(settle(sys.argv[1]))
    try:
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            try:
                answer = getattr(holder, command)(*filter(None, [argument]))
            except OSError as error:
                answer = {"error": str(error), "children": holder._children()}
            print(json.dumps(answer), flush=True)
    finally:
        if holder.tree is not None:  # the test failed, or was ended, before it said so
            holder.kill()


if __name__ == "__main__":
    main()
