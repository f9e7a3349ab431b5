"""Changes of large buffers, by either way to find them, between two interpreters."""

import threading

import numpy as np
import pytest

from zerokernel.crossing.buffers import CHUNK

MAKE = "import numpy as np\nx = np.arange(1_000_000.0)"


def test_only_what_changed_moves(detecting_pair):
    """One element there, one here: a chunk travels, and the array is the same on both sides."""
    pair = detecting_pair
    pair.plain(MAKE)
    pair.cell("total = x.sum()")
    pair.cell("total = x.sum()")
    assert pair.shipment.byte_count < 1000
    pair.cell("x[400_000] = -1")
    assert len(pair.returned["sizes"]) == 1
    assert sum(pair.returned["sizes"]) == CHUNK
    pair.namespace["x"][800_000] = -2
    pair.cell("total = (x[400_000], x[800_000], x.sum())")
    assert sum(view.nbytes for view in pair.shipment.buffers) == CHUNK
    x = pair.namespace["x"]
    assert pair.namespace["total"] == (-1, -2, x.sum())


def test_a_model_of_which_one_tensor_changed(detecting_pair):
    """Of many parameters only the one that was written in place travels home."""
    pytest.importorskip("torch")
    pair = detecting_pair
    pair.plain(
        "import torch\nmodel = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)])"
    )
    pair.cell("n = sum(p.numel() for p in model.parameters())")
    kept = pair.namespace["model"][3].weight
    pair.cell("with torch.no_grad(): model[3].weight.add_(1)", names=["model", "torch"])
    assert sum(pair.returned["sizes"]) == 512 * 512 * 4
    assert pair.namespace["model"][3].weight is kept
    pair.cell("n = float(model[3].weight.sum())", names=["model"])
    assert pair.shipment.byte_count < 1000
    assert pair.namespace["n"] == pytest.approx(float(kept.detach().sum()), rel=1e-3)


def test_a_result_is_known_here_from_the_first(detecting_pair):
    """What a cell made does not travel back to it; what was written here does."""
    pair = detecting_pair
    pair.cell("import numpy as np; y = np.ones(1_000_000)")
    pair.cell("n = y.sum()")
    assert pair.shipment.byte_count < 1000
    pair.plain("y[5] = 3")
    pair.cell("n = y.sum(); y += 1")
    assert pair.namespace["n"] == 1_000_002
    pair.plain("y *= 2")
    pair.cell("n = y.sum()")
    assert pair.namespace["n"] == 2 * (1_000_002 + 1_000_000)


def test_a_write_here_while_the_cell_runs_is_kept(detecting_pair):
    """A thread of the notebook wrote to the array that the cell changed: that is a conflict."""
    pair = detecting_pair
    pair.plain(MAKE)
    pair.cell("x += 1", commit=False)
    thread = threading.Thread(target=pair.namespace["x"].__setitem__, args=(7, 70.0))
    thread.start()
    thread.join()
    notes = pair.staged.commit().notes
    assert any("the notebook's version was kept" in note for note in notes)
    assert pair.namespace["x"][7] == 70


def test_a_write_between_commit_and_the_next_cell_is_sent(detecting_pair):
    """Bytes that a thread wrote over those of the cell reach the worker."""
    pair = detecting_pair
    pair.plain(MAKE)
    pair.cell("x += 1")
    pair.namespace["x"][123_456] = -5
    pair.cell("n = x[123_456], x[0]; x[0] = 0")
    assert pair.namespace["n"] == (-5, 1)
    assert pair.namespace["x"][:2].tolist() == [0, 2]


def test_arrays_that_changed_size(detecting_pair):
    """A buffer that moved in memory is followed on both sides."""
    pytest.importorskip("torch")
    pair = detecting_pair
    pair.plain("import torch\nt = torch.ones(500_000)\ns = t.untyped_storage()")
    pair.cell("n = t.sum()", names=["t"])
    pair.cell("t.resize_(900_000); t[500_000:] = 2", names=["t"])
    assert pair.namespace["t"].sum() == 500_000 + 800_000
    pair.plain("t.resize_(1_000_000)[900_000:] = 3")
    pair.cell("n = float(t.sum())", names=["t"])
    assert pair.namespace["n"] == 500_000 + 800_000 + 300_000


@pytest.mark.parametrize("where", ["here", "there"])
def test_random_writes_agree_after_each_cell(detecting_pair, where):
    """After cells that write at random to several arrays all bytes are the same on both sides."""
    pair = detecting_pair
    pair.plain("import numpy as np\narrays = [np.zeros(300_000 + 7 * n) for n in range(4)]")
    source = (
        "import numpy as np\n"
        "random = np.random.default_rng({seed})\n"
        "for array in arrays[random.integers(4):]:\n"
        "    start = random.integers(array.size)\n"
        "    array[start : start + random.integers(1, 100_000)] += random.random()\n"
    )
    for seed in range(12):
        text = source.format(seed=seed)
        pair.plain(text) if (seed % 3 == 0) is (where == "there") else pair.cell(text, ["arrays"])
        pair.cell("import hashlib; told = [hashlib.md5(a).digest() for a in arrays]", ["arrays"])
        local: dict[str, object] = {"arrays": pair.namespace["arrays"]}
        exec("import hashlib; told = [hashlib.md5(a).digest() for a in arrays]", local)
        assert pair.namespace["told"] == local["told"]
    assert not np.array_equal(pair.namespace["arrays"][3], np.zeros(300_021))
