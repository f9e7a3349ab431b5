"""Xid errors: which of them a cell causes itself, and which say that a device is not well.

After NVIDIA's Xid catalog (https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html),
where what a cell causes itself is to be met by restarting the application, and after what NVIDIA's
device plugin for Kubernetes takes for errors of the application. One difference: 94, which ends
one process alone, is no fault of that process. A number that is in no group here counts against
the device: a slice too few is better than a wrong result.
"""

from __future__ import annotations

from enum import Enum

_OF_THE_CELL = frozenset(
    {
        *(8, 13, 31, 32, 43, 45),  # exceptions, page faults and channels of one process
        *(39, 40, 41, 42, 60, 65, 68, 69, 70, 71, 72, 73),  # its copy and video engines
        *(82, 83, 84, 85, 86, 87, 88, 89, 96, 97, 98, 99, 100, 101),
        *(104, 105, 106, 107, 108, 109),  # a context that took too long, among others
    }
)
_NOTES = frozenset({63, 92, 93, 121})
"""A row was remapped, corrected errors were counted, wear, a link that mended itself."""

_WORDS = {
    48: "a memory error that could not be corrected",
    62: "its controller stopped",
    64: "bad memory could not be mapped away",
    74: "an error of NVLink",
    79: "it has fallen off the bus",
    94: "a memory error that hit this process alone",
    95: "a memory error that may have hit all processes",
    119: "its system processor does not answer",
    120: "an error of its system processor",
    140: "memory errors that were not recovered from",
    143: "it could not be initialised",
}


class Blame(Enum):
    """What an Xid error means for who may use the device next."""

    CELL = "the cell's own fault; the device is well"
    NOTE = "for the log: nothing was lost"
    DEVICE = "the device is not well"


def blame(number: int) -> Blame:
    """Tells whom to blame for an Xid error."""
    if number in _OF_THE_CELL:
        return Blame.CELL
    return Blame.NOTE if number in _NOTES else Blame.DEVICE


def describe(number: int) -> str:
    """Gives "Xid 48, a memory error that could not be corrected"."""
    words = _WORDS.get(number)
    return f"Xid {number}" + (f", {words}" if words else "")
