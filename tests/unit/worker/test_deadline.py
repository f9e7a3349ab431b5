"""The thread that watches a cell's time."""

from __future__ import annotations

import threading
import time

import pytest

from tests.kernels import wait_until
from zerokernel.worker.deadline import Deadline, describe_main_thread


class Raised:
    """Stands for the main thread: notes when, and with what, a deadline is raised in it."""

    deadline_seen = False

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.first = threading.Event()

    def raise_deadline(self, text: str) -> None:
        self.texts.append(text)
        self.first.set()


class Watched:
    """A deadline whose broker answers as ``extended`` says, in seconds."""

    def __init__(self, extended: float = 0.0) -> None:
        self.raised = Raised()
        self.asked = threading.Event()
        self.stuck: list[str] = []
        self._extended = extended
        self.deadline = Deadline(self.raised, self._ask, self.stuck.append)

    def _ask(self) -> None:
        self.asked.set()
        if self._extended:
            self.deadline.extend(self._extended)

    def waits(self) -> bool:
        return self.deadline._wakes_at > time.monotonic()


def test_the_broker_is_asked_before_the_deadline_is_raised() -> None:
    """And the text tells the limit that was over."""
    watched = Watched()
    watched.deadline.start(0.4)
    assert watched.raised.first.wait(10)
    assert watched.asked.is_set()
    assert "0.4 s" in watched.raised.texts[0]
    watched.deadline.stop()


def test_a_longer_limit_replaces_the_one_that_is_nearly_over() -> None:
    """The next deadline is that of the longer one."""
    watched = Watched(extended=1.0)
    begun = time.monotonic()
    watched.deadline.start(0.4)
    assert watched.raised.first.wait(10)
    assert time.monotonic() - begun >= 0.5
    assert "1 s" in watched.raised.texts[0]
    watched.deadline.stop()


def test_a_limit_can_be_shortened_for_a_reason() -> None:
    """The reason is told, and nobody is asked for more time, which there is not."""
    watched = Watched()
    watched.deadline.start(600)
    watched.deadline.extend(0.4)
    assert watched.deadline._limit == 600, "not without one"
    watched.deadline.extend(0.4, "had to")
    assert watched.raised.first.wait(10)
    assert "give way" in watched.raised.texts[0]
    assert "It had to." in watched.raised.texts[0]
    assert not watched.asked.is_set()
    watched.deadline.stop()


@pytest.mark.parametrize("rested", [False, True])
def test_a_short_cell_after_a_long_one_is_stopped_in_time(rested: bool) -> None:
    """Also where the thread has just gone to wait for the long one, or for any cell at all."""
    watched = Watched()
    watched.deadline.start(600)
    wait_until(watched.waits, "the thread that watches", 10)
    watched.deadline.stop()
    if rested:
        wait_until(lambda: watched.deadline._wakes_at == float("inf"), "its rest", 10)
    begun = time.monotonic()
    watched.deadline.start(0.4)
    assert watched.raised.first.wait(10)
    assert time.monotonic() - begun >= 0.2
    assert "0.4 s" in watched.raised.texts[0]
    watched.deadline.stop()


def test_a_cell_that_is_over_is_not_stopped() -> None:
    """Nor is the next one at the end of the first one's time."""
    watched = Watched()
    watched.deadline.start(0.4)
    wait_until(watched.waits, "the thread that watches", 10)
    watched.deadline.stop()
    watched.deadline.start(1.0)
    begun = time.monotonic()
    assert watched.raised.first.wait(10)
    assert time.monotonic() - begun >= 0.45
    assert "1 s" in watched.raised.texts[0]
    watched.deadline.stop()


def test_a_deadline_that_is_swallowed_is_raised_again() -> None:
    """Until shortly before the limit, when what the cell does is reported."""
    watched = Watched()
    watched.deadline.start(1.5)
    wait_until(lambda: watched.stuck, "the report", 10)
    assert len(watched.raised.texts) >= 2
    watched.deadline.stop()


def test_what_the_main_thread_does_is_told_with_its_line() -> None:
    """The one that stands in a cell, or the innermost."""
    assert "long call" in describe_main_thread(deadline_seen=False)
    assert "caught GpuDeadline" in describe_main_thread(deadline_seen=True)
