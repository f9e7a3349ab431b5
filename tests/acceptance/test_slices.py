"""Slices of a simulated machine, asked for and lost as those of a real one: through a kernel."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Machine
from tests.kernels import Kernel, Run, wait_until
from tests.unit.broker.recordings import GIB, MIB, gpu, instance, machine, stranger
from zerokernel.client import fetch_status, find_broker
from zerokernel.settings import Settings, load


class Cluster:
    """A kernel on a broker that simulates a machine, whose recording a test may change."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "machine.json"
        self.place = Machine()
        self.restore()
        self.kernel: Kernel = self.place.kernel(
            ZEROKERNEL_SIMULATED_MACHINE=str(self.file),
            ZEROKERNEL_SIZES=json.dumps({"large": {"cores": 1, "scratch": "1G"}}),
        )

    def restore(self, **change: Any) -> None:
        """An H200 of a GiB in a half and an eighth; ``change`` is of the half."""
        half = instance("MIG-half", memory=480 * MIB, **change)
        eighth = instance("MIG-eighth", "1g.18gb", 120 * MIB, gi=9)
        self.write(gpu("GPU-0", memory=GIB, mig=True, instances=[half, eighth]))

    def write(self, *gpus: Any, **more: Any) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(machine(*gpus, **more)))
        os.replace(new, self.file)

    def settings(self) -> Settings:
        return load({"ZEROKERNEL_RUNTIME_DIRECTORY": str(self.place.directory)})

    def status(self) -> dict[str, Any]:
        address = find_broker(self.settings())
        assert address is not None
        return fetch_status(address)

    def slice(self, kind: str) -> dict[str, Any]:
        return next(one for one in self.status()["slices"] if kind in one["kind"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.place.close()


def ok(run: Run) -> Run:
    assert run.status == "ok", run
    return run


WHERE = "import os; print(os.environ['ZEROKERNEL_SLICE_NAME'], flush=True)"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("--memory 300M", "half H200 (MIG 3g.71gb)"),
        ("--memory 90M --min-capability 9.0", "eighth H200 (MIG 1g.18gb)"),
        ("--size large", "half H200 (MIG 3g.71gb)"),
        ("", "eighth H200 (MIG 1g.18gb)"),
    ],
)
def test_the_smallest_slice_that_holds_it_is_taken_and_named(
    cluster: Cluster, line: str, name: str
) -> None:
    """In the cell, and in the receipt, by name and as what it is."""
    run = ok(cluster.kernel.run(f"%%gpu {line}\n{WHERE}"))
    assert run.text("stdout").strip() == f"simulated {name}"
    assert f"on simulated {name}" in run.own()[-1]["data"]["text/plain"]


