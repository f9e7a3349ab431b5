"""Which devices a broker offers, by its settings and what the machine has."""

from __future__ import annotations

from types import ModuleType

from zerokernel.broker.devices.nvidia import NvidiaDevices
from zerokernel.broker.devices.port import Devices
from zerokernel.broker.devices.simulated import SimulatedDevices
from zerokernel.errors import DeviceUnavailable
from zerokernel.settings import Settings


def choose_devices(settings: Settings, visible: str | None = None) -> Devices:
    """Gives the NVIDIA devices where there are any, else simulated ones.

    Args:
        settings: Its ``devices`` and ``simulated_...`` decide.
        visible: What CUDA_VISIBLE_DEVICES was for the user, None where it was not set.

    Raises:
        DeviceUnavailable: The setting wants NVIDIA devices and there are none, or a driver
            is there and does not answer.
    """
    lost = settings.runtime_directory / "lost-slices"
    simulated = SimulatedDevices(settings.simulated_slices, settings.simulated_memory, lost)
    if settings.devices == "simulated":
        return simulated
    nvml = _load_nvml()
    if nvml is not None:
        nvidia = NvidiaDevices(nvml, visible)
        if settings.devices == "nvidia" or nvidia.discover():
            return nvidia
    elif settings.devices == "nvidia":
        raise DeviceUnavailable("This machine has no NVIDIA driver: NVML could not be loaded.")
    return simulated


def _load_nvml() -> ModuleType | None:
    """Gives pynvml where the machine has the driver's library that it speaks to."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError:
        return pynvml  # type: ignore[no-any-return]  # a driver that is broken must be seen
    pynvml.nvmlShutdown()
    return pynvml  # type: ignore[no-any-return]  # a module without types
