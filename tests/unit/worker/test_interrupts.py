import os
import signal
from collections.abc import Iterator

import pytest

from zerokernel.worker.interrupts import Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    previous = signal.getsignal(signal.SIGINT)
    installed = Interrupts()
    installed.install()
    yield installed
    signal.signal(signal.SIGINT, previous)


def press_stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_outside_of_a_cell_nothing_happens(interrupts: Interrupts) -> None:
    """An interrupt between cells is dropped."""
    press_stop()


def test_inside_it_raises(interrupts: Interrupts) -> None:
    """An interrupt in a cell raises KeyboardInterrupt there."""
    with pytest.raises(KeyboardInterrupt), interrupts.in_cell():
        press_stop()


def test_one_that_comes_early_is_kept_for_the_announced_cell(interrupts: Interrupts) -> None:
    """The kernel may send it as soon as it knows of the start; the cell gets it."""
    interrupts.announce_cell()
    press_stop()
    with pytest.raises(KeyboardInterrupt), interrupts.in_cell():
        pass
    with interrupts.in_cell():
        pass


def test_it_waits_for_a_message_to_be_written(interrupts: Interrupts) -> None:
    """While output is moved on the interrupt is held, and raised after."""
    written = []

    def write_message() -> None:
        with interrupts.in_cell(), interrupts.held():
            press_stop()
            with interrupts.held():
                written.append("whole")

    with pytest.raises(KeyboardInterrupt):
        write_message()
    assert written == ["whole"]


def test_a_cell_that_takes_the_signal_gives_it_back(interrupts: Interrupts) -> None:
    """A cell may set its own handler; after the cell ours is back."""
    with interrupts.in_cell():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        press_stop()
    with pytest.raises(KeyboardInterrupt), interrupts.in_cell():
        press_stop()
