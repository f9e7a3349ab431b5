"""`cuda` in a process that has none: tensors are on the CPU and say that they are on a device.

Importing this package imports no torch.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

from zerokernel.emulation.profile import DeviceProfile

__all__ = ["DeviceProfile", "emulate", "remove", "suspended"]


def emulate(profile: DeviceProfile | None = None, *, from_the_start: bool | None = None) -> None:
    """Emulates `cuda` from now on; torch must have been imported, or is now.

    Args:
        profile: What the device says of itself; by default half an H200.
        from_the_start: Whether torch was imported just now, so that there is no tensor yet;
            None where this function can tell.

    Raises:
        CannotEmulate: A real device is visible to this process.
    """
    fresh = "torch" not in sys.modules if from_the_start is None else from_the_start
    from zerokernel.emulation.install import install

    install(profile or DeviceProfile(), from_the_start=fresh)


def remove() -> None:
    """Takes the emulation back, without a trace; harmless where there is none."""
    module = sys.modules.get("zerokernel.emulation.install")
    if module is not None:
        module.remove()


def suspended() -> AbstractContextManager[None]:
    """Has the emulation stand aside for a while: device tensors are CPU tensors meanwhile."""
    module = sys.modules.get("zerokernel.emulation.install")
    if module is None:
        return nullcontext()
    standing_aside: AbstractContextManager[None] = module.suspended()
    return standing_aside
