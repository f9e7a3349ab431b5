"""What the experiments run on: a CUDA device, or the CPU for a rehearsal of their plumbing."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import psutil

WHOLE = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class NoDevice(Exception):
    """There is no NVIDIA device that could be measured here."""


class Target(Protocol):
    """A device, as far as the experiments need it."""

    name: str
    torch_device: str

    def environment(self) -> dict[str, str]:
        """Variables under which a new process sees this device only."""

    def initialise_driver(self) -> None:
        """Does what the first CUDA call of a process does, and no more."""

    def synchronize(self) -> None:
        """Waits until the device has done all that this process gave it."""

    def device_seconds(self, work: Callable[[], object]) -> Callable[[], float]:
        """Queues work; the result, called after `synchronize`, says how long it took there."""

    def used_memory(self) -> int:
        """Bytes in use on the device, by whatever process."""

    def pinned(self, tensor: Any) -> Any:
        """Gives a copy of a host tensor in pinned memory."""


class Cuda:
    """One GPU or MIG instance, by its UUID."""

    torch_device = "cuda"

    def __init__(self, uuid: str, name: str) -> None:
        self.uuid, self.name = uuid, name

    def environment(self) -> dict[str, str]:
        """Gives the device's UUID to CUDA."""
        return {**WHOLE, "CUDA_VISIBLE_DEVICES": self.uuid}

    def initialise_driver(self) -> None:
        """Calls cuInit."""
        status = ctypes.CDLL("libcuda.so.1").cuInit(0)
        if status != 0:
            raise NoDevice(f"cuInit failed with status {status}")

    def synchronize(self) -> None:
        """Waits for the device."""
        import torch

        torch.cuda.synchronize()

    def device_seconds(self, work: Callable[[], object]) -> Callable[[], float]:
        """Takes the time between two events on the device."""
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        return lambda: begin.elapsed_time(end) / 1e3

    def used_memory(self) -> int:
        """Asks NVML."""
        import pynvml

        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(self.uuid)
            return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        finally:
            pynvml.nvmlShutdown()

    def pinned(self, tensor: Any) -> Any:
        """Lets torch allocate and register it."""
        return tensor.pin_memory()


class Rehearsal:
    """The CPU in place of a device: shows that the experiments work, its figures mean nothing."""

    name = torch_device = "cpu"

    def environment(self) -> dict[str, str]:
        """Hides whatever device there is."""
        return {"CUDA_VISIBLE_DEVICES": ""}

    def initialise_driver(self) -> None:
        """Does nothing: the CPU needs none."""

    def synchronize(self) -> None:
        """Does nothing: the CPU has done it already."""

    def device_seconds(self, work: Callable[[], object]) -> Callable[[], float]:
        """Does the work at once."""
        started = time.perf_counter()
        work()
        elapsed = time.perf_counter() - started
        return lambda: elapsed

    def used_memory(self) -> int:
        """Adds up what the children hold."""
        return sum(_resident(child) for child in psutil.Process(os.getpid()).children())

    def pinned(self, tensor: Any) -> Any:
        """Gives a plain copy."""
        return tensor.clone()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def devices() -> list[Cuda]:
    """Gives the GPUs and MIG instances of this machine, by NVML; nothing is initialised.

    Raises:
        NoDevice: There is none, or the driver does not answer.
    """
    from zerokernel.broker.devices import choose_devices
    from zerokernel.errors import ZeroKernelError
    from zerokernel.settings import load

    settings = load({**os.environ, "ZEROKERNEL_DEVICES": "nvidia"})
    try:
        slices = choose_devices(settings, os.environ.get("CUDA_VISIBLE_DEVICES")).discover()
    except ZeroKernelError as error:
        raise NoDevice(str(error)) from error
    if not slices:
        raise NoDevice("NVML finds no device, or CUDA_VISIBLE_DEVICES hides all of them.")
    return [Cuda(one.id, one.name) for one in slices]


def target(uuid: str) -> Target:
    """Gives what an experiment's process runs on: "cpu", or the device of that UUID."""
    return Rehearsal() if uuid == "cpu" else Cuda(uuid, uuid)
