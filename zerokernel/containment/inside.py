"""What a contained process knows about itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

# Set once in a forked worker, before its main: its id where that is not what os.getpid says,
# and the thread by which it enters its group.
_outer: tuple[int, int] | None = None  # this process, and how its supervisor calls it
_entering: threading.Thread | None = None
_failed: list[OSError] = []


def process_outside() -> int:
    """This process's id as its supervisor, the kernel and the broker see it."""
    if _outer is not None and _outer[0] == os.getpid():
        return _outer[1]
    return os.getpid()


def wait_until_contained() -> None:
    """Returns when this process is contained; nothing that a user wrote may run before.

    Raises:
        OSError: It cannot be.
    """
    if _entering is not None:
        _entering.join()
    if _failed:
        raise _failed[0]


def remember_outside(process: int) -> None:
    """Keeps the id that this process has outside of its namespace."""
    global _outer
    _outer = (os.getpid(), process)


def enter_meanwhile(enter: Callable[[], None]) -> None:
    """Enters in a thread: the system can take 20 ms for it, in which a worker gets ready."""
    global _entering

    def run() -> None:
        try:
            enter()
        except OSError as error:
            _failed.append(error)

    _entering = threading.Thread(target=run, daemon=True, name="enters its control group")
    _entering.start()
