"""The emulation comes and goes without a trace."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch

from zerokernel import emulation
from zerokernel.emulation import install as installing
from zerokernel.emulation.patches import Patch, PatchTable
from zerokernel.errors import CannotEmulate, EmulatedDeviceOnly


def everything() -> dict[tuple[str, str], Any]:
    """Every attribute of what is patched, by the object that stands there."""
    emulation.emulate()
    table = installing._state.table
    assert table is not None
    owners = {id(patch.owner): patch.owner for patch in table.patches}
    emulation.remove()
    return {
        (repr(owner), name): value
        for owner in owners.values()
        for name, value in vars(owner).items()
        if name not in ("__warningregistry__", "__dict__", "__weakref__")
    }


def test_nothing_is_said_of_what_was_removed() -> None:
    """Its address may be another object's by then."""
    emulation.emulate()
    ours = torch.cuda.utilization
    assert emulation.path_of(ours) == ("torch.cuda", "utilization")
    emulation.remove()
    assert torch.cuda.utilization is not ours
    assert emulation.path_of(ours) is None


def test_nothing_is_left() -> None:
    """After `remove` every attribute is the very object that it was, and no mode is left."""
    before = everything()
    registry = list(torch.serialization._package_registry)
    emulation.emulate()
    assert torch.cuda.is_available()
    tensor = torch.ones(2, device="cuda")
    emulation.remove()
    after = everything()
    assert before.keys() == after.keys()
    assert [key for key in before if before[key] is not after[key]] == []
    assert torch._C._len_torch_function_stack() == 0
    assert torch.serialization._package_registry == registry
    assert not torch.cuda.is_available()
    assert str(tensor.device) == "cpu"
    assert tensor.numpy().tolist() == [1.0, 1.0]


def test_twice_is_once() -> None:
    """A second call changes what the device says of itself; one `remove` is enough."""
    emulation.emulate()
    emulation.emulate(emulation.DeviceProfile(name="other", memory=5 << 30, count=2))
    assert torch.cuda.get_device_name() == "other"
    assert torch.cuda.mem_get_info(1) == (5 << 30, 5 << 30)
    assert torch._C._len_torch_function_stack() == 1
    emulation.remove()
    emulation.remove()
    assert torch._C._len_torch_function_stack() == 0


def test_suspended() -> None:
    """Meanwhile device tensors are CPU tensors; afterwards they are where they were."""
    emulation.emulate()
    try:
        tensor = torch.ones(2, device="cuda")
        with emulation.suspended():
            assert str(tensor.device) == "cpu"
            assert not torch.cuda.is_available()
        assert str((tensor + 1).device) == "cuda:0"
    finally:
        emulation.remove()


def test_tensors_from_before_are_on_the_cpu() -> None:
    """What was made before the emulation began is on the CPU, and can be moved."""
    tensor = torch.ones(2)
    emulation.emulate()
    try:
        assert str(tensor.device) == "cpu"
        assert str(tensor.to("cuda").device) == "cuda:0"
    finally:
        emulation.remove()


def test_what_somebody_else_replaced_stays() -> None:
    """A patch over ours is not undone by us."""

    class Owner:
        value = 1

    table = PatchTable([Patch(Owner, "value", 2), Patch(Owner, "fresh", 3)])
    table.install()
    Owner.value = 4
    table.remove()
    assert Owner.value == 4
    assert not hasattr(Owner, "fresh")


