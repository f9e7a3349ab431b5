"""A receipt says in one line what a cell used, and drops nothing."""

import pytest

from zerokernel.notebook.receipt import Receipt, seconds, size
from zerokernel.notebook.status import Line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0 ms"),
        (0.0032, "3 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1, "1 s"),
        (8.04, "8 s"),
        (12.44, "12.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (65.4, "1 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (5400, "1 h 30 min"),
        (90000, "25 h"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    """Times read as people say them, and rounding carries into the next unit."""
    assert seconds(value) == text


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_what_is_no_time(value: float) -> None:
    """A negative or endless time is refused rather than shown."""
    with pytest.raises(ValueError, match="no length of time"):
        seconds(value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_240_000_000, "1.2 GB"),
        (3_000_000, "3 MB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (268_435_456, "268 MB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (141_000_000_000, "141 GB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_size(count: int, text: str) -> None:
    """Sizes have two or three digits and decimal units, and rounding carries."""
    assert size(count) == text


def test_what_is_no_size() -> None:
    """A negative number of bytes is refused rather than shown."""
    with pytest.raises(ValueError, match="no number of bytes"):
        size(-1)


def test_the_line_in_full() -> None:
    """All figures stand in one line, in the order of the cell's way."""
    receipt = Receipt(
        slice="half H200",
        ran=12.4,
        waited=8,
        sent_bytes=1_200_000_000,
        returned_bytes=3_000_000,
        worker_only={"gen": "a generator cannot travel", "model.lock": "a lock cannot travel"},
    )
    assert receipt.line() == (
        "ran 12.4 s on half H200 · waited 8 s · sent 1.2 GB · returned 3 MB"
        " · worker-only: gen, model.lock"
    )


def test_the_line_of_a_cell_that_did_nothing() -> None:
    """What is next to nothing is not mentioned."""
    assert Receipt(slice="simulated 1", ran=0.004, waited=0.01).line() == (
        "ran 4 ms on simulated 1"
    )


def test_every_note_and_remedy_is_shown_in_both_forms() -> None:
    """What stayed in the worker, why, what to do, and each note appear in text and HTML."""
    receipt = Receipt(
        slice="s", ran=1, worker_only={"gen": "because of X; do Y"}, notes=("first", "second")
    )
    line = Line("receipt", receipt.line(), details=receipt.details())
    for form in line.data().values():
        for part in ("gen", "because of X; do Y", "first", "second"):
            assert part in form
    assert line.data()["text/plain"].splitlines()[1:] == [
        "  gen stayed in the worker: because of X; do Y",
        "  first",
        "  second",
    ]
