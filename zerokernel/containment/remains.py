"""What a supervisor that was killed, or that hangs, leaves; seen from the broker."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator

from zerokernel.containment import processes
from zerokernel.containment.control_group import clear_groups

_POLL_SECONDS = 0.0005


def end_supervisor(process: int, groups: str) -> None:
    """Kills a supervisor that does not end, with its workers.

    Args:
        process: Its id; whoever started it waits for it.
        groups: What ``group_prefix`` gave for it.
    """
    # Stopped, it forks no more; and what is in a group is best killed by its group.
    processes.send_signal(process, signal.SIGSTOP)
    clear_groups(groups)
    processes.kill_tree(process)


def end_remains(groups: str, ours: Collection[int] = ()) -> None:
    """Ends what is left of a supervisor that is dead.

    Args:
        groups: What ``group_prefix`` gave for it.
        ours: Children of this process that are none of its remains.
    """
    clear_groups(groups)
    if processes.adopts_orphans():
        _end_orphans(ours)


def _end_orphans(ours: Collection[int]) -> None:
    """Kills and reaps children that came to this process when their parent died.

    They are told from what libraries start here by their session: supervisors begin in one
    of their own, and nobody can go back into that of this process.
    """
    own = os.getsid(0)

    def strangers() -> list[int]:
        every = processes.children(os.getpid())
        return [one for one in every if one not in ours and processes.session_of(one) != own]

    def find() -> Iterator[int]:
        for root in strangers():
            yield root
            yield from processes.descendants(root)

    until = time.monotonic() + processes.KILL_SECONDS
    while strangers() and time.monotonic() < until:
        processes.kill_all(find, seconds=_POLL_SECONDS)
        for one in strangers():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(one, os.WNOHANG)
        time.sleep(_POLL_SECONDS)
