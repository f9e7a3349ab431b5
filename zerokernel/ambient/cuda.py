"""`cuda` for the cells that run in a process without one, from the import of torch on.

Notebook and worker have it both, or the worker has the real one: it is part of the state that
they have in common, with the generators of the devices and which of them is the current one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from zerokernel import emulation
from zerokernel.ambient.on_import import when_imported
from zerokernel.ambient.setting import GONE, Setting, pair
from zerokernel.emulation import DeviceProfile
from zerokernel.errors import CannotEmulate


@dataclass
class _Wish:
    """The mutable state: what the device shall say of itself once torch is imported.

    Attributes:
        waits: Whether the import will be told of.
        untouched: Whether no tensor of a notebook was here yet.
        quiet: Whether nobody is to be told that there is a real device.
    """

    profile: DeviceProfile | None = None
    waits: bool = False
    untouched: bool = False
    quiet: bool = False


_wish = _Wish()


def emulate(profile: DeviceProfile | None = None) -> None:
    """Gives this process a `cuda` device, emulated on the CPU; a second call changes its profile.

    Tensors say that they are on the device, behave as there and refuse what would be refused
    there. torch is not imported for it: where it is not yet, the emulation begins when it is.
    In a `%%gpu` cell tensors on the device are on the one that was leased.

    Args:
        profile: What the device says of itself (name, bytes, capability, number of devices).

    Raises:
        CannotEmulate: A real device is visible to this process.
    """
    profile = profile or DeviceProfile()
    if "torch" in sys.modules:
        emulation.emulate(profile, from_the_start=_wish.untouched or None)
    _expect(profile)


def _expect(profile: DeviceProfile | None) -> None:
    _wish.profile = profile
    emulation.expect(profile is not None)
    if profile is not None and "torch" not in sys.modules and not _wish.waits:
        _wish.waits = True
        when_imported("torch", _begin)


def _begin() -> None:
    _wish.waits = False
    if _wish.profile is None:
        return
    try:
        emulation.emulate(_wish.profile, from_the_start=True)
    except CannotEmulate as error:
        if not _wish.quiet:
            print(f"zerokernel: {error}", file=sys.stderr)  # the import itself has succeeded


def end_emulation() -> None:
    """Takes the emulation back; harmless where there is none."""
    _expect(None)
    emulation.remove()


# --- as a part of what notebook and worker have in common --------------------------------


def begin(*, in_worker: bool) -> None:
    """A session's process begins: in a worker nothing of a notebook was loaded yet."""
    _wish.untouched = _wish.quiet = in_worker
    emulation.in_worker(in_worker)


def objects_loaded() -> None:
    """From now on there are tensors of the notebook here."""
    _wish.untouched = False


def _profile() -> DeviceProfile | None:
    return _wish.profile


def _take_over(profile: DeviceProfile | None) -> None:
    """What the other process has; one that sees a real device keeps to that."""
    if profile is None:
        end_emulation()
        return
    try:
        emulate(profile)
    except CannotEmulate:
        _expect(profile)  # known, so that it counts as agreed on


def _devices() -> Any:
    """The emulated devices, None where there are none now."""
    if not hasattr(sys.modules["torch"].UntypedStorage, "_emulated"):
        return None
    from zerokernel.emulation.devices import devices

    return devices


def _generators(_: Any) -> Any:
    """Seed and state of each device's generator."""
    devices = _devices()
    if devices is None:
        return GONE
    from zerokernel.emulation.generators import state_of

    return {on.index: state_of(on) for on in devices.all[: devices.profile.count]}


def _put_generators(torch: Any, states: dict[int, Any]) -> None:
    devices = _devices()
    if devices is None:
        _seed_real_devices(torch, states)
        return
    from zerokernel.emulation.generators import put_state

    for index, state in states.items():
        put_state(devices.one(index), state)


def _seed_real_devices(torch: Any, states: dict[int, Any]) -> None:
    """Their generators are of another kind: a seed is all that can be taken over."""
    if not torch.cuda.is_available():
        return
    for index in range(min(torch.cuda.device_count(), len(states))):
        torch.cuda.init()
        generator, seed = torch.cuda.default_generators[index], states[index][0]
        if generator.initial_seed() != seed:
            generator.manual_seed(seed)


def _current(_: Any) -> Any:
    devices = _devices()
    return GONE if devices is None else devices.current.index


def _put_current(torch: Any, index: int) -> None:
    if _devices() is not None or index < torch.cuda.device_count():
        torch.cuda.set_device(index)


PROFILE = Setting("zerokernel.emulate", _profile, _take_over)
DEVICES: tuple[Setting, ...] = (
    pair("torch", "cuda.current_device", _current, _put_current),
    pair("torch", "cuda.random", _generators, _put_generators),
)
