"""Tensors on a device, on their way: emulated in the notebook, on a device or emulated there."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Pair

torch = pytest.importorskip("torch")

from zerokernel import emulation  # noqa: E402
from zerokernel.crossing.pretended_memory import Traffic  # noqa: E402

EMULATING = """
import torch
from zerokernel import emulation
emulation.emulate(emulation.DeviceProfile(count=2))
"""
WITH_DEVICES = f"""{EMULATING}
from zerokernel.crossing import device_memory
from zerokernel.crossing.pretended_memory import PretendedMemory
device_memory.pretend(PretendedMemory(2))
"""
LOOK = "from zerokernel.crossing.device_memory import _in_use; _result = _in_use.pretended.look()"
BIG = 300_000
"""Numbers of 32 bits: more than one chunk."""


@pytest.fixture(scope="module", autouse=True)
def emulating() -> Iterator[None]:
    """This process, the notebook's, has two emulated devices."""
    emulation.emulate(emulation.DeviceProfile(count=2))
    yield
    emulation.remove()


@pytest.fixture(scope="module", params=[EMULATING, WITH_DEVICES], ids=["emulated", "devices"])
def shared_cuda_pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(prepare=request.param)
    yield pair
    pair.close()


@pytest.fixture
def pair(shared_cuda_pair: Pair) -> Pair:
    """A worker that emulates as well, and one with devices of its own memory."""
    shared_cuda_pair.reset()
    return shared_cuda_pair


@pytest.fixture(scope="module")
def shared_device_pair() -> Iterator[Pair]:
    pair = Pair(prepare=WITH_DEVICES)
    yield pair
    pair.close()


@pytest.fixture
def devices(shared_device_pair: Pair) -> Pair:
    """The latter alone."""
    shared_device_pair.reset()
    traffic(shared_device_pair)
    return shared_device_pair


def traffic(pair: Pair) -> Traffic:
    """What went to the worker's devices and back since the last look."""
    pair.cell(LOOK, names=[])
    found: Traffic = pair.staged.extra["result"]
    return found


def test_devices_hold_on_both_sides(pair: Pair) -> None:
    """Tensors of the notebook are on their devices in the worker; results on theirs at home."""
    pair.namespace.update(
        a=torch.arange(4.0, device="cuda"),
        b=torch.ones(2, device="cuda:1"),
        c=torch.ones(3),
        big=torch.zeros(BIG, device="cuda"),
    )
    pair.cell(
        "assert [str(t.device) for t in (a, b, c, big)] == ['cuda:0', 'cuda:1', 'cpu', 'cuda:0']\n"
        "a += 1; d = b * 2; e = c + 1; f = big[5:] + 1; big[7] = 3"
    )
    found = {name: str(pair.namespace[name].device) for name in "abcdef"}
    assert found == {
        "a": "cuda:0",
        "b": "cuda:1",
        "c": "cpu",
        "d": "cuda:1",
        "e": "cpu",
        "f": "cuda:0",
    }
    assert pair.namespace["a"].tolist() == [1, 2, 3, 4]
    assert pair.namespace["big"].sum().item() == 3
    assert pair.namespace["f"].sum().item() == BIG - 5


def test_a_model_moves_in_a_cell(pair: Pair) -> None:
    """`model.to("cuda")` in the cell moves the notebook's own parameters, and `.cpu()` back."""
    pair.plain("import torch\nmodel = torch.nn.Linear(300, 300)")
    weight = pair.namespace["model"].weight
    before = weight.detach().clone()
    pair.cell("model.to('cuda')")
    assert pair.namespace["model"].weight is weight
    assert str(weight.device) == "cuda:0"
    assert torch.equal(weight.detach().cpu(), before)
    pair.cell("assert str(model.weight.device) == 'cuda:0'; model.cpu()")
    assert str(weight.device) == "cpu"
    pair.plain("model.to('cuda:1')")
    pair.cell("where = str(model.weight.device); model.weight.data[0, 0] = 5")
    assert pair.namespace["where"] == "cuda:1"
    assert weight[0, 0].item() == 5


