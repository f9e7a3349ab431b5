"""What the crossing asks of the memory of devices: real ones, and one that pretends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from zerokernel import emulation  # noqa: E402
from zerokernel.crossing.buffers import CHUNK  # noqa: E402
from zerokernel.crossing.cuda_memory import CudaMemory, Lane  # noqa: E402
from zerokernel.crossing.device_memory import DeviceMemory  # noqa: E402
from zerokernel.crossing.pretended_memory import PretendedMemory, Traffic  # noqa: E402
from zerokernel.errors import CannotTravel  # noqa: E402

SIZES = (0, 1, 7, 64 << 10, (64 << 10) + 1, CHUNK, 3 * CHUNK + 13, (1 << 20) + 8)


def on_the_host(size: int) -> Any:
    return torch.empty(size, dtype=torch.uint8)


@pytest.fixture(params=["host", "pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def memory(request: pytest.FixtureRequest) -> Iterator[DeviceMemory]:
    if request.param == "host":
        yield CudaMemory("cpu", on_the_host, buffer=100_000)
    elif request.param == "pretended":
        emulation.emulate()
        yield PretendedMemory()
        emulation.remove()
    elif not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    else:
        yield CudaMemory()


def some(size: int) -> Any:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_go_there_and_back(memory: DeviceMemory, size: int) -> None:
    """What is read is what was placed, whole or in part, and a copy of it."""
    data = some(size)
    storage = memory.place(data, 0)
    memory.settle()
    assert memory.holds(storage)
    assert (storage.nbytes(), memory.index_of(storage)) == (size, 0)
    found = memory.read(storage, 0, size)
    assert np.array_equal(found, data)
    found += 1
    assert np.array_equal(memory.read(storage, size // 3, size // 2), data[size // 3 : size // 2])


@pytest.mark.parametrize("size", SIZES)
def test_what_was_placed_is_not_the_source(memory: DeviceMemory, size: int) -> None:
    """The source may be written to, or go, as soon as it was placed."""
    data = some(size)
    kept = data.copy()
    storage = memory.place(data, 0)
    data += 1
    memory.settle()
    assert np.array_equal(memory.read(storage, 0, size), kept)


@pytest.mark.parametrize("size", SIZES[1:])
def test_writing(memory: DeviceMemory, size: int) -> None:
    """Bytes are written where they belong."""
    data = some(size)
    storage = memory.place(data, 0)
    piece = some(size + 1)[: size - size // 2]
    piece.flags.writeable = False  # as what came in a message
    memory.write(storage, size // 2, piece)
    memory.settle()
    assert np.array_equal(memory.read(storage, 0, size)[size // 2 :], piece)
    assert np.array_equal(memory.read(storage, 0, size // 2), data[: size // 2])


@pytest.mark.parametrize("size", SIZES)
def test_labels_tell_which_chunk_changed(memory: DeviceMemory, size: int) -> None:
    """One label a chunk; equal bytes have equal ones anywhere; one bit changes only its own."""
    data = some(size)
    storage = memory.place(data, 0)
    before = memory.labels(storage)
    assert len(before) == -(-size // CHUNK)
    assert memory.labels(memory.place(data, 0)) == before
    for place in {0, size // 2, size - 1} if size else ():
        memory.write(storage, place, data[place : place + 1] ^ 0x80)
        now = memory.labels(storage)
        assert [n for n, label in enumerate(now) if label != before[n]] == [place // CHUNK]
        memory.write(storage, place, data[place : place + 1])
    assert memory.labels(storage) == before


Change = Callable[[Any], Any]
NATURAL: dict[str, Change] = {
    "signs of all": lambda x: -x,
    "signs of two": lambda x: np.concatenate([-x[:2], x[2:]]),
    "two change places": lambda x: np.concatenate([x[1::-1], x[2:]]),
    "turned round": lambda x: x[::-1],
    "rolled": lambda x: np.roll(x, 1),
    "a second difference": lambda x: x + np.eye(3, len(x))[0] - 2 * np.eye(3, len(x))[1]
    + np.eye(3, len(x))[2],
    "one more, one less": lambda x: x + np.eye(2, len(x))[0] - np.eye(2, len(x))[1],
    "scaled by two": lambda x: 2 * x,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.int16])
@pytest.mark.parametrize("change", NATURAL)
def test_labels_see_what_programs_do(memory: DeviceMemory, change: str, dtype: Any) -> None:
    """Changes that leave plain sums as they were are seen."""
    for start in range(1, 6):
        data = np.arange(start, start + 40_000).astype(dtype)
        changed = np.ascontiguousarray(NATURAL[change](data).astype(dtype))
        storage = memory.place(data.view(np.uint8), 0)
        before = memory.labels(storage)
        memory.write(storage, 0, changed.view(np.uint8))
        assert memory.labels(storage) != before


def test_there_is_no_such_device(memory: DeviceMemory) -> None:
    """A device that is not there is refused by its number."""
    with pytest.raises(CannotTravel, match="cuda:99"):
        memory.place(some(8), 99)


def test_traffic_is_counted() -> None:
    """The pretended memory counts transfers and bytes, and begins anew after each look."""
    emulation.emulate()
    try:
        memory = PretendedMemory()
        storage = memory.place(some(100), 0)
        memory.write(storage, 10, some(5))
        memory.read(storage, 0, 50)
        assert memory.look() == Traffic(1, 1, 1, 105, 50)
        assert memory.look() == Traffic()
    finally:
        emulation.remove()


class Queue:
    """A device that does what it was told when somebody waits for it, and no sooner."""

    def __init__(self) -> None:
        self.told: list[Callable[[], object]] = []
        self.done = 0

    def mark(self) -> Callable[[], None]:
        count = len(self.told)

        def wait() -> None:
            while self.done < count:
                self.told[self.done]()
                self.done += 1

        return wait


class Later:
    """A flat tensor, copies from and to which are only noted."""

    def __init__(self, tensor: Any, queue: Queue) -> None:
        self.tensor, self.queue = tensor, queue

    def numel(self) -> int:
        return int(self.tensor.numel())

    def __getitem__(self, part: slice) -> Later:
        return Later(self.tensor[part], self.queue)

    def copy_(self, source: Any, non_blocking: bool = False) -> None:
        target, tensor = self.tensor, getattr(source, "tensor", source)
        if isinstance(source, Later) or isinstance(self, Later):
            self.queue.told.append(lambda: target.copy_(tensor))


class Buffer(Later):
    """A pinned buffer: the host writes to it at once, the device later."""

    def __getitem__(self, part: slice) -> Buffer:
        return Buffer(self.tensor[part], self.queue)

    def copy_(self, source: Any, non_blocking: bool = False) -> None:
        if isinstance(source, Later):
            super().copy_(source)
        else:
            self.tensor.copy_(source)


class Host:
    """Host memory: what it gets from a buffer it gets at once."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __getitem__(self, part: slice) -> Host:
        return Host(self.tensor[part])

    def copy_(self, source: Any) -> None:
        self.tensor.copy_(source.tensor)


@pytest.mark.parametrize("sizes", [[5, 5000, 1, 1, 700], [999, 1000, 1001], [3, 512, 512, 600]])
def test_no_buffer_is_used_while_the_device_needs_it(sizes: list[int]) -> None:
    """Over a device that is as late as it may be, all bytes arrive, both ways."""
    queue = Queue()
    buffers = (Buffer(on_the_host(1000), queue), Buffer(on_the_host(1000), queue))
    lane = Lane(buffers, queue.mark)
    sources = [torch.from_numpy(some(size)) for size in sizes]
    there = [on_the_host(size) for size in sizes]
    for target, source in zip(there, sources, strict=True):
        lane.send(Later(target, queue), source)
    lane.settle()
    assert all(map(torch.equal, there, sources))
    home = [on_the_host(size) for size in sizes]
    for target, source in zip(home, there, strict=True):
        lane.receive(Host(target), Later(source, queue))
        lane.send(Later(on_the_host(10), queue), torch.from_numpy(some(10)))
    assert all(map(torch.equal, home, sources))
