"""What only a real device can show. Nothing here changes a setting of the device."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from tests.kernels import Kernel, wait_until
from zerokernel.broker.scheduling import Slice

MIB = 1 << 20


def values(kernel: Kernel, code: str) -> dict:
    run = kernel.run(code)
    assert run.status == "ok", run
    return json.loads(run.text("stdout"))


def used_memory(uuid: str) -> int:
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    finally:
        pynvml.nvmlShutdown()


def test_discovery_agrees_with_the_drivers_own_tool(slices: list[Slice]):
    """Every slice is a device or instance that `nvidia-smi -L` lists, none is simulated."""
    if (tool := shutil.which("nvidia-smi")) is None:
        pytest.skip("nvidia-smi is not installed")
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=True).stdout
    for one in slices:
        assert one.id in listed
        assert not one.simulated
        assert one.memory > 0
    assert len({one.id for one in slices}) == len(slices)


SEES = """
import json, os, torch
print(json.dumps({
    "available": torch.cuda.is_available(),
    "count": torch.cuda.device_count(),
    "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
}))
"""


def test_a_worker_sees_its_slice_and_the_notebook_sees_none(slices: list[Slice], kernel: Kernel):
    """In a `%%gpu` cell there is exactly the leased device; in a plain cell there is none."""
    inside = values(kernel, "%%gpu --quiet\n" + SEES)
    assert inside["available"]
    assert inside["count"] == 1
    assert inside["visible"] in {one.id for one in slices}
    outside = values(kernel, SEES)
    assert outside["available"] is False


def test_a_cell_computes_on_the_device(kernel: Kernel):
    """The product is computed by the device and agrees with the CPU's in double precision."""
    kernel.run("import json, torch\nleft, right = torch.rand(2, 300, 300, dtype=torch.float64)")
    code = (
        "%%gpu --quiet\n"
        "product = left.to('cuda') @ right.to('cuda')\n"
        "where = str(product.device)\n"
        "product = product.cpu()\n"
    )
    assert kernel.run(code).status == "ok"
    found = values(
        kernel,
        "print(json.dumps([where, str(product.device), torch.allclose(product, left @ right)]))",
    )
    assert found == ["cuda:0", "cpu", True]


def test_a_device_tensor_comes_home_to_the_cpu_and_says_so(kernel: Kernel):
    """A result that lies on the device is in the notebook as a CPU tensor; the receipt names it."""
    run = kernel.run("%%gpu\nimport torch\nresult = torch.arange(5, device='cuda')")
    assert run.status == "ok", run
    receipt = run.own()[-1]["metadata"]["zerokernel"]
    assert any("result" in note for note in receipt["notes"]), receipt
    found = values(kernel, "import json; print(json.dumps([str(result.device), result.tolist()]))")
    assert found == ["cpu", [0, 1, 2, 3, 4]]


HOLDS = f"""%%gpu --quiet
import os, time, torch
held = torch.ones({512 * MIB}, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print(os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
time.sleep(60)
"""


def test_memory_is_back_after_a_kill(slices: list[Slice], kernel: Kernel):
    """A worker that is killed leaves nothing on the device."""
    before = {one.id: used_memory(one.id) for one in slices}
    cell = kernel.submit(HOLDS)
    run = kernel.watch(cell, lambda run: "\n" in run.text("stdout"))
    process, uuid = run.text("stdout").split()
    assert used_memory(uuid) - before[uuid] >= 512 * MIB
    os.kill(int(process), signal.SIGKILL)
    assert kernel.collect(cell).status == "error"
    wait_until(lambda: used_memory(uuid) - before[uuid] < 32 * MIB, "memory coming back", 20)
