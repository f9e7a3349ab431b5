# ruff: noqa: D102 - the methods are those of DeviceMemory, documented there
"""A device's memory without a device: storages on emulated devices, reached by copies alone.

For tests of what crosses: it counts how often bytes went there and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerokernel import emulation
from zerokernel.crossing.buffers import IN_BAND, Window, digests
from zerokernel.crossing.checksum import labels_of
from zerokernel.crossing.device_memory import past_modes
from zerokernel.errors import CannotTravel


@dataclass
class Traffic:
    """Transfers and bytes, there and back, since the last look.

    Attributes:
        placed: Storages that were made on a device.
        written: Changes that were written into storages there.
        read: Pieces of memory that were copied home.
        bytes_there: Bytes of the first two.
        bytes_home: Bytes of the third.
    """

    placed: int = 0
    written: int = 0
    read: int = 0
    bytes_there: int = 0
    bytes_home: int = 0


class PretendedMemory:
    """Emulated devices as devices whose memory nobody else sees.

    The mutable state: the traffic.

    Args:
        count: Of devices.
    """

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self.traffic = Traffic()

    def look(self) -> Traffic:
        """Gives the traffic since the last look."""
        found, self.traffic = self.traffic, Traffic()
        return found

    def holds(self, storage: Any) -> bool:
        return emulation.index_of(storage) is not None

    def index_of(self, storage: Any) -> int:
        index = emulation.index_of(storage)
        assert index is not None
        return index

    @past_modes
    def place(self, data: Any, index: int) -> Any:
        import torch

        if index >= self._count:
            raise CannotTravel(f"A tensor is on cuda:{index}, but there are {self._count} devices.")
        storage = torch.UntypedStorage(data.nbytes)  # type: ignore[no-untyped-call]
        _bytes(storage)[:] = data
        emulation.put_storage(storage, index)
        self.traffic.placed += 1
        self.traffic.bytes_there += data.nbytes
        return storage

    def settle(self) -> None:
        """Every transfer is over when its call is."""

    @past_modes
    def read(self, storage: Any, start: int, stop: int) -> Any:
        self.traffic.read += 1
        self.traffic.bytes_home += stop - start
        return _bytes(storage)[start:stop].copy()

    @past_modes
    def write(self, storage: Any, start: int, data: Any) -> None:
        _bytes(storage)[start : start + data.nbytes] = data
        self.traffic.written += 1
        self.traffic.bytes_there += data.nbytes

    @past_modes
    def labels(self, storage: Any) -> tuple[int, ...]:
        import torch

        size = storage.nbytes()
        if size <= IN_BAND:
            return digests(self.read(storage, 0, size))
        return labels_of(torch.from_numpy(_bytes(storage)))

    def release(self) -> None:
        """What nobody uses is gone already."""


def _bytes(storage: Any) -> Any:
    import numpy as np

    return np.asarray(Window(storage)) if storage.nbytes() else np.empty(0, np.uint8)
