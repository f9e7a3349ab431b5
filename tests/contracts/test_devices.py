"""What every kind of device promises."""

from __future__ import annotations

import pytest

from tests.unit.broker import fake_nvml as fake
from zerokernel.broker.devices import Devices, NvidiaDevices, SimulatedDevices


def _whole() -> Devices:
    gpus = [fake.Gpu(f"GPU-{n}", "NVIDIA H200", 141 << 30) for n in range(3)]
    return NvidiaDevices(fake.FakeNvml(*gpus))


def _divided() -> Devices:
    parts = [fake.Instance(f"MIG-{n}", "1g.18gb", 16 << 30) for n in range(7)]
    return NvidiaDevices(fake.FakeNvml(fake.Gpu("GPU-0", "NVIDIA H200", 141 << 30, True, parts)))


@pytest.fixture(
    params=[lambda: SimulatedDevices(3, 8 << 30), _whole, _divided],
    ids=["simulated", "whole GPUs", "MIG"],
)
def devices(request: pytest.FixtureRequest) -> Devices:
    return request.param()  # type: ignore[no-any-return]


def test_ids_and_names_are_unique(devices: Devices) -> None:
    """Two slices are never confused, by program or person."""
    found = devices.discover()
    assert len(found) >= 3
    assert len({one.id for one in found}) == len({one.name for one in found}) == len(found)


def test_a_worker_sees_exactly_its_slice(devices: Devices) -> None:
    """Each slice says which devices its worker sees: one, or none where it is simulated."""
    for one in devices.discover():
        assert one.environment["CUDA_VISIBLE_DEVICES"] == ("" if one.simulated else one.id)


def test_a_slice_says_what_it_is(devices: Devices) -> None:
    """Size and memory are there, and a simulated slice has the word in name and size."""
    for one in devices.discover():
        assert one.size
        assert one.memory > 0
        assert f"{one.name} · " in one.display
        assert ("simulated" in one.name) == ("simulated" in one.size) == one.simulated


def test_devices_that_are_there_are_not_lost(devices: Devices) -> None:
    """Nothing is taken away without a reason; what was never there is lost, with a reason."""
    found = devices.discover()
    assert devices.find_lost(found) == {}


def test_discovery_repeats(devices: Devices) -> None:
    """Asking again gives the same while nothing changed."""
    assert devices.discover() == devices.discover()
