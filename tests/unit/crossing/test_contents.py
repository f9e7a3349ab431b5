import ctypes
import gc
import mmap
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerokernel.crossing import contents, pages, pinned
from zerokernel.crossing.buffers import CHUNK, byte_array, digests, dirty_runs
from zerokernel.crossing.contents import Contents
from zerokernel.crossing.pages import PAGE

offered = pytest.mark.skipif(bool(pages.trial()), reason=f"not offered here: {pages.trial()}")
both = pytest.mark.parametrize(
    "detection", ["hash", pytest.param("tracking", marks=offered), "auto"]
)
SIZE = 5 * CHUNK + 777
MIDDLE = 2 * CHUNK + CHUNK // 2


def buffer(size=SIZE):
    return np.ones(size, np.uint8)


def changed(detector, owner, before):
    """The chunks that have another label than before."""
    now = detector.labels(owner, before)
    if len(now) != len(before):
        return set(range(len(now)))
    return {index for index, (old, new) in enumerate(zip(before, now, strict=True)) if old != new}


def chunks_on_the_page_of(owner, place):
    """A page may hold the end of one chunk and the beginning of the next: both count as written."""
    first = place - (owner.ctypes.data + place) % PAGE
    return {max(0, first) // CHUNK, min(first + PAGE, owner.nbytes) // CHUNK, place // CHUNK}


def is_tracked(detector, owner):
    return detector.cost(owner) == 0


def write_by_view(owner):
    owner[MIDDLE:][:1] = 9


def write_by_memmove(owner):
    ctypes.memmove(owner.ctypes.data + MIDDLE, b"x", 1)


def write_by_system_call(owner):
    receiver, sender = os.pipe()
    os.write(sender, b"x")
    os.readv(receiver, [memoryview(owner)[MIDDLE : MIDDLE + 1]])
    os.close(receiver)
    os.close(sender)


def write_by_thread(owner):
    thread = threading.Thread(target=write_by_view, args=[owner])
    thread.start()
    thread.join()


def write_by_torch(owner):
    torch = pytest.importorskip("torch")
    torch.from_numpy(owner)[MIDDLE].add_(1)


def write_by_buffer(owner):
    memoryview(owner)[MIDDLE] = 8


def write_by_another_array(owner):
    again = np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_address(owner.ctypes.data))
    again[MIDDLE] += 1


def read_from_file(owner):
    with open("/dev/urandom", "rb") as file:
        file.readinto(memoryview(owner)[MIDDLE : MIDDLE + 99])


@both
@pytest.mark.parametrize(
    "write",
    [
        write_by_view,
        write_by_memmove,
        write_by_system_call,
        write_by_thread,
        write_by_torch,
        write_by_buffer,
        write_by_another_array,
        read_from_file,
    ],
)
def test_a_write_by_any_way_is_seen_once_and_where_it_was(detection, write):
    """One chunk gets another label; the others, and all of them the next time, keep theirs."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    assert changed(detector, owner, before) == set()
    write(owner)
    assert changed(detector, owner, before) == {2}
    now = detector.labels(owner)
    assert changed(detector, owner, now) == set()


@both
@pytest.mark.parametrize("place", [0, 1, PAGE - 16, PAGE, SIZE // 2, SIZE - PAGE, SIZE - 1])
def test_the_first_and_the_last_byte_count(detection, place):
    """Pages that an array shares with others are looked at too."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    owner[place] += 1
    found = changed(detector, owner, before)
    assert place // CHUNK in found
    assert found <= chunks_on_the_page_of(owner, place)


@offered
def test_a_neighbour_on_the_same_page_does_not_count():
    """Bytes beside a buffer, on its first and last page, are not its own."""
    whole = np.ones(SIZE + 4 * PAGE, np.uint8)
    offset = -whole.ctypes.data % PAGE + 100
    address = whole.ctypes.data + offset
    owner = np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_address(address))
    detector = Contents("tracking")
    before = detector.labels(owner)
    assert is_tracked(detector, owner)
    whole[:offset] = 7
    whole[offset + SIZE :] = 7
    assert changed(detector, owner, before) == set()
    whole[offset] = 7
    assert changed(detector, owner, before) == {0}


