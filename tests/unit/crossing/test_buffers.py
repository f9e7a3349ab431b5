import numpy as np
import pytest

from zerokernel.crossing.buffers import CHUNK, allocate, byte_array, digests, dirty_runs


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(6.0).reshape(2, 3),
        lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        lambda: np.array(3.0),
        lambda: np.zeros(4, "M8[s]"),
        lambda: np.zeros(3, [("a", "i4"), ("b", "f8")]),
        lambda: np.zeros(5, ">i2"),
        lambda: bytearray(b"abc"),
    ],
)
def test_byte_array_is_the_memory_itself(make):
    """Writing through the bytes changes the owner, and every byte is seen."""
    owner = make()
    view = byte_array(owner)
    view[:] = 0
    view[0] = 1
    size = len(owner) if isinstance(owner, bytearray) else owner.nbytes
    assert view.nbytes == size
    assert bytes(memoryview(byte_array(owner)))[:1] == b"\x01"


def test_permuted_array_is_seen_whole():
    """An owner that is neither C nor Fortran ordered has all of its bytes in the view."""
    owner = np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2).copy(order="K")
    assert byte_array(owner).nbytes == owner.nbytes


def test_only_changed_chunks_are_dirty():
    """One written byte makes one chunk dirty, neighbours are joined, the end is exact."""
    data = np.zeros(3 * CHUNK + 5, np.uint8)
    before = digests(data)
    data[CHUNK] = 1
    assert dirty_runs(before, digests(data), data.nbytes) == [(CHUNK, 2 * CHUNK)]
    data[2 * CHUNK] = 1
    data[-1] = 1
    assert dirty_runs(before, digests(data), data.nbytes) == [(CHUNK, data.nbytes)]
    assert dirty_runs(None, digests(data), data.nbytes) == [(0, data.nbytes)]


def test_allocated_array_owns_its_memory():
    """What arrives is an ordinary array: it owns its data and keeps dtype, shape and order."""
    owners, views = allocate([["array", "<f8", [2, 3], "F"], ["bytes", 7]])
    assert owners[0].flags.owndata
    assert owners[0].flags.f_contiguous
    assert (owners[0].shape, owners[0].dtype) == ((2, 3), np.dtype("f8"))
    assert [view.nbytes for view in views] == [48, 7]
    assert not views[0].readonly


def test_unknown_form_is_refused():
    """A spec of another form is an error, not a guess."""
    with pytest.raises(ValueError, match="unknown form"):
        allocate([["surprise", 1]])
