"""Tensors of the notebook's emulated device on the real one. Nothing changes a setting of it."""

from __future__ import annotations

import json
from typing import Any

from tests.kernels import Kernel

MODEL = """
import json, torch
torch.manual_seed(0)
model = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(8))).to("cuda")
model[7].weight = model[0].weight
view = model[1].weight.detach()[3:5]
pinned = torch.ones(4).pin_memory()
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
x = torch.ones(4, 512, device="cuda")
unused = torch.ones(1 << 20, device="cuda")
"""
TRAIN = """%%gpu --quiet
import torch
here = {str(p.device) for p in model.parameters()} | {str(x.device), str(view.device)}
real = torch.cuda.memory_allocated() > 0 and not hasattr(torch.UntypedStorage, "_emulated")
used = torch.cuda.memory_allocated()
shared = view.data_ptr() == model[1].weight[3:5].data_ptr()
tied = model[7].weight is model[0].weight
held = pinned.is_pinned()
address = model[0].weight.data_ptr()
opt.zero_grad(); loss = model(x).square().mean(); loss.backward(); opt.step()
value = loss.item()
del loss
"""
TELL = """
print(json.dumps([sorted(here), real, shared, tied, held, used,
    value, address, str(model[0].weight.device), str(model[0].weight.grad.device),
    str(opt.state[model[0].weight]["exp_avg"].device), float(model[0].weight.sum())]))
"""


def told(kernel: Kernel, code: str) -> Any:
    run = kernel.run(code)
    assert run.status == "ok", run
    return json.loads(run.text("stdout"))


def ran(kernel: Kernel, code: str) -> None:
    run = kernel.run(code)
    assert run.status == "ok", run


def test_a_model_is_on_the_device_and_comes_home(emulating: Kernel) -> None:
    """Placed in a plain cell, it is trained on the device, and is the notebook's afterwards."""
    ran(emulating, MODEL)
    before = told(emulating, "print(json.dumps(float(model[0].weight.sum())))")
    ran(emulating, TRAIN)
    first = told(emulating, TELL)
    assert first[:5] == [["cuda:0"], True, True, True, True]
    assert first[5] < 8 << 20, "seven weights of 1 MiB, and not what the cell does not use"
    assert first[8:11] == ["cuda:0"] * 3
    assert first[11] != before
    ran(emulating, TRAIN)
    second = told(emulating, TELL)
    assert second[7] == first[7], "an unchanged worker moved the weights again"
    assert second[6] < first[6], "the loss falls"


def test_what_a_plain_cell_changed_is_seen_there(emulating: Kernel) -> None:
    """Chunks that the notebook wrote are on the device in the next cell; results come home."""
    ran(emulating, "import json, torch\nbig = torch.zeros(1 << 20, device='cuda')")
    ran(emulating, "%%gpu --quiet\na = float(big.sum()); big[7] = 2")
    ran(emulating, "big[1 << 19] = 5")
    ran(emulating, "%%gpu --quiet\nb = float(big.sum()); r = big[:3] + 1; big[9] = 1")
    found = told(
        emulating, "print(json.dumps([a, b, r.tolist(), str(r.device), float(big.sum())]))"
    )
    assert found == [0, 7, [1, 1, 1], "cuda:0", 8]


def test_a_seed_holds_on_the_device(emulating: Kernel) -> None:
    """`torch.cuda.manual_seed` in a plain cell seeds the real device; generators cross."""
    code = "%%gpu --quiet\nimport torch\n{} = torch.rand(3, device='cuda').tolist()"
    ran(emulating, "import json, torch\ntorch.cuda.manual_seed(11)")
    ran(emulating, code.format("a"))
    ran(emulating, "torch.cuda.manual_seed(12)")
    ran(emulating, code.format("b"))
    ran(emulating, "torch.cuda.manual_seed(11); g = torch.Generator('cuda').manual_seed(11)")
    ran(emulating, code.format("c"))
    ran(emulating, "%%gpu --quiet\nd = torch.rand(3, device='cuda', generator=g).tolist()")
    found = told(emulating, "print(json.dumps([a == b, a == c, a == d, str(g.device)]))")
    assert found == [False, True, True, "cuda:0"]


def test_memory_is_given_back(emulating: Kernel) -> None:
    """`%gpu free` leaves no tensor of the notebook on the device, and the notebook all of them."""
    ran(emulating, "import json, torch\nbig = torch.ones(64 << 20, device='cuda')")
    ran(emulating, "%%gpu --quiet\nimport torch\ntotal = float(big[:9].sum())")
    ran(emulating, "%gpu free")
    ran(emulating, "%%gpu --quiet\nleft = torch.cuda.memory_reserved()")
    assert told(emulating, "print(json.dumps(left))") < 256 << 20
    ran(emulating, "%%gpu --quiet\nagain = float(big[:9].sum())")
    assert told(emulating, "print(json.dumps([total, again]))") == [9, 9]
