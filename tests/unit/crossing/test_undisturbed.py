import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from tests.kernels import wait_until
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
    """One that waited already may run once; else none does, where without it several would.

    Not each time: on a busy machine a moment may last longer than others wait.
    """
    assert max(seen_meanwhile(ticks, nullcontext()) for _ in range(5)) > 2
    assert min(seen_meanwhile(ticks, undisturbed()) for _ in range(5)) <= 1


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


def test_any_thread_of_a_person_counts():
    """A thread, and one of a pool while it is given work."""
    begun, go = threading.Event(), threading.Event()

    def work():
        begun.set()
        go.wait(30)

    before = others_may_run()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        begun.wait(30)
        while_at_work = others_may_run()
        go.set()
    go.clear()
    thread = threading.Thread(target=work)
    thread.start()
    beside_a_thread = others_may_run()
    go.set()
    thread.join()
    assert (while_at_work, beside_a_thread, others_may_run()) == (True, True, before)


def test_a_thread_of_a_pool_that_waits_for_work_does_not_count():
    """It is in nobody's function, as those of asyncio's own pool are between two uses."""
    before = others_may_run()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        wait_until(lambda: others_may_run() is before, "the end of what the pool did")
