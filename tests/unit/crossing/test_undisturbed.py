import sys
import threading
import time
from contextlib import nullcontext

import pytest

from zerokernel.crossing.undisturbed import others_may_run, undisturbed


@pytest.fixture
def ticks():
    """A list to which a thread appends all the time."""
    stop, ticks = threading.Event(), []

    def tick():
        while not stop.is_set():
            ticks.append(1)
            time.sleep(0.0002)

    thread = threading.Thread(target=tick)
    thread.start()
    yield ticks
    stop.set()
    thread.join()


def seen_meanwhile(ticks, how):
    """How often the thread ran while this one computed for a tenth of a second."""
    with how:
        before, end = len(ticks), time.perf_counter() + 0.1
        while time.perf_counter() < end:
            pass
        return len(ticks) - before


def test_other_threads_wait(ticks):
    """One that waited already may run once; else none does, where without it several would."""
    assert max(seen_meanwhile(ticks, nullcontext()) for _ in range(5)) > 2
    assert all(seen_meanwhile(ticks, undisturbed()) <= 1 for _ in range(5))


def test_the_interval_is_given_back():
    """Also where what is done fails, and a longer one of the person's is kept."""
    before = sys.getswitchinterval()
    with pytest.raises(ValueError, match="no"), undisturbed():
        raise ValueError("no")
    assert sys.getswitchinterval() == before
    sys.setswitchinterval(1.0)
    try:
        with undisturbed():
            assert sys.getswitchinterval() == 1.0
    finally:
        sys.setswitchinterval(before)


def test_threads_of_a_person_are_told_from_jupyters():
    """Any thread counts, but for those that a kernel and the session have themselves."""
    go = threading.Event()
    for name, counts in (("IOPub", False), ("zerokernel-events", False), ("Thread-7", True)):
        before = others_may_run()
        thread = threading.Thread(target=go.wait, name=name)
        thread.start()
        assert others_may_run() is (before or counts)
    go.set()
