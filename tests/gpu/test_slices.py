"""Slices of a real machine between two uses. Nothing here changes a setting of the device."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.gpu.test_leased_device import used_memory
from tests.kernels import Kernel, wait_until
from zerokernel.broker.devices import Devices, NvidiaDevices, ReplayNvml, Use, choose_devices
from zerokernel.broker.devices.replay import record
from zerokernel.broker.scheduling import Slice
from zerokernel.settings import load

MIB = 1 << 20
CANARY = 0x5AFE_C0DE_5AFE_C0DE

HOLDS = """
import sys, torch
held = torch.full(({size} // 8,), {value}, dtype=torch.int64, device="cuda")
torch.cuda.synchronize()
print("held", flush=True)
sys.stdin.readline()
"""

LOOKS = """
import torch
free, _ = torch.cuda.mem_get_info()
found = 0
blocks = []
while True:
    try:
        block = torch.empty((256 << 20) // 8, dtype=torch.int64, device="cuda")
    except torch.OutOfMemoryError:
        break
    blocks.append(block)
    found += int((block == {value}).sum())
print(found)
"""

FAILS = """
import torch
values = torch.zeros(4, device="cuda")
values[torch.tensor([99], device="cuda")].sum().item()
"""


@pytest.fixture
def devices(slices: list[Slice]) -> Iterator[Devices]:
    pytest.importorskip("torch")
    found = choose_devices(
        load({**os.environ, "ZEROKERNEL_DEVICES": "nvidia"}), os.environ.get("CUDA_VISIBLE_DEVICES")
    )
    found.discover()
    yield found
    found.close()


def on(one: Slice) -> dict[str, str]:
    return {**os.environ, **one.environment}


def hold(one: Slice, size: int, value: int = 1) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(size=size, value=value)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=on(one),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]", number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def test_a_recording_of_this_machine_gives_its_slices(slices: list[Slice]):
    """What is recorded here is replayed as the machine itself was."""
    import pynvml

    recording = json.loads(json.dumps(record(pynvml)))
    replayed = {one.id: one for one in NvidiaDevices(ReplayNvml(recording)).discover()}
    for one in slices:
        assert replayed[one.id].memory == one.memory
        assert (replayed[one.id].kind, replayed[one.id].capability) == (one.kind, one.capability)


def test_memory_of_a_killed_process_is_waited_for(slices: list[Slice], devices: Devices):
    """Clean means that it is back at its baseline."""
    one = slices[0]
    before = used_memory(one.id)
    process = hold(one, 2048 * MIB)
    assert used_memory(one.id) - before >= 2048 * MIB
    end(process)
    assert devices.clean(one, scrub=False) == ""
    assert used_memory(one.id) - before < 300 * MIB


def test_what_was_there_cannot_be_read_after_a_scrub(slices: list[Slice], devices: Devices):
    """A canary in half of the memory; the next process, taking all of it, finds none."""
    one = slices[0]
    process = hold(one, one.memory // 2, CANARY)
    end(process)
    assert devices.clean(one, scrub=True) == ""
    looked = subprocess.run(
        [sys.executable, "-c", LOOKS.format(value=CANARY)],
        env=on(one),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(looked.stdout) == 0


def test_a_process_that_is_not_ours_is_noticed(slices: list[Slice], devices: Devices):
    """Where the driver lists processes: a stranger's sets the slice aside, until it ends."""
    import pynvml

    one = slices[0]
    process = hold(one, 64 * MIB)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(one.id)
        listed = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        pynvml.nvmlShutdown()
        if not listed:
            pytest.skip("this driver lists no processes here")
        for _ in range(2):
            troubles = devices.find_troubles(slices, Use())
        assert one.id in troubles
        ours = Use(frozenset({one.id}), frozenset({os.getpid()}))
        assert devices.find_troubles(slices, ours) == {}
    finally:
        end(process)
    wait_until(lambda: not devices.find_troubles(slices, Use()), "the slice is well again", 20)


def test_a_cells_own_fault_leaves_the_slice_in_service(slices: list[Slice], devices: Devices):
    """A device-side assertion may be reported as an Xid: of the cell, not of the device."""
    one = slices[0]
    failed = subprocess.run([sys.executable, "-c", FAILS], env=on(one), capture_output=True)
    assert failed.returncode != 0
    assert devices.clean(one, scrub=False) == ""
    assert devices.find_troubles(slices, Use()) == {}


def test_out_of_memory_says_who_has_it(kernel: Kernel):
    """It is torch's own class with what the slice has; the same worker goes on."""
    code = (
        "%%gpu --quiet\nimport os, torch\nworker = os.getpid()\n"
        "keep = torch.zeros(256 << 20, dtype=torch.uint8, device='cuda')\n"
        "torch.empty(1 << 45, dtype=torch.uint8, device='cuda')"
    )
    error = kernel.run(code).error()
    assert error["ename"] == "OutOfMemoryError"
    shown = "\n".join(error["traceback"])
    assert "keep 256.00 MiB" in shown
    again = "%%gpu --quiet\nprint(torch.ones(3, device='cuda').sum().item(), os.getpid() == worker)"
    assert kernel.run(again).text("stdout") == "3.0 True\n"
