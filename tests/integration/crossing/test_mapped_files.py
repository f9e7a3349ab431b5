"""What shows a file crosses as the file: no byte of it is sent, and no private copy is made."""

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from zerokernel.crossing import mapped_files  # noqa: E402 - of what is skipped where torch is not
from zerokernel.crossing.forecast import forecast  # noqa: E402 - the same

SMALL = 8 << 10
"""A shipment of this size (bytes) carries no buffer that is worth the name."""

WEIGHTS = {
    "a": torch.arange(1 << 20, dtype=torch.float32),
    "b": torch.arange(300_000, dtype=torch.float32),  # begins and ends in the middle of pages
    "c": torch.ones(100_001, dtype=torch.float16),
    "small": torch.arange(5.0),
}

OWN = """
def own(tensor):
    start = tensor.untyped_storage().data_ptr()
    return len(mapped_files.own_pages(start, start + tensor.untyped_storage().nbytes()))
from zerokernel.crossing import mapped_files
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights of a model.safetensors"
    safetensors.save_file(WEIGHTS, path)
    os.sync()
    return path


@pytest.fixture
def loaded(pair, file):
    """Two interpreters, the first of which has loaded the weights."""
    pair.plain(f"import torch\nfrom safetensors.torch import load_file\n{OWN}")
    pair.plain(f"w = load_file({str(file)!r})")
    return pair


def equal(loaded, expected=WEIGHTS):
    return all(torch.equal(loaded.namespace["w"][name], item) for name, item in expected.items())


def test_weights_travel_as_their_file(loaded, file):
    """The worker maps the same file, at the same values, and shares every page of it."""
    loaded.cell(
        "sums = {name: float(item.double().sum()) for name, item in w.items()}\n"
        "copies = own(w['a']), own(w['b'])\n"
        f"maps = open('/proc/self/maps').read().count({file.name!r})\n"
        "like = [w[name].untyped_storage().resizable() for name in 'abc']\n",
        ["w", "own"],
    )
    assert loaded.shipment.byte_count < SMALL
    found = loaded.namespace
    assert found["sums"] == {name: float(item.double().sum()) for name, item in WEIGHTS.items()}
    assert found["copies"] == (0, 0)
    assert found["maps"] == 1  # one mapping for all of them, as in the notebook
    assert found["own"](found["w"]["a"]) == 0
    assert found["like"] == [False] * 3


def test_what_a_cell_writes_comes_home_into_private_pages(loaded, file):
    """The changed chunk alone travels, the notebook's own tensor has it, and the file does not."""
    before = file.read_bytes()
    loaded.cell("pass", ["w"])
    tensor = loaded.namespace["w"]["a"]
    loaded.cell("w['a'][7] = -1", ["w"])
    assert loaded.staged._byte_count < (300 << 10)
    assert loaded.namespace["w"]["a"] is tensor
    assert tensor[7] == -1
    assert equal(loaded, {name: item for name, item in WEIGHTS.items() if name != "a"})
    assert file.read_bytes() == before
    loaded.cell("seen = float(w['a'][7])", ["w"])
    assert loaded.shipment.byte_count < SMALL
    assert loaded.namespace["seen"] == -1
    loaded.cell("w['b'].add_(1)", ["w"])
    assert torch.equal(loaded.namespace["w"]["b"], WEIGHTS["b"] + 1)


def test_neighbours_on_one_page_are_not_taken_for_changed(loaded):
    """A page that two tensors share is one's own copy for both, and a change of one alone."""
    loaded.cell("w['b'][0] = -1; w['b'][-1] = -2", ["w"])
    assert len(loaded.staged.extra) == 0
    changed = loaded.cell("w['a'][-1] = -3; w['c'][0] = -4", ["w"])
    assert changed.conflicts == ()
    assert changed.changed == 2
    values = loaded.namespace["w"]
    assert values["b"][0] == -1
    assert values["b"][-1] == -2
    assert values["a"][-1] == -3
    assert values["c"][0] == -4
    loaded.cell("pass", ["w"])
    assert loaded.shipment.byte_count < SMALL


def test_what_the_notebook_wrote_before_travels_beside_the_file(loaded):
    """Of a tensor that was written to after loading, the written pages are sent as bytes."""
    loaded.plain("w['a'][5] = -5; w['b'][1000:200_000] = 0")
    loaded.cell("seen = float(w['a'][5]), float(w['a'][6]), float(w['b'].sum())", ["w"])
    expected = WEIGHTS["b"].clone()
    expected[1000:200_000] = 0
    assert loaded.namespace["seen"] == (-5, 6, float(expected.sum()))
    assert loaded.shipment.byte_count < (1300 << 10)  # b as a whole, a page of a
    loaded.plain("w['a'][9] = -9")
    loaded.cell("seen = float(w['a'][5]), float(w['a'][9])", ["w"])
    assert loaded.namespace["seen"] == (-5, -9)
    assert loaded.shipment.byte_count < (300 << 10)


