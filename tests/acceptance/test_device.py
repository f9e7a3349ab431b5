"""Tensors of a notebook on a device: what moves, what is given back, what an eviction takes."""

from __future__ import annotations

import pytest

from tests.acceptance.cells import phases, plain, worker_pid
from tests.acceptance.conftest import Machine
from tests.kernels import Kernel

pytest.importorskip("torch")

PRETEND = """%%gpu --quiet
import torch
from zerokernel.crossing import device_memory
from zerokernel.crossing.pretended_memory import PretendedMemory
device_memory.pretend(memory := PretendedMemory())
del memory, device_memory, PretendedMemory
"""
LOOK = """%%gpu --quiet
from zerokernel.crossing.device_memory import _in_use
moved = _in_use.pretended.look(); moved = (moved.placed, moved.bytes_there, moved.bytes_home)
del _in_use
"""


@pytest.fixture
def emulating(machine: Machine) -> Kernel:
    """A kernel with an emulated device, whose worker has devices with memory of their own."""
    kernel = machine.kernel(ZEROKERNEL_EMULATE_CUDA="true")
    assert kernel.run(PRETEND).status == "ok"
    return kernel


def moved(kernel: Kernel) -> str:
    assert kernel.run(LOOK).status == "ok"
    return plain(kernel, "print(*moved)")


def test_device_memory_is_given_back_and_used_again(emulating: Kernel) -> None:
    """`%gpu free` leaves nothing on the device; the same worker gets what the next cell uses."""
    kernel = emulating
    plain(
        kernel,
        "import torch\nfirst = torch.ones(300_000, device='cuda')\n"
        "second = torch.ones(100_000, device='cuda'); w = torch.ones(2, requires_grad=True)",
    )
    assert kernel.run("%%gpu\ny = first.sum() + second.sum(); loss = w.sum()").status == "ok"
    assert moved(kernel).split()[:2] == ["2", "1600000"]
    process = worker_pid(kernel)
    run = kernel.run("%gpu free")
    assert run.status == "ok", run
    assert "let go of everything" in run.text("stdout")
    used = "%%gpu --quiet\nimport torch\nprint(torch.cuda.memory_allocated())"
    assert kernel.run(used).text("stdout").strip() == "0"
    assert moved(kernel).startswith("0 ")
    assert kernel.run("%%gpu\ny = y + second[0]").status == "ok"
    assert moved(kernel).split()[:2] == ["2", "400004"]
    assert worker_pid(kernel) == process
    assert plain(kernel, "print(y, first.sum())") == (
        "tensor(400001., device='cuda:0') tensor(300000., device='cuda:0')"
    )


def test_a_cell_frees_what_it_used(emulating: Kernel) -> None:
    """Asked for in a cell, it happens after its results are home; the receipt names the lost."""
    kernel = emulating
    run = kernel.run(
        "%%gpu\nimport torch, zerokernel\nkept = torch.ones(3, device='cuda')\n"
        "only = (n for n in 'ab')\nzerokernel.free_device_memory()"
    )
    assert run.status == "ok", run
    assert any("`only`" in note for note in phases(run)[-1]["notes"])
    used = "%%gpu --quiet\nimport torch\nprint(torch.cuda.memory_allocated())"
    assert kernel.run(used).text("stdout").strip() == "0"
    assert plain(kernel, "print(kept)") == "tensor([1., 1., 1.], device='cuda:0')"
    assert plain(kernel, "zerokernel.free_device_memory(); print('here')") == "here"


def test_an_evicted_worker_takes_nothing_along(emulating: Kernel, machine: Machine) -> None:
    """What a cell made on the device is the notebook's when another notebook gets the slice."""
    kernel = emulating
    made = (
        "%%gpu\nmodel = torch.nn.Linear(300, 300, device='cuda')\n"
        "with torch.no_grad():\n    model.weight.fill_(2)\n"
        "opt = torch.optim.AdamW(model.parameters())\n"
        "model(torch.ones(1, 300, device='cuda')).sum().backward(); opt.step()"
    )
    assert kernel.run(made).status == "ok"
    process = worker_pid(kernel)
    assert machine.kernel().run("%%gpu\npass").status == "ok"
    told = "print(model.weight.device, model.weight.grad.sum().item(), len(opt.state))"
    assert plain(kernel, told) == "cuda:0 90000.0 2"
    assert kernel.run("%%gpu\nopt.step(); where = str(model.weight.device)").status == "ok"
    assert worker_pid(kernel) != process
    assert plain(kernel, "print(where, opt.state[model.weight]['step'])") == "cuda:0 tensor(2.)"


BROKEN = """%%gpu
import torch
class Device:
    def is_initialized(self): return True
    def device_count(self): return 2
    def memory_allocated(self): return 0
    def memory_reserved(self, index): return index
    def synchronize(self, index):
        torch.cuda = was
        assert index == 1, "a device that is not used"
        raise RuntimeError("an illegal memory access was encountered")
was, torch.cuda = torch.cuda, Device()
done = 1
"""


def test_what_a_device_reports_late_is_the_cells_error(kernel: Kernel) -> None:
    """A cell ends when the device has done all; what it did before comes home."""
    plain(kernel, "import torch")
    run = kernel.run(BROKEN)
    assert run.error()["ename"] == "RuntimeError"
    assert "illegal memory access" in run.error()["evalue"]
    assert plain(kernel, "print(done)") == "1"
    assert kernel.run("%%gpu\ndone += 1").status == "ok"


def test_errors_of_plain_cells_have_no_frames_of_the_emulation(kernel: Kernel) -> None:
    """Also those of an error that caused another."""
    kernel.run("import torch\nleaf = torch.ones(3, requires_grad=True, device='cuda')")
    for code in (
        "leaf.add_(1)",
        "try: leaf.add_(1)\nexcept RuntimeError as e: raise KeyError from e",
    ):
        shown = "".join(kernel.run(code).error()["traceback"])
        assert "in-place operation" in shown
        assert "emulation" not in shown, shown
