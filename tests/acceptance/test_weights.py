"""Weights of a file stay the file's: kernel and worker show it, and neither has a copy."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.acceptance.cells import phases, plain
from tests.acceptance.conftest import Machine
from tests.kernels import Kernel, Run
from zerokernel import memory

pytest.importorskip("safetensors.torch")

WIDTH = 8192
LAYER = WIDTH * WIDTH * 4
"""Bytes of a layer of 32-bit numbers; the model has two."""

PLACE = """
import torch
from safetensors.torch import load_file
with torch.device("meta"):
    model = torch.nn.Sequential(*(torch.nn.Linear({width}, {width}, bias=False) for _ in "ab"))
model.load_state_dict(load_file({path!r}), assign=True)
x = torch.ones({width})
with torch.no_grad():
    here = float(model(x)[0])
print(here)
"""
USE = "with torch.no_grad():\n    there = float(model(x)[0])\n    model[1].weight[0, 0] += 1"


def _file(path: Path) -> None:
    """A file of weights that are zero but for the first row of each layer: no byte is written."""
    spans = {f"{n}.weight": [n * LAYER, (n + 1) * LAYER] for n in range(2)}
    shape = [WIDTH, WIDTH]
    header = json.dumps(
        {n: {"dtype": "F32", "shape": shape, "data_offsets": at} for n, at in spans.items()}
    ).encode()
    header += b" " * (-len(header) % 8)
    row = struct.pack("<f", 0.5) * WIDTH
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        start = file.tell()
        for begin, _ in spans.values():
            file.seek(start + begin)
            file.write(row)
        file.truncate(start + 2 * LAYER)


ON_DEVICE = """
import zerokernel; zerokernel.emulate()
model.to("cuda"); x = x.to("cuda")
with torch.no_grad():
    here = float(model(x)[0])
print(here, model[1].weight.device)
"""


def _own_bytes(kernel: Kernel) -> int:
    """Memory that is the kernel's alone, in bytes."""
    rows = Path(f"/proc/{kernel.pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith("Anonymous:"))


def test_a_model_larger_than_the_kernels_memory_is_placed_and_used(
    own_machine: Machine, group: Path, tmp_path: Path
) -> None:
    """512 MiB of weights in a kernel that may take 256: a plain and a `%%gpu` cell use them."""
    path = tmp_path / "model.safetensors"
    _file(path)
    kernel = own_machine.kernel()
    assert kernel.run("import safetensors.torch, torch").status == "ok"
    assert kernel.run("%%gpu\ntorch.ones(1)").status == "ok"
    _limit(group, 256 << 20)
    (group / "cgroup.procs").write_text(str(kernel.pid))
    before = _own_bytes(kernel)
    expected = 0.5 * (0.5 * WIDTH)  # of the second layer's row the first output meets one weight
    assert plain(kernel, PLACE.format(width=WIDTH, path=str(path))) == str(expected)
    run = kernel.run(f"%%gpu\n{USE}")
    assert run.status == "ok", run.reply
    assert _sent(run) < 1 << 20
    told = "print(there, float(model[1].weight[0, 0]), float(model[1].weight[0, 1]))"
    assert plain(kernel, told) == f"{expected} 1.5 0.5"
    run = kernel.run(f"%%gpu\n{USE}")
    assert run.status == "ok", run.reply
    assert plain(kernel, told) == f"{expected * 3} 2.5 0.5"
    assert plain(kernel, ON_DEVICE) == f"{expected * 5} cuda:0"
    run = kernel.run(f"%%gpu\n{USE}\n    where = str(model[1].weight.device)")
    assert run.status == "ok", run.reply
    assert _sent(run) < 1 << 20
    assert plain(kernel, f"print(where); {told}") == f"cuda:0\n{expected * 5} 3.5 0.5"
    assert _own_bytes(kernel) - before < 64 << 20
    own_machine.close_kernels()


def _sent(run: Run) -> int:
    """The bytes that travelled to the worker, as the receipt says."""
    sent: int = phases(run)[-1]["sent_bytes"]
    return sent


def _limit(group: Path, size: int) -> None:
    for files in memory._VERSIONS.values():
        if (group / files.limit).exists():
            (group / files.limit).write_text(str(size))


@pytest.mark.slow
def test_a_pretrained_model_is_not_copied(kernel: Kernel, tmp_path: Path) -> None:
    """``from_pretrained`` of a folder: the worker shows its file, and computes the same."""
    pytest.importorskip("transformers")
    folder = str(tmp_path / "model")
    made = plain(
        kernel,
        "import os; os.environ.update(HF_HUB_OFFLINE='1', HF_HUB_DISABLE_PROGRESS_BARS='1')\n"
        "import torch\n"
        "from transformers import AutoModel, BertConfig, BertModel\n"
        "config = BertConfig(hidden_size=256, num_hidden_layers=2, num_attention_heads=4,\n"
        "    intermediate_size=1024, vocab_size=8000)\n"
        f"BertModel(config).save_pretrained({folder!r})\n"
        f"model = AutoModel.from_pretrained({folder!r}).eval()\n"
        "tokens = torch.arange(12).reshape(1, 12)\n"
        "with torch.no_grad():\n    here = model(tokens).last_hidden_state\n"
        "print(sum(p.nbytes for p in model.parameters()))",
    )
    run = kernel.run(
        "%%gpu\nwith torch.no_grad():\n    there = model(tokens).last_hidden_state\n"
        "maps = open('/proc/self/maps').read().count('model.safetensors')"
    )
    assert run.status == "ok", run.reply
    assert _sent(run) < int(made) // 10
    assert plain(kernel, "print(torch.equal(here, there), maps > 0)") == "True True"