def test_a_forecast_tells_mapped_weights_apart_from_what_travels(loaded):
    """No byte of them would go over, and the worker would have all of them."""
    (found,) = forecast(loaded.kernel, {"w"}).passages
    assert found.travels < SMALL
    assert found.size > sum(item.nbytes for item in WEIGHTS.values())
    loaded.cell("seen = float(w['a'][5])", ["w"])
    assert loaded.namespace["seen"] == 5
    assert loaded.shipment.byte_count < SMALL


def test_a_conflict_keeps_what_the_notebook_wrote(loaded):
    """What a thread writes to a mapped tensor while a cell changes it is kept, and told."""
    loaded.cell("w['a'][0] = -1; w['b'][0] = -2", ["w"], commit=False)
    loaded.namespace["w"]["a"][9] = -9
    committed = loaded.staged.commit()
    loaded.acknowledge()
    assert len(committed.conflicts) == 1
    assert loaded.namespace["w"]["a"][[0, 9]].tolist() == [0, -9]
    assert loaded.namespace["w"]["b"][0] == -2
    loaded.cell("seen = w['a'][[0, 9]].tolist()", ["w"])
    assert loaded.namespace["seen"] == [0, -9]


def test_views_and_ties_of_mapped_weights_stay(loaded):
    """Two tensors over one storage, and a storage met twice, stay what they are."""
    loaded.plain("view = w['a'].view(1024, 1024)[3:5]; tied = w['a']")
    loaded.cell("view[0, 0] = -1; same = tied is w['a']", ["view", "tied", "w"])
    found = loaded.namespace
    assert found["same"]
    assert found["w"]["a"][3 * 1024] == -1
    assert found["tied"] is found["w"]["a"]


def test_an_object_over_mapped_memory_that_torch_pickles_itself(loaded):
    """A sparse tensor travels as torch has it: its values are the file's still."""
    loaded.plain(
        "x = torch.sparse_coo_tensor("
        "torch.arange(20_000)[None], w['a'][:20_000], check_invariants=True)"
    )
    loaded.cell("seen = x._values()[[2, 3]].tolist()", ["x"])
    assert loaded.namespace["seen"] == [2, 3]
    assert loaded.shipment.byte_count < (200 << 10)  # its indices
    assert loaded.cell("seen = x._values()[3].item()", ["x"]).changed == 0
    assert loaded.shipment.byte_count < SMALL
    loaded.plain("x._values()[3] = 4")
    loaded.cell("seen = x._values()[[2, 3]].tolist()", ["x"])
    assert loaded.namespace["seen"] == [2, 4]
    loaded.cell("x._values()[3] += 1", ["x"])
    assert loaded.namespace["x"]._values()[3] == 5


def test_weights_that_a_cell_loads_are_mapped_in_the_notebook(loaded, file):
    """No byte comes home of what a cell has loaded, nor is there a private copy of it."""
    loaded.cell(f"fresh = load_file({str(file)!r})", ["load_file"])
    assert loaded.staged._byte_count < SMALL
    fresh = loaded.namespace["fresh"]
    assert torch.equal(fresh["a"], WEIGHTS["a"])
    assert loaded.namespace["own"](fresh["a"]) == 0
    assert area(fresh["a"]).path == str(file)
    loaded.cell("fresh['a'][0] = 4; total = float(fresh['b'].sum())", ["fresh"])
    assert loaded.shipment.byte_count < SMALL
    assert fresh["a"][0] == 4


def area(tensor):
    found = mapped_files.area_at(tensor.data_ptr())
    assert found is not None
    return found


def test_a_file_that_was_replaced_is_noticed(loaded, file):
    """The tensors keep what they show; it travels as bytes, since the path leads elsewhere."""
    other = file.with_name("other")
    safetensors.save_file({name: item * 0 for name, item in WEIGHTS.items()}, other)
    os.replace(other, file)
    loaded.cell("seen = float(w['a'].double().sum())", ["w"])
    assert loaded.namespace["seen"] == float(WEIGHTS["a"].double().sum())
    assert loaded.shipment.byte_count > 4 << 20
    loaded.cell("seen = float(w['a'][5])", ["w"])
    assert loaded.shipment.byte_count < SMALL
    assert equal(loaded)


