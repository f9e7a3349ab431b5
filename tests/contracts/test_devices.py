"""What every kind of device promises, real ones included where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from zerokernel.broker.devices import (
    Devices,
    NvidiaDevices,
    ReplayNvml,
    SimulatedDevices,
    SimulatedMachine,
    Use,
    choose_devices,
)
from zerokernel.broker.devices.layout import read_layout
from zerokernel.broker.devices.replay import record, shipped
from zerokernel.broker.scheduling import Slice
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import load

TROUBLED = ("foreign-process", "hardware-error")


def _recorded(name: str, layout: str = "") -> NvidiaDevices:
    nvml = ReplayNvml(name)
    return NvidiaDevices(nvml, None, read_layout(layout), owner=nvml.owner, scrub=nvml.scrub)


def _real() -> Devices:
    try:
        found = choose_devices(load({"ZEROKERNEL_DEVICES": "nvidia"}))
        if found.discover():
            return found
    except ZeroKernelError as error:
        pytest.skip(f"no NVIDIA device: {error}")
    pytest.skip("no NVIDIA device is visible")


KINDS: dict[str, Callable[[], Devices]] = {
    "simulated": lambda: SimulatedDevices(3, 8 << 30),
    "simulated machine": lambda: SimulatedMachine(_recorded("h200-mixed")),
    "shares": lambda: _recorded("h200", '{"*": ["1/2", "1/4", "1/4"]}'),
    **{name: lambda name=name: _recorded(name) for name in shipped() if name not in TROUBLED},  # type: ignore[misc]  # bound at once
    "real": _real,
}


@pytest.fixture(params=KINDS, ids=list(KINDS))
def devices(request: pytest.FixtureRequest) -> Iterator[Devices]:
    found = KINDS[request.param]()
    yield found
    found.close()


def test_ids_and_names_are_unique(devices: Devices) -> None:
    """Two slices are never confused, by program or person."""
    found = devices.discover()
    assert found
    assert len({one.id for one in found}) == len({one.name for one in found}) == len(found)


def test_a_worker_sees_exactly_its_slice(devices: Devices) -> None:
    """Each slice says what its worker sees: one device, or none where it is simulated."""
    for one in devices.discover():
        shown = one.environment["CUDA_VISIBLE_DEVICES"]
        assert shown == ("" if one.simulated else one.id.partition("/")[0] or one.id)
        assert int(one.environment["ZEROKERNEL_SLICE_MEMORY"]) == one.memory


def test_a_slice_says_what_it_is(devices: Devices) -> None:
    """Size, kind, memory and capability are there; what is simulated says so in its name."""
    for one in devices.discover():
        assert one.size
        assert one.memory > 0
        assert one.capability >= (3, 0)
        assert f"{one.name} · " in one.display
        assert ("simulated" in one.name) == ("simulated" in one.kind) == one.simulated


def test_slices_of_one_size_are_alike(devices: Devices) -> None:
    """Who asks for a size gets the same every time."""
    by_size: dict[str, list[Slice]] = {}
    for one in devices.discover():
        by_size.setdefault(one.size, []).append(one)
    for alike in by_size.values():
        assert len({(one.kind, one.capability) for one in alike}) == 1
        assert max(one.memory for one in alike) <= 1.02 * min(one.memory for one in alike)


def test_devices_that_are_well_have_no_trouble(devices: Devices) -> None:
    """Nothing is taken away without a reason."""
    found = devices.discover()
    assert devices.find_troubles(found, Use()) == {}


def test_a_slice_that_nobody_used_is_clean(devices: Devices) -> None:
    """It may be leased at once."""
    for one in devices.discover():
        assert devices.clean(one, scrub=False) == ""
        assert devices.find_troubles([one], Use()) == {}


def test_discovery_repeats(devices: Devices) -> None:
    """Asking again gives the same while nothing changed."""
    assert devices.discover() == devices.discover()


def test_a_recording_is_what_was_recorded() -> None:
    """What is recorded of a machine gives the same slices as the machine."""
    for name in shipped():
        made = NvidiaDevices(ReplayNvml(record(ReplayNvml(name))))
        assert made.discover() == _recorded(name).discover(), name


@pytest.mark.parametrize("name", TROUBLED)
def test_troubles_are_in_recordings_too(name: str) -> None:
    """Each has one slice in trouble, with a reason, and one that is well."""
    devices = _recorded(name)
    found = devices.discover()
    troubles = devices.find_troubles(found, Use())
    assert len(troubles) == 1 < len(found)
    assert all(one.reason for one in troubles.values())
