"""The devices: the driver, what would be leased, and who may open the device files."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass

from zerokernel.broker.devices import choose_devices
from zerokernel.doctor.finding import Finding, bad, good, limited
from zerokernel.errors import DeviceUnavailable
from zerokernel.settings import Settings


@dataclass(frozen=True)
class DeviceFacts:
    """What the machine has.

    Attributes:
        wanted: The setting `devices`.
        driver: Version of the NVIDIA driver, "" where NVML finds none.
        error: Why the devices cannot be read, "" where they can.
        slices: What would be leased, as it is shown.
        simulated: Whether those are simulated.
        open_files: Device files of GPUs that this user may read and write.
        closed_files: Those that this user may not.
    """

    wanted: str
    driver: str = ""
    error: str = ""
    slices: tuple[str, ...] = ()
    simulated: bool = False
    open_files: tuple[str, ...] = ()
    closed_files: tuple[str, ...] = ()


def look(settings: Settings) -> DeviceFacts:
    """Asks NVML, and tries the device files as a notebook of this user would."""
    files = sorted(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/nvidia-caps/*cap[0-9]*"))
    allowed = tuple(file for file in files if os.access(file, os.R_OK | os.W_OK))
    closed = tuple(file for file in files if file not in allowed)
    driver = _driver()
    try:
        slices = choose_devices(settings).discover()
    except DeviceUnavailable as error:
        return DeviceFacts(settings.devices, driver, str(error), (), False, allowed, closed)
    shown = tuple(one.display for one in slices)
    simulated = all(one.simulated for one in slices)
    return DeviceFacts(settings.devices, driver, "", shown, simulated, allowed, closed)


def judge(facts: DeviceFacts) -> list[Finding]:
    """Says what is offered, and whether it can be used past zerokernel."""
    return [_offered(facts), *_files(facts)]


def _offered(facts: DeviceFacts) -> Finding:
    driver = f"NVIDIA driver {facts.driver}" if facts.driver else "no NVIDIA driver"
    if facts.error:
        return bad(
            "devices",
            f"{driver}; {facts.error}",
            "No broker of this user can start.",
            'Mend the driver, or set devices = "simulated" to work without a GPU.',
        )
    if not facts.slices:
        return bad(
            "devices",
            f"{driver}; there is no slice to lease",
            "Every %%gpu cell is refused.",
            "Where MIG is on, make instances; or allow simulated_slices.",
        )
    offered = f"{driver}; {len(facts.slices)} to lease: {', '.join(facts.slices)}"
    if not facts.simulated:
        return good("devices", offered)
    if facts.wanted == "simulated":
        return good("devices", f"{offered} (as the setting devices wants)")
    return limited(
        "devices",
        offered,
        "Cells run on the CPU of this machine, in workers as they would on a GPU.",
        "Use a machine with an NVIDIA GPU and driver; `nvidia-smi` shows whether it works.",
    )


def _files(facts: DeviceFacts) -> list[Finding]:
    if facts.open_files:
        return [
            limited(
                "device files",
                f"this user may open {', '.join(facts.open_files)}",
                "On one's own machine that is needed. On a shared one a notebook could use a GPU "
                "without a lease.",
                "On a shared machine, let only the broker's group open them.",
            )
        ]
    if facts.closed_files:
        return [good("device files", f"closed to this user: {', '.join(facts.closed_files)}")]
    return []


def _driver() -> str:
    """Gives the driver's version, "" where NVML does not load or answer."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ""
    try:
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return "of unknown version"
    finally:
        pynvml.nvmlShutdown()
    return version.decode() if isinstance(version, bytes) else str(version)
