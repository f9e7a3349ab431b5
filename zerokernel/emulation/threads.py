"""Modes belong to a thread: every thread gets one, those that are alive already too."""

from __future__ import annotations

import _thread
import concurrent.futures.thread as pools
import ctypes
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
    """Has the threads that are alive push the mode, or pop it, as soon as Python runs in them.

    A profile function that takes itself back does it. Where somebody profiles this process,
    nothing is done; threads of executors are then reached at their next work item.
    """
    if sys.getprofile() is not None or threading.active_count() < 2:
        return
    if hasattr(threading, "setprofile_all_threads"):
        threading.setprofile_all_threads(_once)
        sys.setprofile(None)
        threading.setprofile(None)
    else:
        _reach_by_state()


def _once(frame: Any, event: str, arg: Any) -> None:
    sys.setprofile(None)
    _join()


def _once_by_state(own: Any, frame: Any, event: int, arg: Any) -> int:
    sys.setprofile(None)
    _join()
    return 0


_POINTER = ctypes.c_void_p
_callback = ctypes.PYFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int, _POINTER)(
    _once_by_state
)


def _reach_by_state() -> None:
    """What `setprofile_all_threads` does, in Python 3.11; the GIL is held all the while."""
    api = ctypes.pythonapi
    for name in ("PyThreadState_Get", "PyInterpreterState_Main"):
        getattr(api, name).restype = ctypes.c_void_p
    for name in ("PyInterpreterState_ThreadHead", "PyThreadState_Next"):
        getattr(api, name).restype = ctypes.c_void_p
        getattr(api, name).argtypes = [ctypes.c_void_p]
    set_profile = api._PyEval_SetProfile
    set_profile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    mine = api.PyThreadState_Get()
    other = api.PyInterpreterState_ThreadHead(api.PyInterpreterState_Main())
    while other:
        if other != mine:
            set_profile(other, ctypes.cast(_callback, _POINTER), None)
        other = api.PyThreadState_Next(other)


def patches() -> list[Patch]:
    """What is replaced so that threads have a mode."""
    return [
        # Not `run`: subclasses have one of their own.
        Patch(threading.Thread, "_bootstrap_inner", _bootstrap),
        Patch(_thread, "start_new_thread", _start),
        Patch(_thread, "start_new", _start),
        Patch(_WorkItem, "run", _work),
    ]
