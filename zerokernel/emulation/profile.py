"""What the emulated device says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceProfile:
    """The device that a session will lease, as `torch.cuda` describes it.

    Attributes:
        name: As `torch.cuda.get_device_name` gives it.
        memory: Bytes of one device.
        capability: Compute capability (major, minor).
        multiprocessors: Streaming multiprocessors of one device.
        count: Devices that the session has: `cuda:0` … `cuda:<count - 1>`.
        cuda_version: What `torch.version.cuda` gives where this torch was built without.
    """

    name: str = "NVIDIA H200 MIG 3g.71gb"
    memory: int = 70 << 30
    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 60
    count: int = 1
    cuda_version: str = "12.8"
