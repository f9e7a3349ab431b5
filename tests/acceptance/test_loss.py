"""What happens when a worker, a broker or a person ends a cell."""

from __future__ import annotations

import time

import nbclient
import nbformat
import psutil
import pytest

from tests.acceptance.cells import phases, plain, started, until, worker_pid
from tests.kernels import wait_until
from tests.leftovers import broker_of, ended, live_leases


def _released(machine) -> None:
    address = broker_of(machine.directory)
    wait_until(lambda: not live_leases(address), "the release of the lease", 2)


@pytest.mark.parametrize(
    ("ending", "name"),
    [("os.kill(os.getpid(), 9)", "WorkerKilled"), ("os._exit(3)", "WorkerLost")],
)
def test_a_lost_worker_leaves_the_namespace_untouched(machine, kernel, ending, name):
    """Nothing of a cell whose worker ended is applied; the error says so; the next cell runs."""
    plain(kernel, "import os\nx = [1]; alias = x")
    run = kernel.run(f"%%gpu\nx.append(2)\ny = x\nos.environ['SCRATCH'] = '1'\n{ending}")
    error = run.error()
    assert error["ename"] == name
    assert "Nothing was changed" in error["evalue"]
    state = "print(x, alias is x, 'y' in globals(), 'SCRATCH' in os.environ)"
    assert plain(kernel, state) == "[1] True False False"
    _released(machine)
    assert kernel.run("%%gpu\nx.append(3)").status == "ok"
    assert plain(kernel, "print(x, alias is x)") == "[1, 3] True"


def test_a_parked_worker_may_die(kernel):
    """A worker killed between two cells costs nothing but time."""
    plain(kernel, "x = [1]")
    worker = psutil.Process(worker_pid(kernel))
    worker.kill()
    wait_until(lambda: ended(worker), "the end of the worker", 5)
    run = kernel.run("%%gpu\nx.append(2)")
    assert run.status == "ok", run
    assert plain(kernel, "print(x)") == "[1, 2]"


def test_an_interrupt_ends_the_cell_and_releases_the_lease(machine, kernel, gate):
    """Within a second; what the cell had done before is there, and the worker stays warm."""
    plain(kernel, "x = []")
    before = worker_pid(kernel)
    cell = kernel.submit("%%gpu -d 100\nx.append(1)\n" + until(gate.path))
    kernel.watch(cell, started)
    begin = time.monotonic()
    kernel.interrupt()
    run = kernel.collect(cell, timeout=10)
    _released(machine)
    assert time.monotonic() - begin < 2, "the second that is promised, and one for a busy machine"
    assert run.error()["ename"] == "KeyboardInterrupt"
    assert plain(kernel, "print(x)") == "[1]"
    assert worker_pid(kernel) == before


def test_an_interrupt_ends_a_long_sleep(kernel):
    """The signal reaches the thread that sleeps, whatever other threads there are."""
    for _ in range(3):
        body = "import time\nprint('started', flush=True)\ntime.sleep(600)"
        cell = kernel.submit(f"%%gpu -d 1000\n{body}")
        kernel.watch(cell, started)
        kernel.interrupt()
        error = kernel.collect(cell, timeout=10).error()
        assert error["ename"] == "KeyboardInterrupt"
        assert "did not react" not in error["evalue"]
        assert kernel.run("%gpu restart").status == "ok"


def test_a_cell_that_catches_the_interrupt_goes_on(kernel, gate):
    """The interrupt is the cell's own KeyboardInterrupt, as in a plain cell."""
    code = until(gate.path).replace("while", "try:\n  print('inside', flush=True)\n  while") + (
        "except KeyboardInterrupt:\n  caught = True\n"
    )
    cell = kernel.submit("%%gpu -d 100\n" + code)
    kernel.watch(cell, lambda run: "inside" in run.text())
    kernel.interrupt()
    assert kernel.collect(cell, timeout=10).status == "ok"
    assert plain(kernel, "print(caught)") == "True"


def test_a_broker_killed_between_cells_is_replaced(own_machine):
    """The next cell starts another broker and runs."""
    kernel = own_machine.kernel()
    plain(kernel, "x = [1]")
    worker_pid(kernel)
    first = broker_of(own_machine.directory)
    process = psutil.Process(first.pid)
    process.kill()
    wait_until(lambda: ended(process), "the end of the broker", 5)
    run = kernel.run("%%gpu\nx.append(2)")
    assert run.status == "ok", run
    assert plain(kernel, "print(x)") == "[1, 2]"
    assert broker_of(own_machine.directory).pid != first.pid


def test_a_failing_cell_stops_what_is_queued_behind_it(kernel):
    """As after a plain cell that fails: cells already sent are aborted."""
    first = kernel.submit("%%gpu\nraise ValueError('stop')", stop_on_error=True)
    second = kernel.submit("reached = True", stop_on_error=True)
    assert kernel.collect(first).error()["ename"] == "ValueError"
    assert kernel.collect(second).status == "aborted"
    assert plain(kernel, "print('reached' in globals())") == "False"


def test_a_failing_cell_fails_the_notebook(machine, monkeypatch):
    """nbclient, and with it nbconvert and papermill, raises at the failing cell."""
    monkeypatch.setenv("ZEROKERNEL_RUNTIME_DIRECTORY", str(machine.directory))
    monkeypatch.setenv("ZEROKERNEL_DEVICES", "simulated")
    cells = ["%load_ext zerokernel", "%%gpu\nx = 1\nraise LookupError('here')", "y = 2"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="here"):
        nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    assert notebook.cells[1].outputs[-1]["ename"] == "LookupError"
    assert not notebook.cells[2].outputs


def test_restart_gives_a_fresh_worker(kernel):
    """`%gpu restart` ends the worker; the notebook's objects are in the next one."""
    plain(kernel, "x = [1]")
    before = worker_pid(kernel)
    assert kernel.run("%gpu restart").status == "ok"
    assert worker_pid(kernel) != before
    assert kernel.run("%%gpu\nx.append(2)").status == "ok"
    assert plain(kernel, "print(x)") == "[1, 2]"


def test_a_worker_only_result_is_named_and_usable(kernel):
    """A generator stays in the worker, is in the receipt, and the next GPU cell continues it."""
    run = kernel.run("%%gpu\ng = (i for i in range(5))\nfirst = next(g)")
    assert run.status == "ok", run
    assert "g" in phases(run)[-1]["worker_only"]
    assert plain(kernel, "print(first, 'g' in globals())") == "0 False"
    assert kernel.run("%%gpu\nrest = list(g)").status == "ok"
    assert plain(kernel, "print(rest)") == "[1, 2, 3, 4]"
