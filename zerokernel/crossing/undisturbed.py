"""Moments in which the notebook's other threads are to wait, so that they change nothing unseen.

What is compared and what is written afterwards must be the same state, and so must what is sent
and what is noted as sent. No lock is shared with a person's threads; but Python lets a thread run
on as long as nobody else has waited for the switch interval.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 0.25
"""Seconds for which other threads wait at most: output and control threads are among them."""

_TURN = 0.05
"""Seconds that a thread which computes all the time has before that."""

_MOMENT = 1e-6
"""A sleep of this many seconds hands over to a thread that waits."""

_JUPYTERS = ("ipykernel", "IPython.core", "zmq", "tornado", "tqdm", "zerokernel")
"""Where the threads come from that every notebook has."""

_SUBSHELL = "subshell-"
_POOL = "concurrent.futures.thread"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Other threads that come to run Python meanwhile wait, unless this one waits itself.

    One that waits already has its turn before. What this cannot rule out: that a moment lasts
    longer than others wait, or that several waited.
    """
    before = sys.getswitchinterval()
    try:
        if others_may_run():
            sys.setswitchinterval(max(before, _TURN))
            time.sleep(_MOMENT)
        sys.setswitchinterval(max(before, PATIENCE))
        yield
    finally:
        sys.setswitchinterval(before)


def others_may_run() -> bool:
    """Whether there are threads beside this one that may run a person's code."""
    here = threading.current_thread()
    return any(_may_run(one) for one in threading.enumerate() if one is not here)


def _may_run(thread: threading.Thread) -> bool:
    kind = type(thread)
    made_by: Any = getattr(thread, "_target", None) if kind is threading.Thread else kind
    home = getattr(made_by, "__module__", None) or ""
    if home == _POOL:
        return not _waits_for_work(thread)
    return thread.name.startswith(_SUBSHELL) or not f"{home}.".startswith(
        tuple(f"{module}." for module in _JUPYTERS)
    )


def _waits_for_work(thread: threading.Thread) -> bool:
    """Whether a thread of a pool is in nobody's function, such as that of asyncio's own pool."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_globals.get("__name__") == _POOL