@pytest.mark.parametrize(
    ("line", "wish"),
    [
        ("--memory 2G", "with 2 GB of memory"),
        ("--min-capability 10.0", "of capability 10.0"),
        ("--size small --memory 300M", "of size 'small' and with 0.3 GB of memory"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_all_that_can(
    cluster: Cluster, line: str, wish: str
) -> None:
    """Nothing is run, and nothing else is taken in its place."""
    error = cluster.kernel.run(f"%%gpu {line}\nran = True").error()
    assert error["ename"] == "UnknownSize"
    assert f"There is no slice {wish} here." in error["evalue"]
    assert "'small' (simulated MIG 1g.18gb, 1 GB, capability 9.0)" in error["evalue"]
    assert "'large' (simulated MIG 3g.71gb" in error["evalue"]
    assert "NameError" in str(cluster.kernel.run("ran").outputs)


def test_a_plan_means_the_same_slice(cluster: Cluster) -> None:
    """`--plan` speaks of the size that the request would get."""
    run = ok(cluster.kernel.run("%%gpu --plan --memory 2G\n1"))
    assert "no slice of this size" in run.own()[-1]["data"]["text/plain"]
    run = ok(cluster.kernel.run("%%gpu --plan --memory 300M\n1"))
    assert "it would start at once" in run.own()[-1]["data"]["text/plain"]


def test_a_foreign_process_is_told_to_who_waits(cluster: Cluster) -> None:
    """The slice is set aside with the process's name, shown by `%gpu`, and leased when it ends."""
    cluster.restore(processes=[stranger()])
    wait_until(lambda: cluster.slice("3g.71gb")["state"] == "set aside", "the slice set aside")
    assert "mallory" in json.dumps(ok(cluster.kernel.run("%gpu")).own())
    cell = cluster.kernel.submit("%%gpu --size large\nresult = 7")
    cluster.kernel.watch(cell, lambda run: "mallory" in json.dumps(run.own()))
    cluster.restore()
    ok(cluster.kernel.collect(cell))
    assert ok(cluster.kernel.run("print(result)")).text("stdout") == "7\n"


OUT = """%%gpu --size small --quiet
import os, torch, zerokernel
zerokernel.emulate()
worker = os.getpid()
def grow(parts):
    held = [torch.zeros(30 << 20, dtype=torch.uint8, device="cuda") for _ in range(parts)]
    return len(held)
before = "bound before the error"
keep = torch.zeros(20 << 20, dtype=torch.uint8, device="cuda")
fits = grow(3)
grow(5)
"""


def test_out_of_memory_says_what_there_was_and_the_worker_goes_on(cluster: Cluster) -> None:
    """It is torch's own class; what the cell bound before is there, and the next cell fits."""
    pytest.importorskip("torch")
    kernel = cluster.kernel
    error = kernel.run(OUT).error()
    assert error["ename"] == "OutOfMemoryError"
    shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
    held = "still held: 20.00 MiB (keep 20.00 MiB)"
    assert f"simulated eighth H200 (MIG 1g.18gb) has 120.00 MiB; {held}" in shown
    assert "--memory" in shown
    assert "grow(5)" in shown
    assert "_rise" not in shown
    found = ok(kernel.run("print(before, fits)")).text("stdout")
    assert found == "bound before the error 3\n"
    again = "%%gpu --size small --quiet\nprint(grow(3), os.getpid() == worker)"
    assert ok(kernel.run(again)).text("stdout") == "3 True\n"


def test_what_a_cell_uses_has_to_fit(cluster: Cluster) -> None:
    """Memory that an earlier cell left makes way; what does not fit alone is said, and named."""
    pytest.importorskip("torch")
    kernel = cluster.kernel
    ok(
        kernel.run(
            "import os, torch, zerokernel\nzerokernel.emulate()\ncount = 0\n"
            "first = torch.zeros(80 << 20, dtype=torch.uint8, device='cuda')\n"
            "second = torch.zeros_like(first)"
        )
    )
    ok(kernel.run("%%gpu --size small --quiet\nfirst[0] = 1\nworker = os.getpid()"))
    again = "%%gpu --size small --quiet\nsecond[0] = 2\ncount += 1\nprint(os.getpid() == worker)"
    assert ok(kernel.run(again)).text("stdout") == "False\n"
    error = kernel.run("%%gpu --size small\ncount += 1\nboth = first, second").error()
    assert error["ename"] == "DeviceOutOfMemory"
    assert "Nothing was changed" in error["evalue"]
    assert "simulated eighth H200 (MIG 1g.18gb) has 120.00 MiB" in error["evalue"]
    kept = ok(kernel.run("print(count, int(first[0]), int(second[0]), first.device)"))
    assert kept.text("stdout") == "1 1 2 cuda:0\n"
    ok(kernel.run("%%gpu --size large --quiet\nboth = first, second"))
    ok(kernel.run("del first, second, both"))


def test_a_size_carries_its_limits(cluster: Cluster) -> None:
    """The worker of a slice is in the groups that hold it to them; status says what they are."""
    assert cluster.slice("3g.71gb")["limits"] == {"cores": 1, "scratch": 1 << 30}
    code = "%%gpu --size large --quiet\nprint(open('/proc/self/cgroup').read())"
    from zerokernel.containment import possible

    groups = ok(cluster.kernel.run(code)).text("stdout")
    if not possible()["cores"]:
        assert "zerokernel-allowance" in groups


def test_a_hardware_error_ends_the_cell_with_its_reason(cluster: Cluster) -> None:
    """Last: nothing is changed or charged, and the slice stays aside. Others are leased."""
    kernel = cluster.kernel
    ok(kernel.run("values = [1]"))
    code = (
        "%%gpu --size large\nvalues.append(2)\nprint('go', flush=True)\nimport time\ntime.sleep(60)"
    )
    cell = kernel.submit(code)
    kernel.watch(cell, lambda run: "go" in run.text("stdout"))
    recording = json.loads(cluster.file.read_text())
    cluster.write(*recording["gpus"], events=[{"xid": 48, "gpu": "GPU-0", "gi": 1, "ci": 0}])
    error = kernel.collect(cell).error()
    assert error["ename"] == "DeviceLost"
    assert "Xid 48, a memory error that could not be corrected" in error["evalue"]
    assert ok(kernel.run("print(values)")).text("stdout") == "[1]\n"
    assert "Xid 48" in cluster.slice("3g.71gb")["reason"]
    assert ok(kernel.run("%%gpu --quiet\nprint(len(values))")).text("stdout") == "1\n"
