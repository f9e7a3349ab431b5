"""Which instances share their attributes."""

import io

import pytest

from zerokernel.crossing.pickling import Packer


def shared(*items: object) -> int:
    """How many dicts of these instances travel as the very dict."""
    packer = Packer(io.BytesIO(), {}, in_worker=False)
    for item in items:
        packer.dump(item)
    return len(packer.shared_dicts)


class Point:
    def __init__(self, x: object = 1) -> None:
        self.x = x


class Empty:
    pass


@pytest.mark.parametrize("made", [Point, Empty])
def test_attributes_of_one_instance_alone_are_not_shared(made: type) -> None:
    """Neither at first nor once its dict was asked for: such instances are pickled as ever."""
    alone = made()
    assert shared(alone) == 0
    vars(alone)["y"] = 2
    assert shared(alone, made(), made()) == 0


def test_what_else_refers_to_an_instances_dict_is_seen() -> None:
    """A name for it, another instance, and a container."""
    named, behind, held = Point(), Point(), Point()
    kept = vars(named)
    assert shared(named) == 1
    behind.__dict__ = held.__dict__
    assert shared(behind, held) == 1
    del behind
    assert shared(held) == 0
    box = [vars(held)]
    assert shared(held) == 1
    assert box[0] is not kept
