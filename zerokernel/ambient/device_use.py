"""A cell asks that its worker keep nothing on the device when the cell is over."""

from __future__ import annotations


class _Asked:
    """The mutable state: whether the cell that runs has asked."""

    yes = False


def free_device_memory() -> None:
    """Has the worker let go of everything when this `%%gpu` cell is over; `%gpu free` does it now.

    The device's memory is free for the next stage of the work. The notebook's variables stay, and
    travel again with the next cell that uses them. What stayed in the worker alone, such as the
    graph of a loss, is gone. Anywhere but in a `%%gpu` cell this does nothing.
    """
    _Asked.yes = True


def take_request() -> bool:
    """Whether the cell that just ran asked for it; asking counts once."""
    asked, _Asked.yes = _Asked.yes, False
    return asked
