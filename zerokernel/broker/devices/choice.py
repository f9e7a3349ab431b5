"""Which devices a broker offers, by its settings and what the machine has."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from zerokernel.broker.devices.layout import read_layout
from zerokernel.broker.devices.nvidia import NvidiaDevices
from zerokernel.broker.devices.port import Devices
from zerokernel.broker.devices.replay import ReplayNvml, shipped
from zerokernel.broker.devices.simulated import SimulatedDevices, SimulatedMachine
from zerokernel.broker.devices.sizes import read_sizes
from zerokernel.errors import DeviceUnavailable
from zerokernel.settings import BadSetting, Settings


def choose_devices(settings: Settings, visible: str | None = None) -> Devices:
    """Gives the NVIDIA devices where there are any, else simulated ones.

    Args:
        settings: Its ``devices``, ``layout``, ``sizes`` and ``simulated_...`` decide.
        visible: What CUDA_VISIBLE_DEVICES was for the user, None where it was not set.

    Raises:
        DeviceUnavailable: The setting wants NVIDIA devices and there are none, or a driver
            is there and does not answer.
        BadSetting: The layout, the sizes or the machine to simulate are not understood.
    """
    layout, sizes = read_layout(settings.layout), read_sizes(settings.sizes)
    if settings.devices == "simulated":
        return _simulated(settings)
    nvml = _load_nvml()
    if nvml is not None:
        nvidia = NvidiaDevices(nvml, visible, layout, sizes)
        if settings.devices == "nvidia" or nvidia.discover():
            return nvidia
        nvidia.close()
    elif settings.devices == "nvidia":
        raise DeviceUnavailable("This machine has no NVIDIA driver: NVML could not be loaded.")
    return _simulated(settings)


def _simulated(settings: Settings) -> Devices:
    lost = settings.runtime_directory / "lost-slices"
    sizes = read_sizes(settings.sizes)
    if not (name := settings.simulated_machine):
        return SimulatedDevices(settings.simulated_slices, settings.simulated_memory, lost, sizes)
    if name not in shipped() and not name.endswith(".json"):
        raise BadSetting(
            f"The setting simulated_machine is {name!r}; it can be {', '.join(shipped())}, or the "
            "path of a recording, which ends with .json."
        )
    nvml = ReplayNvml(name if name in shipped() else Path(name))
    layout = read_layout(settings.layout)
    machine = NvidiaDevices(nvml, None, layout, sizes, owner=nvml.owner, scrub=nvml.scrub)
    return SimulatedMachine(machine, lost)


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
