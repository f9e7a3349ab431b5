"""`zerokernel.emulate()`: before and after the import of torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE_TORCH = """
import sys
import zerokernel
from zerokernel.emulation import DeviceProfile
zerokernel.emulate(DeviceProfile(name="first"))
zerokernel.emulate(DeviceProfile(name="half a GPU"))
assert "torch" not in sys.modules
import torch
from zerokernel.emulation import movement
print(torch.cuda.get_device_name(), torch.ones(1).to("cuda").device, movement.copying.lazily)
zerokernel.emulate(DeviceProfile(name="another"))
print(torch.cuda.get_device_name(), movement.copying.lazily)
"""

AFTER_TORCH = """
import torch
import zerokernel
tensor = torch.ones(1)
zerokernel.emulate()
from zerokernel.emulation import movement
print(tensor.to("cuda").device, movement.copying.lazily)
"""

TAKEN_BACK = """
import zerokernel
from zerokernel.ambient.cuda import end_emulation
zerokernel.emulate()
end_emulation()
import torch
print(torch.cuda.is_available(), torch._C._len_torch_function_stack())
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (BEFORE_TORCH, "half a GPU cuda:0 True\nanother True\n"),
        (AFTER_TORCH, "cuda:0 False\n"),
        (TAKEN_BACK, "False 0\n"),
    ],
    ids=["before torch", "after torch", "taken back before torch"],
)
def test_it_begins_with_torch(code: str, printed: str) -> None:
    """It imports no torch; the last wish counts; copies wait only where every tensor is known."""
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
