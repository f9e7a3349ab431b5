"""`forecast` rehearses a shipment: its figures are those of the shipment, and nothing changes."""

import threading

import pytest

from zerokernel.crossing.forecast import forecast

SETUP = """
shared = list(range(1000))
first = {"data": shared, "text": "x" * 5000}
second = [shared, shared]
def reader(at):
    return shared[at]
"""
HEADER_BYTES = 400
"""A shipment says besides what its names need."""


@pytest.fixture
def two_cells(pair):
    pair.plain(SETUP)
    return pair


def by_name(found):
    return {one.name: one for one in found.passages}


def shipped(pair, names):
    shipment = pair.kernel.ship(names)
    pair.kernel.settle()
    return shipment.byte_count


@pytest.mark.parametrize("names", [{"first"}, {"first", "second"}, {"reader"}])
def test_the_figures_are_those_of_the_shipment(two_cells, names):
    """Before the first crossing all travels; what two names share counts once."""
    found = forecast(two_cells.kernel, names)
    assert found.travels == pytest.approx(shipped(two_cells, names), abs=HEADER_BYTES)
    assert found.size == pytest.approx(found.travels, abs=HEADER_BYTES)


def test_what_a_function_reads_is_among_the_names(two_cells):
    """A name that only a function of the cell reads would travel as well."""
    found = by_name(forecast(two_cells.kernel, {"reader"}))
    assert set(found) == {"reader", "shared"}
    assert found["shared"].travels > 2000


def test_what_is_there_does_not_travel_again(two_cells):
    """A name that the worker has costs nothing, whatever its size."""
    two_cells.cell("first, second", ["first", "second"])
    found = forecast(two_cells.kernel, {"first", "second"})
    assert all(one.travels < 64 for one in found.passages)
    assert found.changes < 64
    assert by_name(found)["first"].size > 5000


def test_a_change_is_counted(two_cells):
    """What changed in what is there travels, and is told apart."""
    two_cells.cell("first, second", ["first", "second"])
    two_cells.plain("shared[7] = 'y' * 300")
    found = forecast(two_cells.kernel, {"first"})
    assert 2000 < found.changes < 6000
    assert found.travels == pytest.approx(shipped(two_cells, {"first"}), abs=HEADER_BYTES)


def test_a_changed_array_counts_the_chunks_that_changed(pair):
    """Of a large array only these would go."""
    pair.plain("import numpy\na = numpy.zeros(1 << 18)")
    pair.cell("a", ["a"])
    assert forecast(pair.kernel, {"a"}).travels < 1000
    pair.plain("a[5] = 1")
    assert 200_000 < forecast(pair.kernel, {"a"}).travels < 400_000
    assert 200_000 < forecast(pair.kernel, {"a"}).travels < 400_000
    pair.cell("seen = float(a[5])", ["a"])
    assert pair.namespace["seen"] == 1.0


def test_a_rehearsal_changes_nothing(two_cells):
    """The next cell finds, sends and returns what it would have."""
    two_cells.cell("first['n'] = 1", ["first"])
    for _ in range(3):
        forecast(two_cells.kernel, {"first", "second", "reader"})
    two_cells.cell("first['n'] += 1; second.append(first)", ["first", "second"])
    space = two_cells.namespace
    assert space["first"]["n"] == 2
    assert space["second"][2] is space["first"]
    assert space["second"][0] is space["shared"]


def test_what_cannot_travel_says_why(pair):
    """The others have their figures all the same."""
    pair.namespace["thread"] = threading.Thread()
    pair.plain("numbers = [1, 2, 3]")
    found = by_name(forecast(pair.kernel, {"thread", "numbers"}))
    assert "is a thread" in found["thread"].blocked
    assert found["numbers"].travels > 0
    assert not found["numbers"].blocked
