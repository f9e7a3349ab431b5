"""Overwriting a device's memory, over a device that is a list of blocks."""

from __future__ import annotations

import ctypes

import pytest

from zerokernel.broker.devices.overwriting import CudaFailed, _overwrite

MIB = 1 << 20
GIB = 1 << 30


class Device:
    """Gives memory as long as there is some in one piece; ``bad`` blocks read back wrong."""

    def __init__(self, *pieces: int, bad: int | None = None) -> None:
        self.pieces = list(pieces)
        self.bad = bad
        self.filled: dict[int, int] = {}
        self._next = 1

    def take(self, size: int) -> ctypes.c_uint64 | None:
        for number, piece in enumerate(self.pieces):
            if piece >= size:
                self.pieces[number] -= size
                self._next += 1
                return ctypes.c_uint64(self._next)
        return None

    def fill(self, address: ctypes.c_uint64, size: int) -> None:
        self.filled[address.value] = size

    def is_filled(self, address: ctypes.c_uint64, size: int) -> bool:
        return self.filled[address.value] == size and address.value != self.bad


def test_all_that_is_free_is_filled() -> None:
    """In large blocks first, then in smaller ones, down to what the device gives at least."""
    device = Device(140 * GIB + 700 * MIB, 3 * MIB, MIB)
    total = _overwrite(device)  # type: ignore[arg-type]  # stands for the driver
    assert total == sum(device.filled.values()) == 140 * GIB + 702 * MIB
    assert sum(device.pieces) < 3 * MIB
    assert len(device.filled) < 40


@pytest.mark.parametrize(
    ("device", "why"),
    [(Device(), "none of its memory is free"), (Device(9 * GIB, bad=2), "something else")],
)
def test_what_is_not_overwritten_is_said(device: Device, why: str) -> None:
    """No free memory, and memory that does not keep what is written."""
    with pytest.raises(CudaFailed, match=why):
        _overwrite(device)  # type: ignore[arg-type]  # stands for the driver
