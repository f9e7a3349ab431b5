"""What there is to lease on this machine, and the locks that keep other brokers off it."""

from zerokernel.broker.devices.choice import choose_devices
from zerokernel.broker.devices.locks import DeviceLocks
from zerokernel.broker.devices.nvidia import NvidiaDevices
from zerokernel.broker.devices.port import Devices, Trouble, Use
from zerokernel.broker.devices.replay import ReplayNvml
from zerokernel.broker.devices.simulated import SimulatedDevices, SimulatedMachine

__all__ = [
    "DeviceLocks",
    "Devices",
    "NvidiaDevices",
    "ReplayNvml",
    "SimulatedDevices",
    "SimulatedMachine",
    "Trouble",
    "Use",
    "choose_devices",
]
