import io
import pickle

import cloudpickle
import pytest

from zerokernel.crossing import memo

LISTS = [[number, str(number)] for number in range(memo._MANY)]


@pytest.fixture(params=["memory", "copy"])
def way(request, monkeypatch):
    """Whether the pickler's table is read as memory, or asked for as a copy."""
    if request.param == "copy":
        monkeypatch.setattr(memo, "_is_readable", lambda: False)
    elif not memo._is_readable():
        pytest.skip("laid out otherwise here")


@pytest.mark.parametrize("value", [[], LISTS, (LISTS, {"a": LISTS[0]}, memo, b"x" * 100)])
def test_objects_in_the_order_of_their_numbers(way, value):
    """Every object is at the place of its number, and is that very object."""
    pickler = cloudpickle.Pickler(io.BytesIO(), 5)
    pickler.dump(value)
    expected = pickler.memo.copy()
    found = memo.objects(pickler)
    assert memo.count(pickler) == len(expected) == len(found)
    assert all(found[number] is item for number, item in expected.values())
    some = set(list(expected)[:3]) | {id(pickler)}
    known = {address: expected[address][0] for address in some & expected.keys()}
    assert memo.places(pickler, some) == known
    assert memo.places(pickler, set()) == {}


def test_numbers_of_several_dumps_go_on(way):
    """A pickler that dumps again numbers on, and what it knows keeps its number."""
    pickler = pickle.Pickler(io.BytesIO(), 5)
    pickler.dump(LISTS)
    pickler.dump([LISTS, "more"])
    found = memo.objects(pickler)
    assert found[0] is LISTS
    assert found[-2:] == [[LISTS, "more"], "more"]


def test_a_table_that_is_laid_out_otherwise_is_not_read(monkeypatch):
    """The trial reads past wrong addresses without harm, and says no."""
    memo._is_readable.cache_clear()
    try:
        monkeypatch.setattr(memo, "_HEAD", object.__basicsize__ + 8)
        assert not memo._is_readable()
    finally:
        memo._is_readable.cache_clear()
