"""Memory: results that do not fit are refused, and captures do not pile up while cells wait."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import psutil
import pytest

from tests.acceptance.cells import phases, plain, started, until
from tests.acceptance.conftest import Machine
from tests.kernels import Kernel, wait_until

LIMITED = (
    "import resource\n"
    "from pathlib import Path\n"
    "used = int(Path('/proc/self/statm').read_text().split()[{figure}])\n"
    "mapped = used * resource.getpagesize()\n"
    "resource.setrlimit(resource.{kind}, (mapped + (400 << 20), resource.RLIM_INFINITY))\n"
)
MAKE = "import numpy as np\nsmall[0] = 2\nlarge = np.ones(600 << 20, np.uint8)"


def refused(kernel: Kernel, code: str) -> str:
    """What the kernel says to a cell whose results do not fit; nothing may have changed."""
    assert kernel.run("import numpy as np; small = np.zeros(3)").status == "ok"
    run = kernel.run(f"%%gpu\n{code}")
    assert run.status == "error"
    assert run.error()["ename"] == "ResultsTooLarge"
    assert plain(kernel, "print(small[0], 'large' in dir())") == "0.0 False"
    return str(run.error()["evalue"])


@pytest.mark.parametrize(("kind", "figure"), [("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)])
def test_results_beyond_the_kernels_limit_are_refused(
    machine: Machine, kind: str, figure: int
) -> None:
    """The message names need, room and limit; the kernel lives and the next cell runs."""
    kernel = machine.kernel()
    # The worker is there before: the limit is the kernel's alone.
    assert kernel.run("%%gpu\npass").status == "ok"
    assert kernel.run(LIMITED.format(kind=kind, figure=figure)).status == "ok"
    said = refused(kernel, MAKE)
    assert "needs 0.6 GB" in said
    assert re.search(r"can take 0\.[234] GB more", said), said
    assert "ulimit" in said
    run = kernel.run("%%gpu\nsmall[0] = 3")
    assert run.status == "ok", run.reply
    assert plain(kernel, "print(small[0])") == "3.0"


def test_results_beyond_the_control_groups_limit_are_refused(
    own_machine: Machine, group: Path
) -> None:
    """The kernel would have been killed at the first touch of what it may not have."""
    kernel = own_machine.kernel()
    assert kernel.run("%%gpu\npass").status == "ok"
    (group / "cgroup.procs").write_text(str(kernel.pid))
    said = refused(kernel, MAKE.replace("600", "1500"))
    assert "control group's limit of 1.0 GiB" in said
    assert psutil.pid_exists(kernel.pid)
    assert kernel.run("%%gpu\nsmall[0] = 3").status == "ok"
    own_machine.close_kernels()


def _waiting(kernel: Kernel, megabytes: int) -> str:
    """Submits a cell with so large a capture that has to wait; returns its id."""
    make = f"import numpy as np; data = np.ones({megabytes} << 20, np.uint8)"
    assert kernel.run(make).status == "ok"
    cell = kernel.submit("%%gpu\nprint(int(data.sum()) >> 20)\ndel data")
    kernel.watch(cell, lambda run: any(p["phase"] == "queued" for p in phases(run)))
    return cell


def test_captures_beyond_the_budget_wait_in_the_notebook(own_machine: Machine, gate) -> None:
    """Of two that wait one fits into the budget of the machine; both cells run in the end."""
    settings = {"ZEROKERNEL_STAGING_BYTES": str(48 << 20)}
    first, second, third = (own_machine.kernel(**settings) for _ in range(3))
    running = first.submit("%%gpu\n" + until(gate.path))
    first.watch(running, started)
    staging = own_machine.directory / "staging"
    cells = [_waiting(second, 32)]
    shares = wait_until(lambda: _shares(staging), "the first share")
    assert shares == [32 << 20]
    cells.append(_waiting(third, 33))
    assert _shares(staging) == shares, "the other is withheld"
    gate()
    for kernel, cell, size in zip((second, third), cells, ("32", "33"), strict=True):
        run = kernel.collect(cell)
        assert run.status == "ok"
        assert run.text("stdout") == f"{size}\n"
    assert first.collect(running).status == "ok"
    assert _shares(staging) == []


def _shares(directory: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        names = [name for name in os.listdir(directory) if name != "lock"]
        return [int((directory / name).read_text()) // (1 << 20) << 20 for name in names]
    return []