def test_training_agrees_with_local_training(pair: Pair) -> None:
    """Weights, gradients and the optimizer's state are those of plain cells, bit by bit."""
    make = (
        "import torch\ntorch.manual_seed(0)\ntorch.set_num_threads(1)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))\n"
        "model[1].weight = model[0].weight\nmodel.to('cuda')\n"
        "opt = torch.optim.AdamW(model.parameters(), lr=0.1)\n"
        "x = torch.ones(4, 64, device='cuda')"
    )
    step = "opt.zero_grad(); loss = model(x).pow(2).mean(); loss.backward(); opt.step()"
    local: dict[str, Any] = {}
    pair.plain(make)
    exec(make, local)
    for _ in range(2):
        pair.cell(step)
        exec(step, local)
    pair.plain("opt.zero_grad(); model(x).pow(2).mean().backward(); opt.step()")
    exec("opt.zero_grad(); model(x).pow(2).mean().backward(); opt.step()", local)
    pair.cell(step)
    exec(step, local)
    ours, theirs = pair.namespace["model"], local["model"]
    assert ours[1].weight is ours[0].weight
    assert torch.equal(ours[0].weight, theirs[0].weight)
    assert torch.equal(ours[0].weight.grad, theirs[0].weight.grad)
    assert str(ours[0].weight.grad.device) == "cuda:0"
    state = pair.namespace["opt"].state[ours[0].weight]
    assert torch.equal(state["exp_avg"], local["opt"].state[theirs[0].weight]["exp_avg"])
    assert str(state["exp_avg"].device) == "cuda:0"
    assert str(pair.namespace["loss"].device) == "cuda:0"


def test_views_stay_views(pair: Pair) -> None:
    """A view on the device is one afterwards, also one that a cell made."""
    x = torch.zeros(BIG, device="cuda")
    pair.namespace.update(x=x, v=x[10:20])
    pair.cell("v += 1; w = x[:5]; w[0] = 9")
    assert x[10:20].sum().item() == 10
    assert x[0].item() == 9
    assert pair.namespace["w"].untyped_storage() is x.untyped_storage()


def test_data_swapped_to_another_device(pair: Pair) -> None:
    """`.data =` with a tensor of another device moves the notebook's tensor."""
    pair.namespace["t"] = t = torch.ones(3)
    pair.cell("import torch; t.data = torch.full((3,), 2.0, device='cuda')")
    assert (str(t.device), t.tolist()) == ("cuda:0", [2, 2, 2])
    pair.cell("assert t.is_cuda; t.data = t.data.cpu() + 1")
    assert (str(t.device), t.tolist()) == ("cpu", [3, 3, 3])


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_pinned_memory_and_other_layouts(pair: Pair) -> None:
    """Pinned, sparse and quantised tensors keep what they are."""
    pair.plain(
        "import torch\n"
        "p = torch.ones(5).pin_memory()\n"
        "s = torch.eye(3).to_sparse().to('cuda')\n"
        "r = torch.eye(3).to_sparse_csr().to('cuda')"
    )
    pair.cell(
        "assert p.is_pinned() and str(s.device) == str(r.device) == 'cuda:0'\n"
        "q = torch.ones(2).pin_memory(); s2 = (s + s).coalesce(); m = torch.ones(2, device='meta')"
    )
    names = pair.namespace
    assert names["p"].is_pinned()
    assert names["q"].is_pinned()
    assert str(names["s2"].device) == "cuda:0"
    assert names["s2"].to_dense().sum().item() == 6
    assert str(names["m"].device) == "meta"


