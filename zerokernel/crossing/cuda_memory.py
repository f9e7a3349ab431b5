# ruff: noqa: D102 - the methods are those of DeviceMemory, documented there
"""The memory of real CUDA devices.

Bytes go there and back through two pinned buffers in turn: while the device copies one, the other
is filled or emptied. Registering each buffer of a shipment with the driver instead would cost more
than one copy of it; and a copy from memory that is not pinned is done by the driver in just this
way, but by one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerokernel.crossing.buffers import IN_BAND, digests
from zerokernel.crossing.checksum import labels_of
from zerokernel.crossing.device_memory import past_modes
from zerokernel.errors import CannotTravel

BUFFER = 8 << 20
"""Bytes of each of the two pinned buffers of a device."""

_ALIGNED = 512


class CudaMemory:
    """The devices of this process.

    The mutable state: the pinned buffers of each device, made when it is first used.

    Args:
        kind: torch's name of the kind of device.
        pinned: Makes a pinned buffer of so many bytes; torch's own by default.
        buffer: Size of such a buffer in bytes.
    """

    def __init__(
        self,
        kind: str = "cuda",
        pinned: Callable[[int], Any] | None = None,
        buffer: int = BUFFER,
    ) -> None:
        self._kind = kind
        self._pinned = pinned or _pinned
        self._buffer = buffer
        self._lanes: dict[Any, Lane] = {}

    def holds(self, storage: Any) -> bool:
        return bool(storage.device.type == self._kind)

    def index_of(self, storage: Any) -> int:
        return int(storage.device.index or 0)

    @past_modes
    def place(self, data: Any, index: int) -> Any:
        import torch

        device = self._device(index)
        storage = torch.UntypedStorage(data.nbytes, device=device)  # type: ignore[no-untyped-call]
        self._send(_flat(storage), data)
        return storage

    def settle(self) -> None:
        for lane in self._lanes.values():
            lane.settle()

    @past_modes
    def read(self, storage: Any, start: int, stop: int) -> Any:
        import numpy as np
        import torch

        there = _flat(storage)[start:stop]
        home = np.empty(stop - start, np.uint8)
        here = torch.from_numpy(home)
        if stop - start <= IN_BAND:
            here.copy_(there)
        else:
            self._lane(there.device).receive(here, there)
        return home

    @past_modes
    def write(self, storage: Any, start: int, data: Any) -> None:
        self._send(_flat(storage)[start : start + data.nbytes], data)

    @past_modes
    def labels(self, storage: Any) -> tuple[int, ...]:
        size = storage.nbytes()
        if size <= IN_BAND:  # a dozen kernels on the device would take longer
            return digests(self.read(storage, 0, size))
        return labels_of(_flat(storage))

    def release(self) -> None:
        import torch

        self._lanes.clear()
        cuda: Any = torch.cuda
        if cuda.is_initialized():
            cuda.empty_cache()

    def _device(self, index: int) -> Any:
        import torch

        count = torch.cuda.device_count() if self._kind == "cuda" else 1
        if index >= count:
            raise CannotTravel(
                f"A tensor of the notebook is on cuda:{index}, but the slice has {count} "
                "device(s). Move it to another one, or ask for a size with more."
            )
        return torch.device(self._kind, index)

    def _send(self, there: Any, data: Any) -> None:
        import torch

        if there.numel():
            # torch warns of an array that it must not write to; those are small.
            here = torch.from_numpy(data if data.flags.writeable else data.copy())
            self._lane(there.device).send(there, here)

    def _lane(self, device: Any) -> Lane:
        lane = self._lanes.get(device)
        if lane is None:
            buffers = (self._pinned(self._buffer), self._pinned(self._buffer))
            lane = self._lanes[device] = Lane(buffers, _mark(device))
        return lane


class Lane:
    """Two pinned buffers, through which bytes go to a device and back.

    The mutable state: which one is being filled and how far, and what is to be waited for before
    each can be filled again.

    Args:
        buffers: Flat tensors of uint8, of one size.
        mark: Gives a function that waits for everything that the device was told until now.
    """

    def __init__(self, buffers: tuple[Any, Any], mark: Callable[[], Callable[[], None]]) -> None:
        self._buffers = buffers
        self._size = buffers[0].numel()
        self._mark = mark
        self._turn = self._used = 0
        self._waits: list[Callable[[], None] | None] = [None, None]

    def send(self, there: Any, here: Any) -> None:
        """Copies host memory to the device; returns when the host memory has been read."""
        for start in range(0, here.numel(), self._size):
            piece = here[start : start + self._size]
            room = self._room(piece.numel())
            room.copy_(piece)
            there[start : start + self._size].copy_(room, non_blocking=True)

    def receive(self, here: Any, there: Any) -> None:
        """Copies memory of the device into host memory."""
        before: tuple[Any, Any] | None = None
        for start in range(0, there.numel(), self._size):
            piece = there[start : start + self._size]
            self._change()
            room = self._room(piece.numel())
            room.copy_(piece, non_blocking=True)
            wait = self._mark()
            if before is not None:
                _empty(*before)
            before = (here[start : start + self._size], (room, wait))
        if before is not None:
            _empty(*before)

    def settle(self) -> None:
        """Waits until what was sent is there."""
        self._mark()()

    def _room(self, size: int) -> Any:
        """So much of a buffer that nobody uses."""
        if self._used + size > self._size:
            self._change()
        start = self._used
        self._used = -(-(start + size) // _ALIGNED) * _ALIGNED
        return self._buffers[self._turn][start : start + size]

    def _change(self) -> None:
        """Goes on with the other buffer as soon as the device is done with it."""
        self._waits[self._turn] = self._mark()
        self._turn, self._used = 1 - self._turn, 0
        wait, self._waits[self._turn] = self._waits[self._turn], None
        if wait is not None:
            wait()


def _empty(target: Any, filled: tuple[Any, Callable[[], None]]) -> None:
    room, wait = filled
    wait()
    target.copy_(room)


def _flat(storage: Any) -> Any:
    """All bytes of a storage as a tensor over it."""
    import torch

    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _pinned(size: int) -> Any:
    import torch

    return torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)


def _mark(device: Any) -> Callable[[], Callable[[], None]]:
    """What marks the present end of a device's queue; work of the host is done at once."""
    import torch

    if device.type != "cuda":
        return lambda: lambda: None
    cuda: Any = torch.cuda

    def mark() -> Callable[[], None]:
        event = cuda.Event()
        event.record(cuda.current_stream(device))
        wait: Callable[[], None] = event.synchronize
        return wait

    return mark
