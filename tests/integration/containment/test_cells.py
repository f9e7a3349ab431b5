"""Whole `%%gpu` cells of a real kernel under each mechanism."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.acceptance.cells import plain, worker_pid
from tests.acceptance.conftest import Machine
from tests.kernels import Kernel, processes_with, unique, wait_until
from tests.leftovers import broker_of
from zerokernel.client.rest import fetch_status
from zerokernel.containment import NAMES, probe
from zerokernel.containment.processes import is_alive

BACKGROUND = """%%gpu --quiet
import os, subprocess, sys
code = '''
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    os.fork()
    os.setsid() if os.getpgrp() != os.getpid() else None
os.write(1, b"x")
time.sleep(600)
'''
mark = {{**os.environ, "HOSTILE": "{mark}"}}
started = subprocess.Popen(
    [sys.executable, "-c", code], env=mark, start_new_session=True, stdout=subprocess.PIPE
)
assert started.stdout.read(8) == b"x" * 8  # before the worker is parked, and so frozen
del os, subprocess, sys, code, mark, started
"""


@pytest.fixture(scope="module", params=NAMES)
def house(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Kernel]]:
    """One machine and kernel for all cells of a mechanism: a supervisor takes seconds to start."""
    (finding,) = probe([request.param])
    if not finding.works:
        pytest.skip(f"{finding.name}: {finding.reason}")
    machine = Machine()
    yield machine, machine.kernel(ZEROKERNEL_CONTAINMENT=finding.name)
    machine.close()


@pytest.fixture
def machine(house: tuple[Machine, Kernel]) -> Machine:
    return house[0]


@pytest.fixture
def kernel(house: tuple[Machine, Kernel]) -> Kernel:
    return house[1]


def status(machine: Machine) -> dict[str, object]:
    address = broker_of(machine.directory)
    assert address is not None
    return fetch_status(address)


def supervisor(machine: Machine) -> psutil.Process:
    (one,) = status(machine)["engine"]["supervisors"]  # type: ignore[index]
    return psutil.Process(one["process"])


def test_the_wanted_mechanism_is_used(machine: Machine, kernel: Kernel, request) -> None:
    """The supervisor tries it at its start, uses it, and says so in its log."""
    worker_pid(kernel)
    (log,) = machine.directory.glob("supervisor-*.log")
    assert f"contained by: {request.node.callspec.params['house']}" in log.read_text()


def test_everybody_calls_the_worker_by_one_id(machine: Machine, kernel: Kernel) -> None:
    """Broker, kernel and supervisor know it by the id by which the machine does."""
    worker = worker_pid(kernel)
    assert psutil.Process(worker).ppid() == supervisor(machine).pid
    (session,) = status(machine)["sessions"]  # type: ignore[misc]
    assert session["worker"]["process"] == worker
    assert f"process {worker}" in kernel.run("%gpu").outputs[0]["data"]["text/plain"]


def test_arrays_cross_both_ways(kernel: Kernel) -> None:
    """Two megabytes go in, are changed in place and come back, beside two that are new."""
    plain(kernel, "import numpy\nx = numpy.arange(250_000.0)\nalias = x")
    run = kernel.run("%%gpu\ny = x * 2\nx[:] = x[::-1].copy()")
    assert run.status == "ok", run
    assert plain(kernel, "print(alias is x, x[0], y.sum())") == "True 249999.0 62499750000.0"


def test_processes_of_a_cell_work(kernel: Kernel) -> None:
    """A program, torch's loader with two processes, and psutil, which looks itself up in /proc."""
    pytest.importorskip("torch")
    run = kernel.run(
        "%%gpu\nimport subprocess, psutil, os, torch\n"
        "told = subprocess.run(['sh', '-c', 'echo $PPID'], capture_output=True, text=True).stdout\n"
        "data = torch.utils.data.TensorDataset(torch.arange(64))\n"
        "loader = torch.utils.data.DataLoader(data, batch_size=8, num_workers=2)\n"
        "total = sum(int(batch.sum()) for (batch,) in loader)\n"
        "same = int(told) == os.getpid() == psutil.Process().pid\n"
        "del data, loader"
    )
    assert run.status == "ok", run
    assert plain(kernel, "print(total, same)") == "2016 True"


def test_a_worker_that_kills_itself(kernel: Kernel) -> None:
    """It is told as killed, nothing of its cell is applied, and the next cell runs."""
    plain(kernel, "z = [1]")
    error = kernel.run("%%gpu\nimport os\nz.append(2)\nos.kill(os.getpid(), 9)").error()
    assert error["ename"] == "WorkerKilled"
    assert kernel.run("%%gpu\nz.append(3)").status == "ok"
    assert plain(kernel, "print(z)") == "[1, 3]"


def test_a_restart_ends_what_a_cell_left_behind(kernel: Kernel) -> None:
    """Eight processes that ignore signals and left the session die with their worker."""
    mark = unique("hostile")
    assert kernel.run(BACKGROUND.format(mark=mark)).status == "ok"
    assert len(list(processes_with("HOSTILE", mark))) == 8
    kernel.run("%gpu restart")
    wait_until(lambda: not list(processes_with("HOSTILE", mark)), "their end", 5)


def test_a_killed_supervisor_leaves_nothing(machine: Machine, kernel: Kernel) -> None:
    """The broker ends its worker and what a cell left behind; the next cell has a new one."""
    mark = unique("hostile")
    assert kernel.run(BACKGROUND.format(mark=mark)).status == "ok"
    assert len(list(processes_with("HOSTILE", mark))) == 8
    worker, before = worker_pid(kernel), supervisor(machine)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), "the end of the worker", 5)
    wait_until(lambda: not list(processes_with("HOSTILE", mark)), "the end of the rest", 5)
    broker = psutil.Process(status(machine)["pid"])  # type: ignore[arg-type]
    assert not [one for one in broker.children() if one.status() == psutil.STATUS_ZOMBIE]
    wait_until(lambda: kernel.run("%%gpu\nz = 4").status == "ok", "a cell that runs again", 30)
    assert supervisor(machine).pid != before.pid
