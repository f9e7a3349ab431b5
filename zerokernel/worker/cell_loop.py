"""The event loop inside which cells run, as they do in ipykernel."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures.thread import _threads_queues
from types import FrameType
from typing import Any

_UNSET: Any = object()

LOOK_SECONDS = 0.05
"""So often it is looked whether what a cell left behind has ended."""


class CellLoop:
    """Runs cells on the main thread, each inside a running loop, which keeps their tasks.

    `asyncio.get_running_loop()` and `create_task` work in a cell as in a notebook, and a signal
    handler can end what a cell awaits.

    Args:
        namespace: The globals of notebook functions.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cell: _CellCoroutine | None = None

    def start(self) -> None:
        """Makes the loop, in the forked worker."""
        self._open_loop()

    def run(self, cell: Coroutine[Any, Any, Any], *, awaits: bool) -> Any:
        """Runs one cell to its end; what it raises is raised here.

        Context variables that it sets stay set, unless it awaits: as in ipykernel.
        """
        loop, context = self._open_loop(), contextvars.copy_context()
        self._cell = _CellCoroutine(cell)
        try:
            return loop.run_until_complete(self._cell.start(loop, context))
        finally:
            self._cell = None
            if not awaits:
                _take_over(context)

    def interrupt(self, error: BaseException) -> bool:
        """From a signal handler: has the cell raise the error where it awaits.

        Of a KeyboardInterrupt it sees a CancelledError, as in ipykernel.

        Returns:
            False where no cell awaits anything: the handler raises the error itself.
        """
        return self._cell is not None and self._cell.interrupt(error)

    def call_soon(self, work: Callable[[], None]) -> None:
        """From any thread: has the work done when the loop turns, in a cell that awaits."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # a cell closed it
                self._loop.call_soon_threadsafe(work)

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():  # a cell may close what it gets
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    # --- after the cell -----------------------------------------------------------------

    @property
    def left_running(self) -> bool:
        """Whether tasks or threads of cells go on: what they use must stay, and may change."""
        return bool(asyncio.all_tasks(self._open_loop())) or self._threads_left()

    def linger(self, seconds: float, enough: Callable[[], bool]) -> float:
        """Lets tasks and threads that cells left go on until they end, or it is enough.

        Returns:
            How many seconds it took.
        """
        begun = time.monotonic()
        if seconds > 0 and self.left_running:
            self._open_loop().run_until_complete(self._linger(begun + seconds, enough))
        return time.monotonic() - begun

    async def _linger(self, until: float, enough: Callable[[], bool]) -> None:
        while not enough() and (left := until - time.monotonic()) > 0:
            if len(asyncio.all_tasks()) == 1 and not self._threads_left():
                return
            await asyncio.sleep(min(left, LOOK_SECONDS))

    def _threads_left(self) -> bool:
        """Threads that run notebook code, or for which a process would wait at its end."""
        frames = sys._current_frames()
        others = set(threading.enumerate()) - {threading.current_thread()}
        return any(
            (not thread.daemon and thread not in _threads_queues)  # an idle executor's may wait
            or self._runs_notebook_code(frames.get(thread.ident or 0))
            for thread in others
        )

    def _runs_notebook_code(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_globals is self._namespace:
                return True
            frame = frame.f_back
        return False


def _take_over(context: contextvars.Context) -> None:
    """Sets in this thread's context what was set in the other one."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


class _CellCoroutine(Coroutine[Any, Any, Any]):
    """A cell's coroutine, whose cancellation can be turned into another error."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self._running = False
        self._instead: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None

    def start(
        self, loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> asyncio.Task[Any]:
        self._task = loop.create_task(self, context=context)
        return self._task

    def interrupt(self, error: BaseException) -> bool:
        if self._running or self._task is None:
            return False
        self._instead = None if isinstance(error, KeyboardInterrupt) else error
        task, loop = self._task, self._task.get_loop()
        # The handler runs on the loop's thread, but the loop may be waiting for its sockets.
        loop.call_soon_threadsafe(task.cancel)
        return True

    def send(self, value: Any) -> Any:
        with self._as_running():
            return self._inner.send(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        given = error if isinstance(error, BaseException) else value or error()
        if isinstance(given, asyncio.CancelledError) and self._instead is not None:
            given, self._instead = self._instead, None
        with self._as_running():
            return self._inner.throw(given)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    @contextlib.contextmanager
    def _as_running(self) -> Generator[None, None, None]:
        self._running = True
        try:
            yield
        finally:
            self._running = False
