"""Cells run inside a loop, which keeps what they leave behind."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from zerokernel.worker.cell_loop import CellLoop


@pytest.fixture
def namespace() -> dict[str, Any]:
    return {}


@pytest.fixture
def loop(namespace: dict[str, Any]) -> Iterator[CellLoop]:
    made = CellLoop(namespace)
    made.start()
    yield made
    made._open_loop().close()
    asyncio.set_event_loop(None)


@pytest.fixture
def alarm(loop: CellLoop) -> Iterator[list[BaseException]]:
    """An error put in here is passed to the loop by a signal handler, 50 ms later."""
    errors: list[BaseException] = []

    def ring(_number: int, _frame: FrameType | None) -> None:
        error = errors.pop()
        if not loop.interrupt(error):
            raise error

    previous = signal.signal(signal.SIGALRM, ring)
    yield errors
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


class Stop(BaseException):
    """Stands for a deadline."""


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_a_cell_runs_inside_a_running_loop(loop: CellLoop) -> None:
    """It can make tasks, which go on in later cells."""

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    async def first() -> asyncio.Task[str]:
        return asyncio.get_running_loop().create_task(work())

    async def second(task: asyncio.Task[str]) -> str:
        return await task

    task = loop.run(first(), awaits=False)
    assert not task.done()
    assert loop.run(second(task), awaits=True) == "done"


@pytest.mark.parametrize(("awaits", "after"), [(False, "set"), (True, "unset")])
def test_context_variables_stay_as_in_ipykernel(loop: CellLoop, awaits: bool, after: str) -> None:
    """What a cell sets stays set, unless the cell awaits."""

    async def cell() -> None:
        variable.set("set")

    contextvars.copy_context().run(lambda: _check_after(loop, cell(), awaits, after))


def _check_after(loop: CellLoop, cell: Any, awaits: bool, after: str) -> None:
    loop.run(cell, awaits=awaits)
    assert variable.get() == after


@pytest.mark.parametrize(
    ("error", "seen"), [(KeyboardInterrupt(), asyncio.CancelledError), (Stop(), Stop)]
)
def test_what_awaits_can_be_ended(
    loop: CellLoop, alarm: list[BaseException], error: BaseException, seen: type[BaseException]
) -> None:
    """The error is raised where the cell awaits: its `finally` runs, and may await again."""
    steps = []

    async def cell() -> None:
        try:
            await asyncio.sleep(30)
        except BaseException as raised:
            steps.append(type(raised))
        finally:
            await asyncio.sleep(0)
            steps.append(None)

    alarm.append(error)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    loop.run(cell(), awaits=True)
    assert steps == [seen, None]


def test_code_of_the_cell_is_ended_by_the_handler(
    loop: CellLoop, alarm: list[BaseException]
) -> None:
    """While the cell's own code runs the loop leaves it to the handler."""

    async def cell() -> str:
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            return "interrupted"
        return "slept"

    alarm.append(KeyboardInterrupt())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    assert loop.run(cell(), awaits=False) == "interrupted"


def test_it_lingers_until_a_task_is_over(loop: CellLoop) -> None:
    """Afterwards nothing is left running; the time that it took is told."""

    async def cell() -> None:
        cell.task = asyncio.create_task(asyncio.sleep(0.1))  # type: ignore[attr-defined]

    loop.run(cell(), awaits=False)
    assert loop.left_running
    assert 0.05 < loop.linger(20, lambda: False) < 10
    assert not loop.left_running
    assert loop.linger(20, lambda: False) < 1


def test_it_lingers_for_threads_that_run_the_notebooks_code(
    loop: CellLoop, namespace: dict[str, Any]
) -> None:
    """A daemon thread counts while a function of the notebook runs in it; another does not."""
    gate = threading.Event()
    namespace["gate"] = gate
    notebooks = eval("lambda: gate.wait(20)", namespace)
    other = threading.Thread(target=gate.wait, args=(20,), daemon=True)
    other.start()
    assert not loop.left_running
    thread = threading.Thread(target=notebooks, daemon=True)
    thread.start()
    assert loop.left_running
    assert loop.linger(20, lambda: True) < 10
    gate.set()
    thread.join()
    other.join()
    assert not loop.left_running


def test_no_longer_than_it_may(loop: CellLoop) -> None:
    """It stops when its time is over, or with another cell, and the task stays."""

    async def cell() -> None:
        cell.task = asyncio.create_task(asyncio.sleep(60))  # type: ignore[attr-defined]

    async def cancel() -> None:
        cell.task.cancel()  # type: ignore[attr-defined]

    loop.run(cell(), awaits=False)
    assert loop.linger(0.1, lambda: False) < 10
    assert loop.linger(0, lambda: False) < 1
    assert loop.left_running
    loop.run(cancel(), awaits=False)
    loop.linger(20, lambda: False)


def test_a_cell_that_closes_the_loop_gets_another(loop: CellLoop) -> None:
    """The next cell runs in a new loop."""
    loop._open_loop().close()

    async def cell() -> int:
        await asyncio.sleep(0)
        return 1

    assert loop.run(cell(), awaits=True) == 1