def test_generators(pair: Pair) -> None:
    """A generator on the device goes on where the other side left it."""
    pair.plain("import torch\ng = torch.Generator('cuda').manual_seed(3)")
    local = torch.Generator("cuda").manual_seed(3)
    pair.cell("a = torch.rand(3, device='cuda', generator=g)")
    pair.plain("b = torch.rand(3, device='cuda', generator=g)")
    pair.cell("c = torch.rand(3, device='cuda', generator=g)")
    for name in "abc":
        expected = torch.rand(3, device="cuda", generator=local)
        assert torch.equal(pair.namespace[name], expected)
    assert str(pair.namespace["g"].device) == "cuda:0"


def test_freed_tensor_gives_its_memory_back(pair: Pair) -> None:
    """Nothing of ours keeps a tensor of the device, nor counts its bytes, after it went."""
    pair.namespace["d"] = {"x": torch.zeros(BIG, device="cuda")}
    pair.cell("n = len(d)")
    alive = weakref.ref(pair.namespace["d"]["x"].untyped_storage())
    pair.shipment = None
    used = torch.cuda.memory_allocated()
    pair.plain("del d")
    assert alive() is None
    assert used - torch.cuda.memory_allocated() >= 4 * BIG


# --- how often it moves -----------------------------------------------------------------


def test_one_transfer_a_storage(devices: Pair) -> None:
    """A model with views and ties moves once, one transfer for each storage that the cell uses."""
    devices.plain(
        "import torch\n"
        "model = torch.nn.Sequential(*(torch.nn.Linear(200, 200) for _ in range(3))).to('cuda')\n"
        "model[2].weight = model[0].weight\n"
        "view = model[0].weight.detach()[5:9]\n"
        "unused = torch.ones(1000, device='cuda'); host = torch.ones(1000)"
    )
    devices.cell("y = sum(p.sum() for p in model.parameters()).item(); v = view.sum().item()",
                 names=["model", "view", "host"])  # fmt: skip
    found = traffic(devices)
    assert found.placed == 5
    assert found.bytes_there == 4 * (2 * 200 * 200 + 3 * 200)
    assert found.written == 0


def test_unchanged_tensors_do_not_move_again(devices: Pair) -> None:
    """The next cell finds them there: nothing moves either way; sums are made on the device."""
    devices.plain("import torch\nbig = torch.ones(300_000, device='cuda')")
    devices.cell("s = big.sum().item()")
    traffic(devices)
    devices.cell("s = big.sum().item()")
    assert traffic(devices) == Traffic()


def test_what_changed_moves_alone(devices: Pair) -> None:
    """Of a tensor that changed on one side, the chunks that changed move, and no others."""
    devices.plain("import torch\nbig = torch.ones(3 << 20, dtype=torch.uint8, device='cuda')")
    devices.cell("s = big.sum().item()")
    traffic(devices)
    devices.plain("big[5] = 7")
    devices.cell("s = int(big[5])")
    found = traffic(devices)
    assert (found.placed, found.written, found.bytes_there) == (0, 1, 256 << 10)
    assert (found.read, devices.namespace["s"]) == (0, 7)
    devices.cell("big[1 << 20] = 9")
    found = traffic(devices)
    assert (found.read, found.bytes_home, found.bytes_there) == (1, 256 << 10, 0)
    assert devices.namespace["big"][1 << 20].item() == 9


def test_results_come_home_once(devices: Pair) -> None:
    """A result is read once; using it in the next cell moves nothing."""
    devices.cell("import torch; r = torch.ones(300_000, device='cuda')")
    found = traffic(devices)
    assert (found.read, found.bytes_home, found.placed) == (1, 1_200_000, 0)
    devices.cell("r2 = float(r[0])")
    assert traffic(devices) == Traffic()
    assert devices.namespace["r"].sum().item() == 300_000


def test_another_worker_gets_all_again(devices: Pair) -> None:
    """When the worker is lost nothing is: what it made on the device is the notebook's."""
    devices.cell(
        "import torch; r = torch.ones(300_000, device='cuda')\n"
        "m = torch.nn.Linear(9, 9, device='cuda')"
    )
    devices.kernel.forget_worker()
    devices.reset_worker()
    assert devices.namespace["r"].sum().item() == 300_000
    traffic(devices)
    devices.cell("r += 1; m.weight.data.fill_(2)")
    assert traffic(devices).placed == 3
    assert devices.namespace["r"].sum().item() == 600_000
    assert devices.namespace["m"].weight.sum().item() == 162


