"""Which instances share their attributes."""

import pytest

from zerokernel.crossing.shared_dicts import attributes_if_shared


class Point:
    def __init__(self, x: object = 1) -> None:
        self.x = x


class Empty:
    pass


@pytest.mark.parametrize("made", [Point, Empty])
def test_attributes_of_one_instance_alone_are_not_shared(made: type) -> None:
    """Neither at first nor once its dict was asked for: such instances are pickled as ever."""
    alone = made()
    assert attributes_if_shared(alone) is None
    vars(alone)["y"] = 2
    assert attributes_if_shared(alone) is None
    assert [attributes_if_shared(one) for one in [made(), made()]] == [None, None]


def test_what_else_refers_to_an_instances_dict_is_seen() -> None:
    """A name for it, another instance, and a container."""
    named, behind, held = Point(), Point(), Point()
    kept = vars(named)
    assert attributes_if_shared(named) is kept
    behind.__dict__ = held.__dict__
    assert attributes_if_shared(behind) is vars(held)
    del behind
    assert attributes_if_shared(held) is None
    box = [vars(held)]
    assert attributes_if_shared(held) is box[0]
