"""Several notebooks on few slices: turns, evictions, places, and who leaves the queue."""

from __future__ import annotations

import random

from tests.acceptance.cells import phases, plain, started, until
from tests.kernels import wait_until
from tests.leftovers import broker_of
from zerokernel.client.rest import fetch_status


def _places(run) -> list[tuple[int, str]]:
    return [(p["place"], p["reason"]) for p in phases(run) if p["phase"] == "queued"]


def _queue(machine) -> list[str]:
    return [row["request"] for row in fetch_status(broker_of(machine.directory))["queue"]]


def test_five_notebooks_share_two_slices(own_machine):
    """Every cell runs once, in its own notebook, whoever was evicted in between."""
    kernels = [own_machine.kernel(ZEROKERNEL_SIMULATED_SLICES="2") for _ in range(5)]
    for number, kernel in enumerate(kernels):
        plain(kernel, f"mine = [{number}]; alias = mine")
    rounds = 3
    turns = [kernel for kernel in kernels for _ in range(rounds)]
    random.Random(7).shuffle(turns)
    cells = [(k, k.submit("%%gpu -d 30\nmine.append(len(mine))\nprint('ran')")) for k in turns]
    for kernel, cell in cells:
        run = kernel.collect(cell)
        assert run.status == "ok", run
        assert run.text("stdout") == "ran\n"
    for number, kernel in enumerate(kernels):
        assert plain(kernel, "print(mine, alias is mine)") == f"[{number}, 1, 2, 3] True"
    status = fetch_status(broker_of(own_machine.directory))
    assert len(status["slices"]) == 2
    assert not status["queue"]


def test_a_place_never_rises_without_a_reason(machine, gate):
    """Places count down as those before leave the queue."""
    kernels = [machine.kernel() for _ in range(4)]
    long = kernels[0].submit("%%gpu -d 100\n" + until(gate.path))
    kernels[0].watch(long, started)
    waiting = []
    for place, kernel in enumerate(kernels[1:], 1):
        cell = kernel.submit("%%gpu\npass")
        kernel.watch(cell, lambda run, place=place: place in [p for p, _ in _places(run)])
        waiting.append((kernel, cell))
    kernels[1].interrupt()
    assert kernels[1].collect(waiting[0][1]).error()["ename"] == "KeyboardInterrupt"
    for place, (kernel, cell) in enumerate(waiting[1:], 1):
        kernel.watch(cell, lambda run, place=place: _places(run)[-1][0] == place)
    gate()
    for kernel, cell in [(kernels[0], long), *waiting[1:]]:
        run = kernel.collect(cell)
        assert run.status == "ok"
        places = [place for place, _ in _places(run)]
        assert places == sorted(places, reverse=True)
        assert all(reason for _, reason in _places(run))


def test_a_kernel_that_dies_leaves_the_queue(machine, gate):
    """Who waited behind it moves up at once."""
    first, second, third = (machine.kernel() for _ in range(3))
    long = first.submit("%%gpu -d 100\n" + until(gate.path))
    first.watch(long, started)
    doomed = second.submit("%%gpu\npass")
    second.watch(doomed, lambda run: bool(_places(run)))
    waiting = third.submit("%%gpu\npass")
    third.watch(waiting, lambda run: _places(run)[-1:] and _places(run)[-1][0] == 2)
    second.kill()
    third.watch(waiting, lambda run: _places(run)[-1][0] == 1, timeout=5)
    assert len(_queue(machine)) == 1
    gate()
    assert first.collect(long).status == "ok"
    assert third.collect(waiting).status == "ok"


def test_a_waiting_cell_is_cancelled_from_a_subshell(machine, gate):
    """`%gpu cancel` withdraws the request; the cell says so and nothing of it is applied."""
    first, second = machine.kernel(), machine.kernel()
    long = first.submit("%%gpu -d 100\n" + until(gate.path))
    first.watch(long, started)
    waiting = second.submit("%%gpu\nnever = 1")
    second.watch(waiting, lambda run: bool(_places(run)))
    second.submit("%gpu cancel", subshell=second.open_subshell())
    run = second.collect(waiting, timeout=10)
    assert run.error()["ename"] == "RequestCancelled"
    wait_until(lambda: not _queue(machine), "the request's withdrawal", 5)
    assert plain(second, "print('never' in globals())") == "False"
    gate()
    assert first.collect(long).status == "ok"
    assert second.run("%%gpu\npass").status == "ok"