@offered
def test_two_buffers_over_the_same_memory_both_see_a_write():
    """The answer to the first that asks is not missing for the second."""
    memory = np.ones(SIZE + PAGE, np.uint8)
    one, two = (
        np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_address(memory.ctypes.data + offset))
        for offset in (0, PAGE)
    )
    detector = Contents("tracking")
    before = detector.labels(one), detector.labels(two)
    memory[3 * CHUNK + 5] = 5
    assert 3 in changed(detector, one, before[0])
    assert 2 in changed(detector, two, before[1])


@both
@pytest.mark.parametrize("huge", [mmap.MADV_HUGEPAGE, mmap.MADV_NOHUGEPAGE])
def test_dropped_memory_is_a_change(detection, huge):
    """Memory that was given back to the system reads as zeros, though nobody wrote them."""
    size = 8 << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(huge)
        owner = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_buffer(memory))
        owner[:] = 1
        detector = Contents(detection)
        before = detector.labels(owner)
        memory.madvise(mmap.MADV_DONTNEED, 4 << 20, 2 << 20)
        first = (4 << 20) // CHUNK
        assert changed(detector, owner, before) == set(range(first, first + (2 << 20) // CHUNK))
        memory.madvise(mmap.MADV_DONTNEED, 0, PAGE)
        assert owner[0] == 0  # a read brings a page of zeros
        assert 0 in changed(detector, owner, before)
        del owner
        gc.collect()


@offered
def test_memory_that_was_never_touched_is_tracked():
    """Zeros that no page holds yet are unchanged until they are written."""
    owner = np.zeros(SIZE, np.uint8)
    detector = Contents("tracking")
    before = detector.labels(owner)
    assert is_tracked(detector, owner)
    assert not owner[2 * CHUNK]
    assert changed(detector, owner, before) == set()
    owner[2 * CHUNK + PAGE] = 1
    assert changed(detector, owner, before) == {2}


@both
def test_resized_memory_is_a_change(detection):
    """A buffer that moved, grew or shrank is another one."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    owner.resize(3 * SIZE, refcheck=False)
    assert len(detector.labels(owner)) == -(-3 * SIZE // CHUNK)
    owner.resize(SIZE, refcheck=False)
    now = detector.labels(owner, before)
    owner[5] = 7
    assert changed(detector, owner, now) == {0}


@both
def test_reused_memory_is_not_taken_for_the_old_one(detection):
    """A new array where a freed one was, at the same address, has labels of its own."""
    detector = Contents(detection)
    for value in range(10):
        owner = np.full(SIZE, value, np.uint8)
        before = detector.labels(owner)
        assert changed(detector, owner, before) == set()
        owner[MIDDLE] = 99
        assert changed(detector, owner, before) == {2}
        del owner
        detector.begin(set)
    assert detector._watches == {}


@both
def test_memory_shared_with_another_process(detection):
    """What a child process writes into shared memory is seen."""
    with mmap.mmap(-1, SIZE) as memory:
        owner = np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_buffer(memory))
        owner[:] = 1
        detector = Contents(detection)
        before = detector.labels(owner)
        assert not is_tracked(detector, owner)
        process = os.fork()
        if not process:
            memory[3 * CHUNK + PAGE] = 5
            os._exit(0)
        os.waitpid(process, 0)
        assert changed(detector, owner, before) == {3}
        del owner
        gc.collect()


@both
def test_memory_of_a_file(tmp_path, detection):
    """What another program writes into the file is seen."""
    path = tmp_path / "data"
    path.write_bytes(b"\1" * SIZE)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), SIZE) as memory:
        owner = np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_buffer(memory))
        detector = Contents(detection)
        before = detector.labels(owner)
        assert not is_tracked(detector, owner)
        os.pwrite(file.fileno(), b"x", 4 * CHUNK)
        assert changed(detector, owner, before) == {4}
        del owner
        gc.collect()


@both
def test_after_a_fork_the_parent_still_sees_its_own_writes(detection):
    """Copies of pages that a child makes are its own; the parent's are still tracked."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    process = os.fork()
    if not process:
        owner[CHUNK + PAGE] = 5
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    assert changed(detector, owner, before) == set()
    owner[3 * CHUNK + PAGE] = 5
    assert changed(detector, owner, before) == {3}


@both
def test_a_child_process_has_tracking_of_its_own(detection):
    """Detection works in a forked process too, and does not disturb that of its parent."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    process = os.fork()
    if not process:
        there = Contents(detection)
        mine = there.labels(owner)
        same = changed(there, owner, mine) == set()
        owner[CHUNK + PAGE] = 5
        os._exit(0 if same and changed(there, owner, mine) == {1} else 1)
    assert os.waitpid(process, 0)[1] == 0
    owner[3 * CHUNK + PAGE] = 5
    assert changed(detector, owner, before) == {3}


@offered
def test_pinned_memory_is_hashed(monkeypatch):
    """Where devices may write past the pages' protection, contents are compared."""
    detector, owner = Contents("tracking"), buffer()
    before = detector.labels(owner)
    assert is_tracked(detector, owner)
    monkeypatch.setattr(pinned, "look", lambda: pinned.Pinned(anywhere=True))
    detector.begin(lambda: {id(owner)})
    now = detector.labels(owner, before)
    assert not is_tracked(detector, owner)
    assert changed(detector, owner, now) == set()
    owner[0] = 5
    assert changed(detector, owner, now) == {0}


@offered
def test_what_is_written_as_a_whole_is_hashed_until_it_is_quiet():
    """Faults of a buffer that changes all the time cost more than its hash."""
    owner = buffer(8 << 20)
    detector = Contents("auto")
    before = detector.labels(owner)
    assert is_tracked(detector, owner)
    owner[:] = 7
    assert changed(detector, owner, before) == set(range(len(before)))
    assert not is_tracked(detector, owner)
    before = detector.labels(owner)
    owner[5] = 8
    assert changed(detector, owner, before) == {0}
    now = detector.labels(owner)
    for _ in range(4):
        assert changed(detector, owner, now) == set()
    assert is_tracked(detector, owner)
    assert changed(detector, owner, now) == set()


@offered
def test_tracking_stops_where_it_costs_more_than_it_saves():
    """After many buffers that were written as a whole, new ones are not tracked at once."""
    detector = Contents("auto")
    detector._credit = 1
    owner = buffer(8 << 20)
    detector.labels(owner)
    assert is_tracked(detector, owner)
    owner[:] = 7
    detector.labels(owner)
    another = buffer(8 << 20)
    labels = detector.labels(another)
    assert not is_tracked(detector, another)
    for _ in range(3):
        assert changed(detector, another, labels) == set()
    assert is_tracked(detector, another)


@both
def test_own_writes_are_released_and_compared_by_hash(detection):
    """What the crossing wrote has the hash that the other side told, and is quiet after that."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    detector.writing(owner, [(CHUNK, 3 * CHUNK)])
    owner[CHUNK : 3 * CHUNK] = 9
    hashes = digests(owner)
    expected = (before[0], *hashes[1:3], *before[3:])
    assert changed(detector, owner, expected) == set()
    assert changed(detector, owner, expected) == set()
    owner[CHUNK + PAGE] = 3
    assert changed(detector, owner, expected) == {1}


@both
def test_own_writes_that_a_thread_wrote_over_are_a_change(detection):
    """A chunk that holds something else than the other side told is changed."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    detector.writing(owner, [(CHUNK, 2 * CHUNK)])
    owner[CHUNK : 2 * CHUNK] = 9
    expected = (before[0], digests(owner)[1], *before[2:])
    owner[CHUNK + 7] = 3
    assert changed(detector, owner, expected) == {1}


@both
def test_the_told_hashes_are_those_of_the_bytes(detection):
    """The other side can check what it got."""
    detector, owner = Contents(detection), buffer()
    before = detector.labels(owner)
    owner[CHUNK + PAGE] = 4
    owner[-1] = 4
    now = detector.labels(owner, before)
    runs = dirty_runs(before, now, SIZE)
    assert contents.told(now, owner, runs) == {1: digests(owner)[1], 5: digests(owner)[5]}


@both
def test_storages_of_torch(detection):
    """A storage is tracked like an array; one that was resized or shared is another one."""
    torch = pytest.importorskip("torch")
    tensor = torch.ones(SIZE)
    detector = Contents(detection)
    storage = tensor.untyped_storage()
    before = detector.labels(storage)
    tensor[5] = 3
    assert changed(detector, storage, before) == {0}
    now = detector.labels(storage)
    storage.resize_(4 * SIZE + (1 << 20))
    assert len(detector.labels(storage)) != len(now)
    storage.share_memory_()
    now = detector.labels(storage)
    tensor[7] = 3
    assert changed(detector, storage, now) == {0}


@both
def test_memory_in_an_order_of_its_own(detection):
    """An owner whose axes are permuted, or that is Fortran ordered, is seen whole."""
    for owner in (
        np.ones((64, 128, 256)).transpose(1, 0, 2).copy(order="K"),
        np.ones((1 << 10, 1 << 10), order="F"),
    ):
        detector = Contents(detection)
        before = detector.labels(owner)
        owner[3, 5] = 7
        assert changed(detector, owner, before)
        now = detector.labels(owner)
        assert changed(detector, owner, now) == set()


writes = st.lists(
    st.tuples(st.sampled_from(range(8)), st.integers(0, SIZE - 1), st.integers(1, 40_000)),
    max_size=6,
)


@pytest.mark.parametrize("detection", ["hash", pytest.param("tracking", marks=offered), "auto"])
@settings(max_examples=40, deadline=None)
@given(rounds=st.lists(st.tuples(writes, st.booleans()), min_size=1, max_size=6))
def test_equal_labels_mean_equal_bytes(detection, rounds):
    """After any writes a label that stayed means that its chunk did, in all later rounds too."""
    detector, owner = Contents(detection), buffer(SIZE + (4 << 20))
    then = [(detector.labels(owner), owner.copy())]
    for steps, cool in rounds:
        for kind, place, length in steps:
            write_somehow(detector, owner, kind, place, length)
        if cool:
            owner[:] = owner[::-1].copy()
        now = detector.labels(owner)
        for labels, bytes_then in then:
            for index, (old, new) in enumerate(zip(labels, now, strict=True)):
                part = slice(index * CHUNK, (index + 1) * CHUNK)
                assert old != new or np.array_equal(bytes_then[part], owner[part])
        then.append((now, owner.copy()))
        assert changed(detector, owner, now) == set()


def write_somehow(detector, owner, kind, place, length):
    part = slice(place, place + length)
    if kind == 0:
        owner[part] += 1
    elif kind == 1:
        ctypes.memset(owner.ctypes.data + place, kind, length)
    elif kind == 2:
        detector.writing(owner, [(place, place + length)])
        owner[part] += 3
    elif kind == 3:
        with open("/dev/urandom", "rb") as file:
            file.readinto(memoryview(owner)[part])
    elif kind == 4:
        owner[place] = owner[place]  # the same bytes
    elif kind == 5:
        thread = threading.Thread(target=owner[part].fill, args=[length % 251])
        thread.start()
        thread.join()
    elif kind == 6:
        first, last = pages.inner(owner.ctypes.data + place, owner.ctypes.data + place + length)
        if last > first:
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
    else:
        byte_array(owner)[part] ^= 255


libc = ctypes.CDLL(None)
