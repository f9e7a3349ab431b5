"""The devices: the driver, what would be leased, and who may open the device files."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass

from zerokernel.broker.devices import Use, choose_devices
from zerokernel.broker.scheduling import Slice
from zerokernel.client import find_broker
from zerokernel.doctor.finding import Finding, bad, good, limited
from zerokernel.errors import DeviceUnavailable, ZeroKernelError
from zerokernel.settings import BadSetting, Settings


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
        troubles: Why slices would not be leased now, where no broker runs that tells it.
    """

    wanted: str
    driver: str = ""
    error: str = ""
    slices: tuple[str, ...] = ()
    simulated: bool = False
    open_files: tuple[str, ...] = ()
    closed_files: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def look(settings: Settings) -> DeviceFacts:
    """Asks NVML, and tries the device files as a notebook of this user would."""
    files = sorted(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/nvidia-caps/*cap[0-9]*"))
    allowed = tuple(file for file in files if os.access(file, os.R_OK | os.W_OK))
    closed = tuple(file for file in files if file not in allowed)
    driver = _driver()
    try:
        slices, troubles = _slices(settings)
    except (DeviceUnavailable, BadSetting) as error:
        return DeviceFacts(settings.devices, driver, str(error), (), False, allowed, closed)
    shown = tuple(f"{one.display} (size {one.size})" for one in slices)
    simulated = all(one.simulated for one in slices)
    return DeviceFacts(settings.devices, driver, "", shown, simulated, allowed, closed, troubles)


def _slices(settings: Settings) -> tuple[list[Slice], tuple[str, ...]]:
    devices = choose_devices(settings)
    try:
        slices = devices.discover()
        if _has_broker(settings):
            return slices, ()  # which processes are its own, it alone knows
        found = devices.find_troubles(slices, Use(roots=frozenset({os.getpid()})))
        return slices, tuple(one.reason for one in found.values())
    finally:
        devices.close()


def _has_broker(settings: Settings) -> bool:
    """Whether one runs, also where it does not answer: another finding is about that."""
    try:
        return find_broker(settings) is not None
    except ZeroKernelError:
        return True


def judge(facts: DeviceFacts) -> list[Finding]:
    """Says what is offered, and whether it can be used past zerokernel."""
    return [_offered(facts), *_troubles(facts), *_files(facts)]


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


def _troubles(facts: DeviceFacts) -> list[Finding]:
    if not facts.troubles:
        return []
    means = "They are set aside: cells that ask for such a size wait."
    mend = "Do as each says; they are leased again when they are well."
    return [limited("slices", "; ".join(facts.troubles), means, mend)]


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