def test_modes_of_others_stay() -> None:
    """A mode that lies above ours on the stack is there afterwards."""
    from torch.overrides import TorchFunctionMode

    class Seeing(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    seen: list[str] = []
    emulation.emulate()
    with Seeing():
        assert str(torch.nn.functional.relu(torch.ones(1, device="cuda")).device) == "cuda:0"
        assert "relu" in seen
        emulation.remove()
        assert torch._C._len_torch_function_stack() == 1
    assert torch._C._len_torch_function_stack() == 0


def in_a_process(code: str) -> str:
    """Runs code in a fresh interpreter, where warnings are errors, and gives what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_no_torch() -> None:
    """The package can be imported, and asked to go, without torch."""
    code = "import sys, zerokernel.emulation as e; e.remove(); print('torch' in sys.modules)"
    assert in_a_process(code) == "False\n"


OPERATOR = """
from zerokernel import emulation
emulation.emulate()
import torch

library = torch.library.Library("zktest", "FRAGMENT")
library.define("scaled(Tensor x, float by) -> Tensor")

def scaled(x, by):
    return (torch.full((1,), by, device=x.device) * x).to(x.dtype, copy=True)

library.impl("scaled", scaled, "CompositeImplicitAutograd")

@torch.library.custom_op("zktest::shifted", mutates_args=())
def shifted(x: torch.Tensor) -> torch.Tensor:
    return x + torch.arange(len(x), device=x.device)

shifted.register_autograd(lambda ctx, grad: grad * torch.ones(1, device=grad.device))
x = torch.ones(3, device="cuda", requires_grad=True)
result = shifted(torch.ops.zktest.scaled(x, 2.0))
result.sum().backward()
print(result.device, result.tolist(), x.grad.device, x.grad.tolist())
print(torch.ops.zktest.scaled(torch.ones(1), 3.0))
emulation.remove()
print(shifted(torch.ones(2)), torch.ops.zktest.scaled(torch.ones(1), 3.0))
"""


def test_an_operator_written_in_python() -> None:
    """It finds the device of its arguments, computes there, and works without the emulation."""
    assert in_a_process(OPERATOR) == (
        "cuda:0 [2.0, 3.0, 4.0] cuda:0 [2.0, 2.0, 2.0]\ntensor([3.])\n"
        "tensor([1., 2.]) tensor([3.])\n"
    )


ADDRESS = """
from zerokernel import emulation
emulation.emulate()
import torch

class Watched(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

for device in ("cpu", "cuda"):
    x = torch.ones(3, device=device).as_subclass(Watched)
    print(x.data_ptr() != 0, x.get_device(), x.is_cuda, x.is_pinned(), x.is_shared())
"""


def test_what_a_subclass_is_asked_of_its_memory() -> None:
    """A class that hands every function on, as torchao's do, is answered."""
    assert in_a_process(ADDRESS) == "True -1 False False False\nTrue 0 True False True\n"


def test_a_copy_of_a_tag_is_on_the_same_device() -> None:
    """Tensors of tensors carry one among their attributes, which are copied and pickled."""
    emulation.emulate()
    try:
        from zerokernel.emulation.devices import ATTRIBUTE, Tag, devices

        carried = {ATTRIBUTE: Tag(devices.at(0), 0)}
        for copied in (copy.deepcopy(carried), pickle.loads(pickle.dumps(carried))):
            assert copied[ATTRIBUTE].on is devices.at(0)
    finally:
        emulation.remove()


COMPILED = """
import warnings
from zerokernel import emulation
emulation.emulate()
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = torch.compile(torch.nn.Linear(2, 2).to("cuda"))
    twice = torch.compile(lambda t: t * 2)
    print(twice(torch.ones(2, device="cuda")), model(torch.ones(1, 2, device="cuda")).device)
    model(torch.ones(1, 2, device="cuda")).sum().backward()
    print([str(one.message) for one in caught if "%%gpu" in str(one.message)])
class Model(torch.nn.Module):
    def forward(self, t):
        return t + 1
try:
    torch.export.export(Model(), (torch.ones(2, device="cuda"),))
except RuntimeError as error:
    print(type(error).__name__, error)
print(torch.export.export(Model(), (torch.ones(2),)).module()(torch.ones(2)))
print(torch.jit.script(torch.nn.Linear(2, 2))(torch.ones(1, 2)).shape)
emulation.remove()
"""


def test_compilers_do_not_end_the_process() -> None:
    """`torch.compile` runs eagerly and says so once; `torch.export` of the device is refused."""
    lines = in_a_process(COMPILED).splitlines()
    assert lines[0] == "tensor([2., 2.], device='cuda:0') cuda:0"
    assert lines[1].count("In a %%gpu cell it compiles.") == 1
    assert lines[2].startswith("EmulatedDeviceOnly torch.export cannot record")
    assert lines[3:] == ["tensor([2., 2.])", "torch.Size([1, 2])"]


AUTOGRAD = """
from zerokernel import emulation
emulation.emulate()
import threading
import torch
def train():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LSTM(4, 4)).to("cuda")
    t = torch.randn(3, 4, device="cuda", requires_grad=True)
    out, _ = model(t)
    out.sum().backward(retain_graph=True)
    g, = torch.autograd.grad(out.square().sum(), t, create_graph=True)
    g.sum().backward()
    seen.append(str(t.grad.device))
seen = []
threads = [threading.Thread(target=train) for _ in range(3)]
for one in threads: one.start()
for one in threads: one.join()
train()
print(seen)
"""


def test_autograd_does_not_end_the_process() -> None:
    """Backward passes, also twice and in threads, work on device tensors."""
    assert in_a_process(AUTOGRAD) == f"{['cuda:0'] * 4}\n"


def test_a_real_device_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch sees a device, it is not emulated."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(CannotEmulate, match="CUDA_VISIBLE_DEVICES"):
        emulation.emulate()


def test_what_needs_a_device_says_so() -> None:
    """CUDA graphs cannot be recorded here, and the error says where they can."""
    emulation.emulate()
    try:
        with pytest.raises(EmulatedDeviceOnly, match="%%gpu"):
            torch.cuda.CUDAGraph()
        with pytest.raises(EmulatedDeviceOnly, match="%%gpu"):
            torch.cuda.graph(None)
        assert torch.cuda.CUDAGraph | None  # as libraries write in annotations
        with pytest.raises(BufferError, match="%%gpu"):
            torch.utils.dlpack.to_dlpack(torch.ones(2, device="cuda"))
    finally:
        emulation.remove()


def test_another_thread_may_install_it() -> None:
    """Where a thread imports torch, the emulation reaches the main thread too."""
    thread = threading.Thread(target=emulation.emulate)
    thread.start()
    thread.join()
    try:
        assert str(torch.ones(1, device="cuda").device) == "cuda:0"
    finally:
        emulation.remove()
    assert torch._C._len_torch_function_stack() == 0


def test_classes_of_wrappers_are_as_before() -> None:
    """A class whose tensors are made of tensors has its own `__torch_dispatch__` again."""

    class Wrapped(torch.Tensor):
        inner: torch.Tensor

        @staticmethod
        def __new__(cls, inner: torch.Tensor) -> Any:
            return torch.Tensor._make_wrapper_subclass(
                cls, inner.shape, dtype=inner.dtype, device=inner.device
            )

        def __init__(self, inner: torch.Tensor) -> None:
            self.inner = inner

        @classmethod
        def __torch_dispatch__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return cls(func(*(one.inner if isinstance(one, cls) else one for one in args)))

    before = vars(Wrapped)["__torch_dispatch__"]
    emulation.emulate()
    on_device = Wrapped(torch.ones(2, device="cuda"))
    assert str((on_device + 1).inner.device) == "cuda:0"
    assert vars(Wrapped)["__torch_dispatch__"] is not before
    emulation.remove()
    assert vars(Wrapped)["__torch_dispatch__"] is before
    assert str((on_device + 1).device) == "cpu"
