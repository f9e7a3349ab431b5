"""Kernels on one machine take turns on its slice."""

from __future__ import annotations

import psutil

from tests.acceptance.cells import phases, plain, started, until, worker_pid
from tests.kernels import Run, wait_until
from tests.leftovers import broker_of, ended, live_leases


def _place(run: Run) -> int | None:
    places = [p["place"] for p in phases(run) if p["phase"] == "queued"]
    return places[-1] if places else None


def test_the_second_kernel_sees_its_place_and_gets_its_turn(machine, gate):
    """While one kernel's cell runs, another's waits, shows place 1, and runs afterwards."""
    first, second = machine.kernel(), machine.kernel()
    long = first.submit("%%gpu -d 100\n" + until(gate.path) + "done = True")
    first.watch(long, started)
    waiting = second.submit("%%gpu\nx = 'my turn'\nprint(x)")
    run = second.watch(waiting, lambda run: _place(run) == 1)
    assert not run.text("stdout")
    gate()
    assert first.collect(long).status == "ok"
    run = second.collect(waiting)
    assert run.status == "ok"
    assert run.text("stdout") == "my turn\n"
    receipt = phases(run)[-1]
    assert receipt["phase"] == "receipt"
    assert receipt["waited"] > 0
    assert plain(first, "print(done)") == "True"
    assert plain(second, "print(x)") == "my turn"


def test_three_kernels_run_in_the_order_of_their_requests(machine, gate):
    """Places count up in the queue and down as it moves."""
    kernels = [machine.kernel() for _ in range(3)]
    long = kernels[0].submit("%%gpu -d 100\n" + until(gate.path))
    kernels[0].watch(long, started)
    second_gate = gate.path.with_name("second")
    second = kernels[1].submit("%%gpu -d 100\n" + until(second_gate))
    kernels[1].watch(second, lambda run: _place(run) == 1)
    third = kernels[2].submit("%%gpu\nprint('third')")
    kernels[2].watch(third, lambda run: _place(run) == 2)
    gate()
    kernels[1].watch(second, started)
    run = kernels[2].watch(third, lambda run: _place(run) == 1)
    assert "third" not in run.text("stdout")
    second_gate.touch()
    assert kernels[2].collect(third).text("stdout") == "third\n"
    for kernel, cell in ((kernels[0], long), (kernels[1], second)):
        assert kernel.collect(cell).status == "ok"


def test_a_killed_kernel_frees_the_slice(machine, gate):
    """`kill -9` of a kernel ends its worker and its lease, and the next kernel gets its turn."""
    first, second = machine.kernel(), machine.kernel()
    worker = psutil.Process(worker_pid(first))
    long = first.submit("%%gpu -d 100\n" + until(gate.path))
    first.watch(long, started)
    waiting = second.submit("%%gpu\nprint('free')")
    second.watch(waiting, lambda run: _place(run) == 1)
    first.kill()
    assert second.collect(waiting, timeout=10).text("stdout") == "free\n"
    wait_until(lambda: ended(worker), "the end of the dead kernel's worker", 5)


def test_a_waiting_cell_can_be_interrupted(machine, gate):
    """An interrupt withdraws the request; the queue is empty and the kernel goes on."""
    first, second = machine.kernel(), machine.kernel()
    long = first.submit("%%gpu -d 100\n" + until(gate.path))
    first.watch(long, started)
    waiting = second.submit("%%gpu\nnever = 1")
    second.watch(waiting, lambda run: _place(run) == 1)
    second.interrupt()
    run = second.collect(waiting, timeout=10)
    assert run.error()["ename"] == "KeyboardInterrupt"
    assert plain(second, "print('never' in globals())") == "False"
    address = broker_of(machine.directory)
    assert not [row for row in live_leases(address) if row.startswith("queued")]
    gate()
    assert first.collect(long).status == "ok"


def test_an_evicted_worker_loses_no_data(machine):
    """A parked worker gives way to another kernel; its notebook's next cell has all objects."""
    first, second = machine.kernel(), machine.kernel()
    plain(first, "data = {'n': [1]}; alias = data['n']")
    assert first.run("%%gpu --quiet\ndata['n'].append(2)").status == "ok"
    assert second.run("%%gpu --quiet\nother = 1").status == "ok"
    assert first.run("%%gpu --quiet\nalias.append(3)").status == "ok"
    assert plain(first, "print(data, alias is data['n'])") == "{'n': [1, 2, 3]} True"
