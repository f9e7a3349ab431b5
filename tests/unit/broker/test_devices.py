"""Discovery of NVIDIA devices over tables of what machines have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.broker import fake_nvml as fake
from zerokernel.broker.devices import DeviceLocks, NvidiaDevices, SimulatedDevices
from zerokernel.broker.embedded import lock_slices
from zerokernel.errors import DeviceBusy, DeviceUnavailable

MIB = 1 << 20


def h200(number: int, **more: object) -> object:
    return fake.Gpu(f"GPU-{number}", "NVIDIA H200", 143_771 * MIB, **more)


def halves(number: int, old_driver: bool = False) -> object:
    parts = [
        fake.Instance(f"MIG-{number}{letter}", "3g.71gb", 71_424 * MIB, old_driver=old_driver)
        for letter in "ab"
    ]
    return h200(number, mig=True, instances=[parts[0], None, parts[1], None])


@pytest.mark.parametrize(
    ("product", "memory", "display"),
    [
        ("NVIDIA H200", 143_771, "full H200 · 141 GB"),
        ("NVIDIA A100-SXM4-80GB", 81_920, "full A100 · 80 GB"),
        ("NVIDIA H100 PCIe", 81_559, "full H100 · 80 GB"),
        ("NVIDIA H100 80GB HBM3", 81_559, "full H100 · 80 GB"),
        ("Tesla T4", 15_360, "full T4 · 15 GB"),
        ("NVIDIA GeForce RTX 4090", 24_564, "full RTX 4090 · 24 GB"),
        ("NVIDIA L40S", 46_068, "full L40S · 45 GB"),
    ],
)
def test_a_whole_gpu_is_named_as_people_do(product: str, memory: int, display: str) -> None:
    """A GPU that is not divided is one slice of size "full"."""
    nvml = fake.FakeNvml(fake.Gpu("GPU-1", product, memory * MIB))
    (one,) = NvidiaDevices(nvml).discover()
    assert (one.display, one.size, one.memory) == (display, "full", memory * MIB)
    assert one.environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert not one.simulated
    assert nvml.sessions == 0


@pytest.mark.parametrize("old_driver", [False, True])
def test_mig_instances_are_slices(old_driver: bool) -> None:
    """Each instance is a slice by its own UUID and profile; gaps among them are normal."""
    expected = "3g.70gb" if old_driver else "3g.71gb"
    found = NvidiaDevices(fake.FakeNvml(halves(1, old_driver))).discover()
    assert [one.id for one in found] == ["MIG-1a", "MIG-1b"]
    assert [one.size for one in found] == [expected] * 2
    assert [one.display for one in found] == ["half H200 #1 · 70 GB", "half H200 #2 · 70 GB"]
    assert found[0].environment["CUDA_VISIBLE_DEVICES"] == "MIG-1a"


def test_a_divided_gpu_without_instances_has_no_slice() -> None:
    """Where MIG is on, the whole GPU cannot be used."""
    assert NvidiaDevices(fake.FakeNvml(h200(1, mig=True))).discover() == []


def test_different_products_are_different_sizes() -> None:
    """Who asks for a size gets the same every time."""
    nvml = fake.FakeNvml(h200(1), fake.Gpu("GPU-2", "Tesla T4", 15_360 * MIB))
    assert [one.size for one in NvidiaDevices(nvml).discover()] == ["full-h200", "full-t4"]


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        (None, ["GPU-0", "MIG-1a", "MIG-1b", "GPU-2"]),
        ("", []),
        ("-1", []),
        ("2", ["GPU-2"]),
        ("2,0", ["GPU-2", "GPU-0"]),
        ("1", ["MIG-1a", "MIG-1b"]),
        ("GPU-2", ["GPU-2"]),
        ("MIG-1b", ["MIG-1b"]),
        ("GPU-1", ["MIG-1a", "MIG-1b"]),
        ("0,7,2", ["GPU-0"]),
        ("0,0", ["GPU-0"]),
        ("nonsense", []),
    ],
)
def test_only_what_the_user_may_see_is_offered(visible: str | None, ids: list[str]) -> None:
    """The words of CUDA_VISIBLE_DEVICES mean what they mean to CUDA."""
    nvml = fake.FakeNvml(h200(0), halves(1), h200(2))
    assert [one.id for one in NvidiaDevices(nvml, visible).discover()] == ids


def test_a_driver_that_fails_is_named() -> None:
    """The message has NVML's own words and what to try."""
    with pytest.raises(DeviceUnavailable, match=r"version mismatch.*nvidia-smi"):
        NvidiaDevices(fake.FakeNvml(broken=True)).discover()