def test_a_file_that_is_written_in_place_shows_on_both_sides(loaded, file):
    """As in a plain kernel, where a mapping shows what the file holds now."""
    loaded.cell("pass", ["w"])
    at = area(loaded.namespace["w"]["a"])
    offset = at.offset + loaded.namespace["w"]["a"].data_ptr() - at.start
    with open(file, "r+b") as stream:
        stream.seek(offset)
        stream.write(torch.tensor([-8.0]).numpy().tobytes())
    assert loaded.namespace["w"]["a"][0] == -8
    loaded.cell("seen = float(w['a'][0])", ["w"])
    assert loaded.namespace["seen"] == -8


def test_bytes_of_a_file_written_in_place_are_sent_where_the_worker_has_bytes(loaded, file):
    """Where the worker could not map the file, each change of the file is found and sent."""
    kept = file.with_name("kept")
    os.link(file, kept)
    file.unlink()
    loaded.cell("pass", ["w"])
    at = area(loaded.namespace["w"]["a"])
    offset = at.offset + loaded.namespace["w"]["a"].data_ptr() - at.start
    with open(kept, "r+b") as stream:
        stream.seek(offset)
        stream.write(torch.tensor([-8.0]).numpy().tobytes())
    loaded.cell("seen = float(w['a'][0])", ["w"])
    assert loaded.namespace["seen"] == -8


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_was_cut_short_is_told_and_ends_nobody(loaded, file, known):
    """To read such memory would end the process; the name is absent, and the message says why."""
    if known:
        loaded.cell("pass", ["w"])
    os.truncate(file, 4096)
    loaded.plain("fine = 1")
    loaded.cell("seen = fine", ["fine", "w"])
    assert loaded.namespace["seen"] == 1
    (reason,) = loaded.shipment.absent.values()
    assert "has become shorter" in reason
    assert str(file) in reason


def test_a_worker_that_does_not_see_the_file_says_so_and_gets_bytes_then(loaded, file, monkeypatch):
    """As on another machine: the first cell fails with what to do, and the next ones run."""
    monkeypatch.setattr(mapped_files, "machine", lambda: "another")
    with pytest.raises(AssertionError, match=r"FileNotShared.*of another machine"):
        loaded.cell("pass", ["w"])
    loaded.reset_worker()
    loaded.kernel.forget_worker()
    loaded.kernel.files_travel = False
    loaded.cell(f"seen = float(w['a'][5]); fresh = load_file({str(file)!r})", ["w", "load_file"])
    assert loaded.namespace["seen"] == 5
    assert torch.equal(loaded.namespace["fresh"]["a"], WEIGHTS["a"])
    assert mapped_files.area_at(loaded.namespace["fresh"]["a"].data_ptr()) is None


LOADERS = {
    "safe_open": "from safetensors import safe_open\nx = safe_open(p, 'pt').get_tensor('a')",
    "torch.load": "torch.save(w['a'].clone(), p + '.pt'); x = torch.load(p + '.pt', mmap=True)",
    "torch.from_file": "w['a'].numpy().tofile(p + '.raw')\n"
    "x = torch.from_file(p + '.raw', shared=False, size=1 << 20)",
    "memmap": "w['a'].numpy().tofile(p + '.raw'); import numpy\n"
    "x = torch.from_numpy(numpy.memmap(p + '.raw', dtype='float32', mode='c'))",
}


@pytest.mark.parametrize("how", LOADERS)
def test_whatever_maps_a_file_stays_mapped(loaded, file, how):
    """No library is asked: what its memory is, the system knows."""
    loaded.plain(f"p = {str(file)!r}\n{LOADERS[how]}")
    loaded.cell("x[2] = -2; seen = float(x[5])", ["x"])
    assert loaded.shipment.byte_count < SMALL
    found = loaded.namespace
    assert found["seen"] == 5
    assert found["x"][2] == -2
    assert found["x"][3] == 3


