from zerokernel.crossing.pinned import Pinned, look


class Driver:
    """Answers as CUDA's library does for one registered range."""

    def __init__(self, start, stop, otherwise=1):
        self._start, self._stop, self._otherwise = start, stop, otherwise

    def cuPointerGetAttribute(self, kind, attribute, address):  # noqa: N802 - as CUDA calls it
        assert attribute.value == 2
        return 0 if self._start <= address.value < self._stop else self._otherwise


def test_memory_that_the_driver_knows_may_be_written_by_a_device():
    """Either end counts; what the driver does not know does not, nor before it is initialised."""
    pinned = Pinned(False, Driver(1000, 2000))
    ranges = [(0, 1000), (500, 1001), (1500, 1600), (1999, 3000), (2000, 3000)]
    assert [pinned.may_hold(*one) for one in ranges] == [False, True, True, True, False]
    assert not Pinned(False, Driver(0, 0, otherwise=3)).may_hold(0, 1)


def test_an_answer_that_is_not_understood_counts_as_pinned():
    """Any other error of the driver is no proof that memory is the process's own."""
    assert Pinned(False, Driver(0, 0, otherwise=201)).may_hold(0, 1)


def test_pages_that_the_system_counts_as_pinned_are_anybodys():
    """Linux tells how many pages are pinned, not which."""
    assert Pinned(True).may_hold(0, 1)
    assert not Pinned(False).may_hold(0, 1)


def test_nothing_is_pinned_here():
    """A process without devices has no pinned memory."""
    assert look().anywhere is False