def test_a_notebook_without_emulation_gets_cpu_tensors(devices: Pair) -> None:
    """Results on a device are CPU tensors there, with a note; in the worker they stay there."""
    with emulation.suspended():
        committed = devices.cell("import torch; r = [torch.ones(4, device='cuda')]")
        assert str(devices.namespace["r"][0].device) == "cpu"
        assert any("r[0]" in note for note in committed.notes)
        devices.plain("r[0][1] = 5")
        committed = devices.cell("where, total = str(r[0].device), r[0].sum().item(); r[0] += 1")
        assert devices.namespace["where"] == "cuda:0"
        assert devices.namespace["total"] == 8
        assert devices.namespace["r"][0].tolist() == [2, 6, 2, 2]


def test_no_such_device(devices: Pair) -> None:
    """A tensor on a device that the worker lacks fails the cell, with a message that says so."""
    emulation.emulate(emulation.DeviceProfile(count=3))
    devices.namespace["t"] = torch.ones(2, device="cuda:2")
    with pytest.raises(AssertionError, match="cuda:2"):
        devices.cell("t")


def test_default_generators_and_hooks(pair: Pair) -> None:
    """The device's own generator is itself on both sides; hooks see its device."""
    pair.plain(
        "import torch\nown = torch.cuda.default_generators[1]; seen = []\n"
        "x = torch.ones(2, device='cuda', requires_grad=True)\n"
        "hook = lambda g: seen.append(str(g.device))\nhandle = x.register_hook(hook)\n"
        "stream = torch.cuda.Stream('cuda:1')"
    )
    own = pair.namespace["own"]
    pair.cell(
        "assert own is torch.cuda.default_generators[1]; (x * 2).sum().backward()\n"
        "with torch.cuda.stream(stream): where = torch.cuda.current_device()\n"
        "grad = x.grad + 1"
    )
    assert pair.namespace["own"] is own
    assert pair.namespace["seen"] == ["cuda:0"]
    assert pair.namespace["where"] == 1
    assert pair.namespace["x"].grad.tolist() == [2, 2]


@pytest.fixture(scope="module")
def shared_bare_pair() -> Iterator[Pair]:
    pair = Pair(prepare="import torch")
    yield pair
    pair.close()


def test_a_worker_that_has_no_device(shared_bare_pair: Pair) -> None:
    """It computes on the CPU; the notebook's own tensors stay on their device."""
    pair = shared_bare_pair
    pair.reset()
    pair.plain(
        "import torch\ng = torch.Generator('cuda').manual_seed(3)\n"
        "x = torch.ones(2, device='cuda', requires_grad=True); big = torch.ones(300_000).cuda()\n"
        "handle = x.register_hook(lambda g: g * 2)"
    )
    pair.plain("from torch.cuda import is_available, device, Stream; from torch import compile")
    pair.cell(
        "import torch\n(x * 2).sum().backward(); big += 1\n"
        "r = torch.rand(2, generator=g); where = str(big.device)\n"
        "own = is_available is torch.cuda.is_available, device is torch.cuda.device,"
        " Stream is torch.cuda.Stream, compile is torch.compile\n"
        "there = is_available()"
    )
    assert pair.namespace["own"] == (True,) * 4
    assert pair.namespace["there"] is False
    assert pair.namespace["is_available"] is torch.cuda.is_available
    names = pair.namespace
    assert (names["where"], str(names["big"].device), str(names["g"].device)) == (
        "cpu",
        "cuda:0",
        "cuda:0",
    )
    assert names["x"].grad.tolist() == [4, 4]
    assert names["big"][7].item() == 2
