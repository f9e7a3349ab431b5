"""`cuda` for the cells that run in a process without one, from the import of torch on."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from zerokernel import emulation
from zerokernel.ambient.on_import import when_imported
from zerokernel.emulation import DeviceProfile
from zerokernel.errors import CannotEmulate


@dataclass
class _Wish:
    """The mutable state: what the device shall say of itself once torch is imported."""

    profile: DeviceProfile | None = None
    waits: bool = False


_wish = _Wish()


def emulate(profile: DeviceProfile | None = None) -> None:
    """Gives this process a `cuda` device, emulated on the CPU; a second call changes its profile.

    Tensors say that they are on the device, behave as there and refuse what would be refused
    there. torch is not imported for it: where it is not yet, the emulation begins when it is.

    Args:
        profile: What the device says of itself (name, bytes, capability, number of devices).

    Raises:
        CannotEmulate: A real device is visible to this process.
    """
    profile = profile or DeviceProfile()
    if "torch" in sys.modules:
        emulation.emulate(profile)
        return
    _wish.profile = profile
    if not _wish.waits:
        _wish.waits = True
        when_imported("torch", _begin)


def _begin() -> None:
    _wish.waits = False
    if _wish.profile is None:
        return
    try:
        emulation.emulate(_wish.profile, from_the_start=True)
    except CannotEmulate as error:
        print(f"zerokernel: {error}", file=sys.stderr)  # the import itself has succeeded


def end_emulation() -> None:
    """Takes the emulation back; harmless where there is none."""
    _wish.profile = None
    emulation.remove()
