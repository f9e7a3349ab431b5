"""Thin functions over processes: whose child is which, what runs, stopping and killing trees."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NoReturn

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_EXITING = 0x4  # PF_EXITING of the flags in /proc/PID/stat

KILL_SECONDS = 5.0
"""A killed process that is not gone by then hangs in the kernel; it is reported, not awaited."""

STOP_SECONDS = 0.5
"""A tree that still grows after it was stopped for so long is killed as it is."""

_POLL_SECONDS = 0.0005

Find = Callable[[], Iterable[int]]
"""Gives the processes that are meant, as they are now; parents before their children."""


def die_with_parent(parent: int) -> None:
    """Has the system kill this process when the process that forked it ends.

    It does not hold for children of this process, and a change of the user takes it back.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process, where they are found and killed."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether ``adopt_orphans`` was called in this process."""
    answer = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def become(main: Callable[[], None]) -> NoReturn:
    """In a forked child: does its work and ends with it, whatever happens."""
    status = 1
    try:
        main()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(status)


# --- looking -------------------------------------------------------------------------------


def children(process: int) -> list[int]:
    """Direct children of a process; [] if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(OSError):
                found += map(int, _read(f"/proc/{process}/task/{thread}/children").split())
    return found


def descendants(process: int) -> Iterator[int]:
    """All processes below one, parents before children."""
    for child in children(process):
        yield child
        yield from descendants(child)


def session_of(process: int) -> int:
    """The process's session id, 0 if it is gone."""
    fields = _fields(f"/proc/{process}/stat")
    return int(fields[3]) if fields else 0


def started_at(process: int) -> int:
    """When it started, in clock ticks since boot; 0 if it is gone. Tells a used-again id apart."""
    fields = _fields(f"/proc/{process}/stat")
    return int(fields[19]) if fields else 0


def is_alive(process: int) -> bool:
    """Whether any of its threads is not on its way out.

    The first thread alone does not tell: it can be a zombie while others run.
    """
    return any(state not in "ZX" and not flags & _EXITING for state, flags in _threads(process))


def may_fork(process: int) -> bool:
    """Whether any of its threads could make another process now.

    One in uninterruptible sleep counts as not: a parent in vfork is there, and does not
    leave it before its child does.
    """
    return any(s not in "TtZXD" and not flags & _EXITING for s, flags in _threads(process))


def _threads(process: int) -> Iterator[tuple[str, int]]:
    """State and flags of each thread."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return
    for thread in threads:
        if fields := _fields(f"/proc/{process}/task/{thread}/stat"):
            yield fields[0], int(fields[6])


def _fields(stat: str) -> list[str]:
    """What follows the name, which may contain anything; [] if the process is gone."""
    try:
        return _read(stat).rpartition(")")[2].split()
    except OSError:
        return []


def _read(path: str) -> str:
    # A walk reads hundreds of these while what it hunts forks on: no file object, no Path.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace")


# --- doing ---------------------------------------------------------------------------------


def send_signal(process: int, number: signal.Signals) -> None:
    """Sends a signal; one that is gone, or belongs to somebody else, is passed over, as is 0."""
    if process <= 0:  # 0 and less are groups
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def stop_all(find: Find, seconds: float = STOP_SECONDS) -> list[int]:
    """Stops what is found until nothing is found that could make more; returns all of it.

    Each is stopped before the search goes on below it.
    """
    stopped: dict[int, None] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = len(stopped)
        for process in find():
            if process not in stopped:
                send_signal(process, signal.SIGSTOP)
                stopped[process] = None
        if len(stopped) == before and not any(map(may_fork, stopped)):
            break
    return list(stopped)


def continue_all(processes: Iterable[int]) -> None:
    """Continues what ``stop_all`` stopped."""
    for process in processes:
        send_signal(process, signal.SIGCONT)


def kill_all(find: Find, seconds: float = KILL_SECONDS) -> bool:
    """Kills what is found, and what that makes meanwhile; returns whether all of it is gone.

    All is stopped before the first is killed: each that dies earlier makes room for another,
    where the number of processes is limited, and leaves orphans to somebody else.
    """
    for process in stop_all(find):
        send_signal(process, signal.SIGKILL)
    until = time.monotonic() + seconds
    while alive := [process for process in find() if is_alive(process)]:
        for process in alive:
            send_signal(process, signal.SIGKILL)
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def kill_below(process: int, spare: Collection[int] = ()) -> bool:
    """Kills all below a process, but for the children to spare and what is below them."""

    def find() -> Iterator[int]:
        for child in children(process):
            if child not in spare:
                yield child
                yield from descendants(child)

    return kill_all(find)


def kill_tree(process: int) -> bool:
    """Kills a process and all below it, frozen or not.

    It is stopped first, so that it forks no more, and killed last, because what its
    descendants leave behind comes to it.
    """
    send_signal(process, signal.SIGSTOP)
    gone = kill_below(process)
    send_signal(process, signal.SIGKILL)
    return gone