MEMMAP = """
import numpy as np
np.arange(300_000, dtype='int32').tofile(p)
x = np.memmap(p, dtype='int32', mode={mode!r}, offset=400, shape=(70_000, 4))
row = x[2]
plain = np.asarray(x)[5:7]
"""


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memmaps_cross(pair, tmp_path, mode):
    """They keep class, mode and views; writes of a cell go where those of a plain cell would."""
    path = tmp_path / "numbers"
    pair.plain(f"p = {str(path)!r}\n{MEMMAP.format(mode=mode)}")
    found = pair.namespace
    array = found["x"]
    pair.cell(
        "like = type(x).__name__, x.mode, x.offset, x.flags.writeable, str(x.filename), x.shape\n"
        "total = int(x[3].sum()), type(row).__name__, type(plain).__name__",
        ["x", "row", "plain"],
    )
    assert pair.shipment.byte_count < SMALL
    assert found["like"] == ("memmap", mode, 400, mode != "r", str(path), (70_000, 4))
    assert found["total"] == (int(array[3].sum()), "memmap", "ndarray")
    if mode == "r":
        with pytest.raises(ValueError, match="read-only"):
            pair.cell("x[0] = 1", ["x"])
        return
    pair.cell("row[0] = -1; plain[0] = -2; x.flush()", ["x", "row", "plain"])
    assert found["x"] is array
    assert (array[2, 0], array[5, 0], array[6, 0]) == (-1, -2, 124)
    in_file = int.from_bytes(path.read_bytes()[400 + 32 : 400 + 36], "little", signed=True)
    assert in_file == (-1 if mode == "r+" else 108)
    pair.cell("seen = int(x[2, 0])", ["x"])
    assert found["seen"] == -1


def test_a_memmap_that_a_cell_makes_is_the_notebooks(pair, tmp_path):
    """With the file that it made; what either writes both have."""
    path = tmp_path / "made"
    pair.plain("import numpy as np")
    source = f"x = np.memmap({str(path)!r}, dtype='u1', mode='w+', shape=200_000); x[5] = 5"
    pair.cell(source, ["np"])
    assert pair.staged._byte_count < SMALL
    pair.plain("x[6] = 6")
    pair.cell("seen = bytes(x[4:8])", ["x"])
    assert pair.namespace["seen"] == b"\0\5\6\0"
    assert path.read_bytes()[4:8] == b"\0\5\6\0"


def test_a_mapped_file_keeps_its_position_and_is_closed(pair, tmp_path):
    """``mmap.mmap`` itself crosses, to and fro."""
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\nthree\n")
    pair.plain(
        f"import mmap\nwith open({str(path)!r}, 'r+b') as f: x = mmap.mmap(f.fileno(), 0)\n"
        "first = x.readline()"
    )
    pair.cell("second = x.readline(); x[:3] = b'ONE'", ["x"])
    found = pair.namespace
    assert found["second"] == b"two\n"
    assert found["x"].readline() == b"three\n"
    assert path.read_bytes() == b"ONE\ntwo\nthree\n"
    pair.cell("x.resize(8192); x[8000:8003] = b'END'", ["x"])
    assert found["x"][8000:8003] == b"END"
    assert len(path.read_bytes()) == 8192
    pair.cell("x.close()", ["x"])
    assert found["x"].closed


def test_a_mapped_file_that_the_notebook_closes_is_closed(pair, tmp_path):
    """And one that it maps at the same place is the other file."""
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * 200_000)
    pair.plain(
        "import mmap, os\ndef mapped(name):\n"
        f"    with open(os.path.join({str(tmp_path)!r}, name), 'rb') as f:\n"
        "        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\n"
        "x = y = mapped('a')"
    )
    pair.cell("seen = x[5]", ["x", "y"])
    pair.plain("x.close(); x = mapped('b')")
    pair.cell("seen = chr(x[5]); shut = y.closed; x[6] = 0", ["x", "y"])
    found = pair.namespace
    assert (found["seen"], found["shut"], found["x"][4:7]) == ("b", True, b"bb\0")
    source = "first = mapped('a')[7:8]; second = mapped('b'); second[8] = 0"
    pair.cell(source, ["mapped"])
    assert (found["first"], found["second"][7:9]) == (b"a", b"b\0")


def test_mapped_memory_without_a_file_is_refused(pair, tmp_path):
    """The message says what it is, for memory of no file and for a file that is gone."""
    path = tmp_path / "gone"
    pair.plain(
        "import mmap, numpy as np, os\nx = mmap.mmap(-1, 100_000)\n"
        f"y = np.memmap({str(path)!r}, dtype='u1', mode='w+', shape=100_000)\nos.unlink(y.filename)"
    )
    pair.cell("pass", ["x", "y"])
    assert "of no file" in pair.shipment.absent["x"]
    assert "deleted" in pair.shipment.absent["y"]


def test_mappings_are_found_alike_in_both_ways(file):
    """Older systems are read line by line; the answers are those of the newer way."""
    tensor = safetensors.load_file(file)["b"]
    asked = mapped_files.area_at(tensor.data_ptr())
    read = [a for a in mapped_files._read_areas() if a.start <= tensor.data_ptr() < a.stop]
    assert read == [asked]
    assert Path(asked.path) == file
    assert mapped_files.area_at(id(tensor)) is None
