import contextlib
import ctypes
import mmap

import numpy as np
import pytest

from zerokernel.crossing import pages, tracking
from zerokernel.crossing.pages import PAGE, Pages
from zerokernel.crossing.tracking import Tracking

offered = pytest.mark.skipif(bool(pages.trial()), reason=f"not offered here: {pages.trial()}")


@pytest.fixture(params=[False, True], ids=["looks for dropped pages", "is told of them"])
def tracked(request, no_open_descriptors):
    """Tracking of its own, beside this process's."""
    if pages.trial(counts_dropped=request.param):
        pytest.skip("this Linux does not tell of dropped pages")
    with contextlib.closing(Pages(counts_dropped=request.param)) as opened:
        yield Tracking(opened)


@contextlib.contextmanager
def mapped(count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, file=-1):
    """Memory of so many pages, all touched, and its address."""
    with mmap.mmap(file, count * PAGE, flags=flags) as memory:
        for page in range(count):
            memory[page * PAGE] = 1
        yield memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


@offered
@pytest.mark.parametrize("wrong", [[], [(0, PAGE)]])
def test_the_self_test_fails_where_the_answers_are_wrong(monkeypatch, wrong):
    """An answer that names pages that were not written, or none, counts as no answer."""
    monkeypatch.setattr(Pages, "take_written", lambda self, *args: wrong)
    assert pages.trial() == "it reports wrong pages"


@offered
def test_where_dropped_pages_are_not_told_of_they_are_looked_for(monkeypatch):
    """The cheaper way is taken only where its own self-test is right."""
    wrong = {True: "it reports wrong pages", False: ""}
    monkeypatch.setattr(pages, "trial", lambda counts_dropped: wrong[counts_dropped])
    found = pages.best()
    assert found is not None
    assert not found._counts_dropped
    found.close()


@offered
def test_soft_failures_are_no_tracking(monkeypatch):
    """Where the self-test fails nothing is tracked, and what fails is said in words."""
    monkeypatch.setattr(pages, "_UFFDIO_REGISTER", 0xC0005A5A)
    assert pages.trial() != ""
    monkeypatch.setattr(tracking, "_found", {})
    assert tracking.of_this_process() is None


@offered
def test_both_ways_to_ask_for_a_mapping_agree(tmp_path, tracked):
    """The question to newer versions of Linux and the list that all have say the same."""
    path = tmp_path / "file"
    path.write_bytes(bytes(PAGE))
    owned = np.ones(1 << 20, np.uint8)
    asked = tracked._pages
    with open(path, "r+b") as file, contextlib.ExitStack() as all_mapped:
        private = mapped(1)
        shared = mapped(1, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        of_file = mapped(1, mmap.MAP_PRIVATE, file.fileno())
        places = [all_mapped.enter_context(one)[1] for one in (private, shared, of_file)]
        places.append(owned.ctypes.data)
        by_list = [asked._read_mapping(place) is not None for place in places]
        assert by_list == [True, False, False, True]
        assert [asked.is_private(place, place + 1) for place in places] == by_list
        for place in places:
            try:
                assert asked._ask_mapping(place) == asked._read_mapping(place)
            except OSError:
                pytest.skip("before Linux 6.11")


@offered
def test_no_two_tracked_ranges_overlap(tracked):
    """The second of two that overlap is not tracked, whichever side it lies on."""
    with mapped(8) as (_, start):
        at = [start + page * PAGE for page in range(9)]
        assert tracked.begin(at[2], at[5])
        for first, last in ((0, 3), (2, 5), (3, 4), (4, 8), (0, 8)):
            assert not tracked.begin(at[first], at[last])
        assert tracked.begin(at[0], at[2])
        assert tracked.begin(at[5], at[8])
        tracked.end(at[2], at[5])
        assert tracked.begin(at[3], at[4])


@offered
def test_written_pages_are_told_once(tracked):
    """Each write is told to the next question only; a released page counts as written."""
    with mapped(8) as (memory, start):
        assert tracked.begin(start, start + 8 * PAGE)
        assert tracked.take_written(start, start + 8 * PAGE) == []
        memory[3 * PAGE + 5] = 7
        found = [(start + 3 * PAGE, start + 4 * PAGE)]
        assert tracked.take_written(start, start + 8 * PAGE) == found
        assert tracked.take_written(start, start + 8 * PAGE) == []
        tracked.release(start, start + PAGE)
        assert tracked.take_written(start, start + 8 * PAGE) == [(start, start + PAGE)]


@offered
def test_more_regions_than_one_answer_holds(tracked):
    """Every second page of many is told."""
    count = 3 * pages._REGIONS
    with mapped(count) as (memory, start):
        assert tracked.begin(start, start + count * PAGE)
        for page in range(0, count, 2):
            memory[page * PAGE] = 2
        found = tracked.take_written(start, start + count * PAGE)
        assert found == [
            (start + page * PAGE, start + (page + 1) * PAGE) for page in range(0, count, 2)
        ]


@offered
def test_memory_that_was_replaced_is_no_longer_told_of(tracked):
    """Another mapping at the same place gives no answer, rather than "not written"."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    fixed, private = 0x10, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mapped(4) as (_, start):
        assert tracked.begin(start, start + 4 * PAGE)
        place = ctypes.c_void_p(start + PAGE)
        both = mmap.PROT_READ | mmap.PROT_WRITE
        length = ctypes.c_size_t(PAGE)
        assert libc.mmap(place, length, both, private | fixed, -1, ctypes.c_long(0)) == place.value
        assert tracked.take_written(start, start + 4 * PAGE) is None
