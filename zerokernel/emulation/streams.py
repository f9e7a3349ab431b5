"""Streams and events of an emulated device: everything has happened when a call returns."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import torch

from zerokernel.emulation.devices import EmulatedDevice, devices, resolve


def on_of(device: Any) -> EmulatedDevice:
    """The device that an argument names; None is the current one.

    Raises:
        ValueError: It names a device of another kind.
    """
    if device is None:
        return devices.here()
    on = resolve(device)
    if on is None:
        raise ValueError(f"Expected a cuda device, but got: {torch.device(device)}")
    return on


class Stream:
    """An order of work that has no meaning here: work is done when it is asked for."""

    def __init__(self, device: Any = None, priority: int = 0, **kwargs: Any) -> None:
        self._on = on_of(device)
        self.priority = priority
        self.cuda_stream = id(self)
        self.stream_id = id(self)

    @property
    def device(self) -> Any:
        """The emulated device."""
        return self._on.device

    device_index = property(lambda self: self._on.index)

    def __reduce__(self) -> Any:
        return _stream, (self._on.index, self.priority)

    def query(self) -> bool:
        """Whether all work is done: always."""
        return True

    def is_capturing(self) -> bool:
        """Whether a graph is being recorded: never."""
        return False

    def synchronize(self) -> None:
        """Waits for nothing."""

    def wait_stream(self, stream: Any) -> None:
        """Waits for nothing."""

    def wait_event(self, event: Any) -> None:
        """Waits for nothing."""

    def record_event(self, event: Event | None = None) -> Event:
        """Records an event, a new one unless one is given."""
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        StreamContext(self).__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        set_stream(default_stream(self._on.device))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class Event:
    """A point in time, by the clock of this process."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        self.enable_timing = enable_timing
        self._at: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Notes the time."""
        self._at = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Waits for nothing."""

    def query(self) -> bool:
        """Whether all work is done: always."""
        return True

    def synchronize(self) -> None:
        """Waits for nothing."""

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds between this event and a later one.

        Raises:
            ValueError: One of the two was not recorded, or made without `enable_timing`.
        """
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._at is None or end_event._at is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return (end_event._at - self._at) * 1e3

    def __repr__(self) -> str:
        return "<torch.cuda.Event uninitialized>" if self._at is None else "<torch.cuda.Event>"


class DeviceEvent(Event):
    """What `torch.Event` is: an event of any kind of device."""

    def __init__(self, device: Any = None, **options: bool) -> None:
        super().__init__(**options)
        self.device = on_of(device).device


class _Chosen(threading.local):
    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}


_chosen = _Chosen()
_defaults: dict[int, Stream] = {}


def default_stream(device: Any = None) -> Stream:
    """The stream of a device that is there from the start."""
    on = on_of(device)
    if on.index not in _defaults:
        _defaults[on.index] = Stream(on.device)
        _defaults[on.index].cuda_stream = 0
    return _defaults[on.index]


def current_stream(device: Any = None) -> Stream:
    """The stream that this thread has chosen on a device."""
    on = on_of(device)
    return _chosen.streams.get(on.index) or default_stream(on.device)


def set_stream(stream: Stream | None) -> None:
    """Chooses a stream, and its device, for this thread."""
    if stream is not None:
        _chosen.streams[stream._on.index] = stream
        devices.current.index = stream._on.index


class StreamContext:
    """`with torch.cuda.stream(stream)`."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        self._device = devices.current.index
        if self.stream is not None:
            self._before = current_stream(self.stream.device)
            set_stream(self.stream)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.stream is not None:
            set_stream(self._before)
        devices.current.index = self._device


def _stream(index: int, priority: int) -> Any:
    """A stream that was pickled, on a real device where the process has one."""
    cuda: Any = torch.cuda
    return cuda.Stream(device=index, priority=priority)


for _class in (Stream, Event, StreamContext):
    _class.__module__ = "torch.cuda"
