"""Modes belong to a thread: every thread gets one, those that are alive already too."""

from __future__ import annotations

import _thread
import concurrent.futures.thread as pools
import sys
import threading
from collections.abc import Callable
from typing import Any

from zerokernel.emulation import mode
from zerokernel.emulation.patches import Patch

_Thread: Any = threading.Thread
_bootstrap_before = _Thread._bootstrap_inner
_start_before = _thread.start_new_thread
_WorkItem: Any = pools._WorkItem
_work_before = _WorkItem.run


class _State:
    """The mutable state: whether threads get a mode now."""

    active = False


state = _State()


def _bootstrap(self: Any) -> None:
    _join()
    _bootstrap_before(self)


def _work(self: Any, *args: Any) -> None:
    _join()
    _work_before(self, *args)


def _start(function: Callable[..., Any], args: Any, *rest: Any) -> int:
    def started(*given: Any, **named: Any) -> Any:
        _join()
        return function(*given, **named)

    return _start_before(started, args, *rest)


def _join() -> None:
    if state.active:
        mode.push()
    elif mode.here.mode is not None:
        mode.pop()  # the emulation was removed while this thread lived


def reach_living() -> None:
    """Pushes the mode in threads that are alive, at their next call of a Python function.

    Threads of executors are reached at their next work item, whatever the version.
    """
    if hasattr(threading, "setprofile_all_threads") and sys.getprofile() is None:
        others = [t for t in threading.enumerate() if t is not threading.current_thread()]
        if others:
            threading.setprofile_all_threads(_once)
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # None takes it back


def _once(frame: Any, event: str, arg: Any) -> None:
    sys.setprofile(None)
    _join()


def patches() -> list[Patch]:
    """What is replaced so that threads have a mode."""
    return [
        # Not `run`: subclasses have one of their own.
        Patch(threading.Thread, "_bootstrap_inner", _bootstrap),
        Patch(_thread, "start_new_thread", _start),
        Patch(_thread, "start_new", _start),
        Patch(_WorkItem, "run", _work),
    ]