# --- locks ----------------------------------------------------------------------------------


def test_a_second_broker_is_told_who_holds_a_device(tmp_path: Path) -> None:
    """The message names process and user; after the release the device is free."""
    first, second = DeviceLocks(tmp_path / "locks"), DeviceLocks(tmp_path / "locks")
    with first, second:
        first.acquire("GPU-1")
        first.acquire("GPU-1")
        second.acquire("GPU-2")
        with pytest.raises(DeviceBusy, match=f"GPU-1: process {os.getpid()} of user"):
            second.acquire("GPU-1")
        first.release()
        second.acquire("GPU-1")


def test_the_lock_directory_is_open_to_all_and_the_files_too(tmp_path: Path) -> None:
    """Whatever the umask: another user's broker must be able to take the lock later."""
    mask = os.umask(0o077)
    try:
        with DeviceLocks(tmp_path / "locks") as locks:
            locks.acquire("GPU-1")
    finally:
        os.umask(mask)
    assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "locks" / "GPU-1.lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo"])
def test_a_lock_file_that_was_tampered_with_is_refused(tmp_path: Path, kind: str) -> None:
    """Nobody makes a broker write into a file of their choice."""
    directory = tmp_path / "locks"
    directory.mkdir()
    victim, lock = tmp_path / "victim", directory / "GPU-1.lock"
    victim.write_text("precious")
    if kind == "symlink":
        lock.symlink_to(victim)
    elif kind == "hard link":
        lock.hardlink_to(victim)
    else:
        os.mkfifo(lock)
    with DeviceLocks(directory) as locks, pytest.raises(OSError, match=r"GPU-1\.lock|symbolic"):
        locks.acquire("GPU-1")
    assert victim.read_text() == "precious"


def test_a_device_id_does_not_leave_the_directory(tmp_path: Path) -> None:
    """Its file's name is made of letters, digits, dots and dashes."""
    with DeviceLocks(tmp_path / "locks") as locks:
        locks.acquire("../MIG-1/0")
    assert [one.name for one in (tmp_path / "locks").iterdir()] == [".._MIG-1_0.lock"]


def test_slices_held_by_another_broker_are_left_out(tmp_path: Path) -> None:
    """What is free is offered; only where nothing is the start fails."""
    devices = NvidiaDevices(fake.FakeNvml(h200(0), h200(1)))
    with DeviceLocks(tmp_path / "locks") as other, DeviceLocks(tmp_path / "locks") as own:
        other.acquire("GPU-0")
        assert [one.id for one in lock_slices(devices, own)] == ["GPU-1"]
        other.release()
    with DeviceLocks(tmp_path / "locks") as other, DeviceLocks(tmp_path / "locks") as own:
        other.acquire("GPU-0")
        other.acquire("GPU-1")
        with pytest.raises(DeviceBusy):
            lock_slices(devices, own)
        assert len(lock_slices(SimulatedDevices(2, 1 << 30), own)) == 2


def test_a_gpu_that_does_not_answer_is_lost() -> None:
    """Only that one, with what the driver says; a driver that is gone is another matter."""
    nvml = fake.FakeNvml(*(fake.Gpu(f"GPU-{n}", "NVIDIA H200", 141 << 30) for n in range(2)))
    devices = NvidiaDevices(nvml)
    found = devices.discover()
    nvml.lost.add("GPU-1")
    lost = devices.find_lost(found)
    assert list(lost) == ["GPU-1"]
    assert "GPU is lost" in lost["GPU-1"]
    nvml.broken = True
    with pytest.raises(DeviceUnavailable):
        devices.find_lost(found)


def test_a_simulated_slice_is_lost_in_a_drill(tmp_path: Path) -> None:
    """While its name stands in the file."""
    devices = SimulatedDevices(2, 1 << 30, tmp_path / "lost")
    found = devices.discover()
    (tmp_path / "lost").write_text("simulated 2\n")
    assert list(devices.find_lost(found)) == ["simulated-2"]
    (tmp_path / "lost").unlink()
    assert devices.find_lost(found) == {}
