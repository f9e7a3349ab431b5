"""A module like pynvml, as far as the broker uses it, over a table of GPUs."""

# ruff: noqa: N801, N802 - the names are pynvml's

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30


@dataclass
class Instance:
    """A MIG instance; ``old_driver`` gives it its GPU's name only."""

    uuid: str
    profile: str
    memory: int
    product: str = "NVIDIA H200"
    old_driver: bool = False


@dataclass
class Gpu:
    """A GPU; ``mig`` None where it cannot be divided."""

    uuid: str
    product: str
    memory: int
    mig: bool | None = None
    instances: list[Instance | None] = field(default_factory=list)


class FakeNvml:
    """The functions of NVML over `gpus`. ``broken`` makes the driver refuse."""

    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        """As pynvml's."""

    class NVMLError_NotSupported(NVMLError):
        """As pynvml's."""

    class NVMLError_NotFound(NVMLError):
        """As pynvml's."""

    def __init__(self, *gpus: Gpu, broken: bool = False) -> None:
        self.gpus = gpus
        self.broken = broken
        self.sessions = 0
        self.lost: set[str] = set()

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError("Driver/library version mismatch")
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self.sessions -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu | Instance:
        parts = [one for gpu in self.gpus for one in (gpu, *gpu.instances) if one is not None]
        for one in parts:
            if one.uuid == uuid:
                return one
        raise self.NVMLError_NotFound("Not Found")

    def nvmlDeviceGetUUID(self, one: Gpu | Instance) -> str:
        return one.uuid

    def nvmlDeviceGetName(self, one: Gpu | Instance) -> str:
        if isinstance(one, Instance) and not one.old_driver:
            return f"{one.product} MIG {one.profile}"
        return one.product

    def nvmlDeviceGetMemoryInfo(self, one: Gpu | Instance) -> Any:
        if one.uuid in self.lost:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(total=one.memory, used=0, free=one.memory)

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:
        if gpu.mig is None:
            raise self.NVMLError_NotSupported
        return [int(gpu.mig), int(gpu.mig)]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:
        return len(gpu.instances)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, index: int) -> Instance:
        found = gpu.instances[index]
        if found is None:
            raise self.NVMLError_NotFound
        return found

    def nvmlDeviceGetAttributes(self, one: Instance) -> Any:
        slices = int(one.profile.split("g.")[0])
        return SimpleNamespace(gpuInstanceSliceCount=slices, memorySizeMB=one.memory >> 20)
