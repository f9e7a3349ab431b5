"""The end of a cell's time: early enough to come home, and certain."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.acceptance.cells import phases, plain, started, until, worker_pid
from tests.acceptance.test_sharing import _place
from tests.kernels import wait_until
from tests.leftovers import broker_of, live_leases

LONG_CALL = "import ctypes\nctypes.PyDLL(None).usleep(20_000_000)"
"""Holds the interpreter's lock for 20 s: no signal handler runs meanwhile."""


def test_what_a_loop_has_computed_comes_home(kernel):
    """GpuDeadline stops the loop, `finally` runs, and the notebook has it all."""
    run = kernel.run(
        "%%gpu -d 2 --firm\nimport time\nsteps = []\ntry:\n"
        "    while True: steps.append(len(steps)); time.sleep(0.01)\n"
        "finally:\n    cleaned = True"
    )
    error = run.error()
    assert error["ename"] == "GpuDeadline"
    assert "--duration" in error["evalue"]
    assert "steps.append" in "".join(error["traceback"])
    assert "interrupts.py" not in "".join(error["traceback"])
    assert int(plain(kernel, "print(len(steps) * cleaned)")) > 10
    assert 0.5 < phases(run)[-1]["ran"] < 2


def test_a_swallowed_deadline_is_raised_again(kernel):
    """Until it takes effect."""
    run = kernel.run(
        "%%gpu -d 4 --firm\nimport time\ncaught = 0\nwhile caught < 3:\n"
        "    try:\n        time.sleep(60)\n    except BaseException: caught += 1\n"
    )
    assert run.status == "ok", run
    assert plain(kernel, "print(caught)") == "3"


def test_a_deadline_ends_a_cell_once(kernel):
    """What the shell does after the cell's own code is not ended by it a second time."""
    run = kernel.run(
        "%%gpu -d 4 --firm\nimport time\n"
        "get_ipython().events.register('post_execute', lambda: time.sleep(0.7))\n"
        "time.sleep(60)"
    )
    assert run.error()["ename"] == "GpuDeadline"
    assert kernel.run("%gpu restart").status == "ok"


def test_a_finally_block_may_take_its_time(kernel):
    """While a deadline is on its way out it is not raised a second time."""
    run = kernel.run(
        "%%gpu -d 4 --firm\nimport time\ntry:\n    time.sleep(60)\n"
        "finally:\n    time.sleep(0.7)\n    saved = True"
    )
    assert run.error()["ename"] == "GpuDeadline"
    assert plain(kernel, "print(saved)") == "True"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "while True:\n    try: time.sleep(60)\n    except BaseException: pass",
            "caught GpuDeadline",
        ),
        (LONG_CALL, "one call held it"),
        (
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXCPU])\n"
            "time.sleep(60)",
            "inside one long call that Python cannot interrupt at line 5, `time.sleep(60)`",
        ),
    ],
)
def test_a_cell_that_does_not_stop_is_ended_at_its_limit(machine, kernel, body, why):
    """Nothing is applied, and the message says what the cell did instead."""
    plain(kernel, "x = [1]")
    worker_pid(kernel)
    begin = time.monotonic()
    run = kernel.run(f"%%gpu -d 1.5 --firm\nimport time\nx.append(2)\n{body}", timeout=20)
    assert 1.5 <= time.monotonic() - begin < 5
    error = run.error()
    assert error["ename"] == "DeadlineExceeded"
    assert why in error["evalue"]
    assert "Nothing was changed" in error["evalue"]
    assert plain(kernel, "print(x)") == "[1]"
    address = broker_of(machine.directory)
    wait_until(lambda: not live_leases(address), "the release of the lease", 2)
    assert kernel.run("%%gpu\nx.append(3)").status == "ok"


def test_the_limit_is_extended_while_nobody_waits(kernel):
    """The cell runs on, and the status line says why it may."""
    run = kernel.run("%%gpu -d 3\nimport time\ntime.sleep(3.5)\ndone = True")
    assert run.status == "ok", run
    running = [phase for phase in phases(run) if phase["phase"] == "running"]
    assert running[-1]["extended"]
    assert running[-1]["limit"] >= 4
    assert phases(run)[-1]["ran"] >= 3.5


def test_the_limit_holds_when_somebody_waits(machine, gate):
    """Who comes gets the turn that was promised."""
    first, second = machine.kernel(), machine.kernel()
    long = first.submit("%%gpu -d 3\n" + until(gate.path))
    first.watch(long, started)
    waiting = second.submit("%%gpu\nprint('my turn')")
    second.watch(waiting, lambda run: _place(run) == 1)
    assert first.collect(long).error()["ename"] == "GpuDeadline"
    assert second.collect(waiting).text("stdout") == "my turn\n"


def test_an_interrupt_that_cannot_get_through_ends_the_worker(machine, kernel):
    """After two seconds; nothing is applied, and the message says why."""
    plain(kernel, "x = [1]")
    worker = worker_pid(kernel)
    cell = kernel.submit(f"%%gpu -d 100\nx.append(2)\nprint('started', flush=True)\n{LONG_CALL}")
    kernel.watch(cell, started)
    wait_until(lambda: "sleep" in Path(f"/proc/{worker}/wchan").read_text(), "the long call")
    kernel.interrupt()
    error = kernel.collect(cell, timeout=10).error()
    assert error["ename"] == "KeyboardInterrupt"
    assert "did not react" in error["evalue"]
    assert plain(kernel, "print(x)") == "[1]"
    address = broker_of(machine.directory)
    wait_until(lambda: not live_leases(address), "the release of the lease", 2)
    assert worker_pid(kernel) != worker


def test_the_second_interrupt_ends_the_worker(kernel, gate):
    """The first is the cell's own; one that swallows it cannot swallow the next."""
    plain(kernel, "x = [1]")
    body = (
        "import time\nwhile True:\n    try: print('started', flush=True); time.sleep(60)\n"
        "    except KeyboardInterrupt: print('again', flush=True)"
    )
    cell = kernel.submit("%%gpu -d 100\nx.append(2)\n" + body)
    kernel.watch(cell, started)
    kernel.interrupt()
    kernel.watch(cell, lambda run: "again" in run.text())
    kernel.interrupt()
    error = kernel.collect(cell, timeout=10).error()
    assert error["ename"] == "KeyboardInterrupt"
    assert "stopped twice" in error["evalue"]
    assert plain(kernel, "print(x)") == "[1]"
