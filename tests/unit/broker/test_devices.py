"""Discovery of NVIDIA devices, what becomes of them, and locks, over recordings of machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.broker.recordings import GIB, MIB, gpu, halves, instance, machine, stranger
from zerokernel.broker.device_watch import lock_slices
from zerokernel.broker.devices import (
    DeviceLocks,
    NvidiaDevices,
    ReplayNvml,
    SimulatedDevices,
    SimulatedMachine,
    Use,
)
from zerokernel.broker.devices.layout import read_layout
from zerokernel.broker.devices.nvidia import FREE_SECONDS
from zerokernel.broker.devices.sizes import read_sizes
from zerokernel.broker.scheduling import Slice
from zerokernel.errors import DeviceBusy, DeviceUnavailable
from zerokernel.settings import BadSetting
from zerokernel.testing import FakeClock

NOBODY = Use()


class Lab:
    """Devices over a recording, a clock that goes when they wait, and what they were asked."""

    def __init__(
        self,
        recording: dict[str, Any],
        visible: str | None = None,
        layout: str = "",
        sizes: str = "",
    ) -> None:
        self.nvml = ReplayNvml(recording)
        self.clock = FakeClock()
        self.devices = NvidiaDevices(
            self.nvml,
            visible,
            read_layout(layout),
            read_sizes(sizes),
            owner=self.nvml.owner,
            scrub=self.nvml.scrub,
            clock=self.clock,
            pause=lambda seconds: self.wait(seconds),
        )
        self.meanwhile: Callable[[], None] = lambda: None
        self.slices = self.devices.discover()

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.meanwhile()

    def gpu(self, number: int = 0) -> Any:
        return self.nvml.recording["gpus"][number]

    def troubles(self, *occupied: str) -> dict[str, str]:
        """Reasons by id, as they are at the next look."""
        self.slices = self.devices.discover()
        use = Use(frozenset(occupied))
        found = self.devices.find_troubles(self.slices, use)
        self.lost = {name for name, one in found.items() if one.lost}
        self.spoiled = {name for name, one in found.items() if one.spoils}
        return {name: one.reason for name, one in found.items()}


def discover(*gpus: Any, **options: str | None) -> list[Slice]:
    return Lab(machine(*gpus), **options).slices  # type: ignore[arg-type]  # the names are Lab's


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
    """A GPU that is not divided is one slice of size "xlarge", and said to be whole."""
    lab = Lab(machine(gpu("GPU-1", product, memory * MIB, capability=[8, 9])))
    (one,) = lab.slices
    assert (one.display, one.size, one.kind) == (display, "xlarge", "whole GPU")
    assert (one.memory, one.capability) == (memory * MIB, (8, 9))
    assert one.environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert not one.simulated


def test_the_driver_is_left_as_it_was_found() -> None:
    """After a look nothing is open but what listens for errors, and that ends with a close."""
    lab = Lab(machine(gpu("GPU-1")))
    lab.troubles()
    assert lab.nvml.sessions == 1
    lab.devices.close()
    assert lab.nvml.sessions == 0


@pytest.mark.parametrize("old_driver", [False, True])
def test_mig_instances_are_slices(old_driver: bool) -> None:
    """Each instance is a slice by its own UUID and profile; gaps among them are normal."""
    profile = "3g.70gb" if old_driver else "3g.71gb"
    found = halves(1)
    for one in found["instances"]:
        if one and old_driver:
            one["name"] = "NVIDIA H200"
    first, second = discover(found)
    assert (first.id, second.id) == ("MIG-1a", "MIG-1b")
    assert {first.size, second.size} == {"large"}
    assert {first.kind, second.kind} == {f"MIG {profile}"}
    assert second.display == f"half H200 (MIG {profile}) #2 · 70 GB"
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "MIG-1a"


def test_sizes_are_named_by_the_part_of_the_gpu() -> None:
    """Of an H200 in three sizes each has its name; the memory is what the driver tells."""
    lab = Lab(ReplayNvml("h200-mixed").recording)
    named = {one.size: one.kind for one in lab.slices}
    assert named == {
        "large": "MIG 3g.71gb",
        "medium": "MIG 2g.35gb",
        "small": "MIG 1g.18gb",
        "xlarge": "whole GPU",
    }


def test_unlike_slices_are_never_of_one_size() -> None:
    """Who asks for a size gets the same every time: products and profiles are told apart."""
    assert [one.size for one in discover(gpu("GPU-1"), gpu("GPU-2", "Tesla T4", 15 * GIB))] == [
        "xlarge-h200",
        "xlarge-t4",
    ]
    parts = [instance("MIG-a"), instance("MIG-b", "4g.71gb", gi=2)]
    divided = gpu("GPU-1", mig=True, instances=parts)
    assert [one.size for one in discover(divided)] == ["large-3g.71gb", "large-4g.71gb"]


def test_an_administrator_names_sizes_and_what_they_carry() -> None:
    """By what a size stands for, or by the name that it has anyway; amounts have units."""
    sizes = '{"half": {"is": "3g.71gb", "cores": 8, "memory": "64G"}, "xlarge": {"shm": "1.5 GiB"}}'
    found = discover(halves(0), gpu("GPU-1"), sizes=sizes)
    assert [one.size for one in found] == ["half", "half", "xlarge"]
    assert dict(found[0].limits) == {"cores": 8, "memory": 64 * GIB}
    assert dict(found[2].limits) == {"shm": 3 * GIB // 2}


def test_a_divided_gpu_without_instances_has_no_slice() -> None:
    """Where MIG is on, the whole GPU cannot be used."""
    assert discover(gpu("GPU-1", mig=True)) == []


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
    found = discover(gpu("GPU-0"), halves(1), gpu("GPU-2"), visible=visible)
    assert [one.id for one in found] == ids


def test_a_driver_that_fails_is_named() -> None:
    """The message has NVML's own words and what to try."""
    with pytest.raises(DeviceUnavailable, match=r"version mismatch.*nvidia-smi"):
        Lab(machine(error="Driver/library version mismatch"))


def test_a_gpu_that_is_broken_from_the_start_is_left_out() -> None:
    """The others are offered."""
    assert [one.id for one in discover(gpu("GPU-0", error="GPU is lost"), gpu("GPU-1"))] == [
        "GPU-1"
    ]


# --- shares and layouts ---------------------------------------------------------------------


def test_shares_of_a_gpu_are_slices_with_a_cap() -> None:
    """Each says that it is a share; together they leave room for each process's context."""
    first, second, third = discover(gpu("GPU-0"), layout='{"*": ["1/2", "1/4", "1/4"]}')
    assert [one.size for one in (first, second, third)] == ["large", "medium", "medium"]
    assert (first.id, third.name) == ("GPU-0/1", "quarter H200 (share) #2")
    assert first.kind == "share 1/2 of a GPU"
    fraction = float(first.environment["ZEROKERNEL_SLICE_FRACTION"])
    assert fraction == pytest.approx(first.memory / (143_771 * MIB), abs=1e-4)
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    assert sum(one.memory for one in (first, second, third)) < 143_771 * MIB - 3 * 512 * MIB


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        ("[1]", "no table"),
        ("{", "no table"),
        ('{"*": "full"}', "no list"),
        ('{"*": []}', "no list"),
        ('{"*": ["half"]}', "a form is"),
        ('{"*": ["1/2", "full"]}', "mixes"),
        ('{"*": ["full", "full"]}', "beside it"),
        ('{"*": ["1/2", "1/3", "1/3"]}', "more than a whole"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(layout: str, why: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(BadSetting, match=why):
        read_layout(layout)


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ("[]", "no table"),
        ('{"a": 3}', "no table"),
        ('{"a b": {}}', "no table"),
        ('{"a": {"is": "big"}}', "it can be"),
        ('{"a": {"core": 3}}', "it can have"),
        ('{"a": {"cores": "2G"}}', "no amount"),
        ('{"a": {"memory": "lots"}}', "no amount"),
        ('{"a": {"memory": 0}}', "nothing"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes: str, why: str) -> None:
    """The message says what is wrong with them."""
    with pytest.raises(BadSetting, match=why):
        read_sizes(sizes)


def test_a_layout_that_is_not_as_declared_stops_leasing_until_it_is() -> None:
    """From the start: the declared slices are there and set aside, with both layouts named."""
    declared = '{"GPU-0": ["3g.71gb", "3g.71gb"]}'
    lab = Lab(machine(gpu("GPU-0"), gpu("GPU-1")), layout=declared)
    assert [one.size for one in lab.slices] == ["large", "large", "xlarge"]
    troubles = lab.troubles()
    assert set(troubles) == {one.id for one in lab.slices[:2]}
    reason = next(iter(troubles.values()))
    assert "should be 2 x MIG 3g.71gb, and is 1 x whole GPU" in reason
    assert "nvidia-smi mig" in reason
    lab.nvml.recording["gpus"][0] = halves(0)
    assert lab.troubles() == {}
    assert [one.id for one in lab.slices] == ["MIG-0a", "MIG-0b", "GPU-1"]


def test_a_layout_that_changes_stops_leasing_on_that_device_only() -> None:
    """What was found first is what it should be; a slice that is gone is lost, others go on."""
    lab = Lab(machine(halves(0), halves(1)))
    before = lab.slices
    lab.gpu()["instances"][2] = instance("MIG-0c", "2g.35gb", 33_280 * MIB, gi=3)
    troubles = lab.troubles()
    assert set(troubles) == {"MIG-0a", "MIG-0b"}
    assert "is 1 x MIG 2g.35gb + 1 x MIG 3g.71gb" in troubles["MIG-0a"]
    assert lab.lost == {"MIG-0b"}
    assert lab.slices == before
    lab.nvml.recording["gpus"][0] = halves(0)
    assert lab.troubles() == {}


def test_a_divided_gpu_has_no_shares() -> None:
    """Where shares are declared and MIG is on, the message says so."""
    lab = Lab(machine(halves(0)), layout='{"0": ["1/2", "1/2"]}')
    assert all("should be 1 x whole GPU" in why for why in lab.troubles().values())
    assert len(lab.troubles()) == 2


# --- hardware errors ------------------------------------------------------------------------


def test_a_hardware_error_sets_the_slice_aside_until_it_is_well() -> None:
    """Only the instance that it names; what runs there is lost. It is overwritten before use."""
    lab = Lab(ReplayNvml("hardware-error").recording)
    bad = lab.slices[0]
    assert list(lab.troubles()) == [bad.id]
    assert "Xid 48, a memory error" in lab.troubles()[bad.id]
    assert lab.lost == {bad.id}
    lab.clock.advance(1000)
    assert list(lab.troubles()) == [bad.id], "the driver says that the device must be reset"
    lab.gpu()["recovery"] = 0
    assert lab.troubles() == {}
    assert lab.nvml.scrubbed == [bad.id]
    assert lab.troubles() == {}
    assert lab.nvml.scrubbed == [bad.id]


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 69, 109, 63, 92])
def test_a_cells_own_fault_and_a_note_leave_the_slice_in_service(number: int) -> None:
    """A page fault, an assertion or a killed process is no fault of the device."""
    lab = Lab(machine(halves(0)))
    lab.nvml.recording["events"] = [{"xid": number, "gpu": "GPU-0", "gi": 1, "ci": 0}]
    assert lab.troubles() == {}


@pytest.mark.parametrize("number", [48, 64, 74, 79, 94, 95, 119, 140, 999])
def test_an_error_of_the_device_is_every_instances(number: int) -> None:
    """Without an instance it concerns all; a number that nobody knows counts as one."""
    lab = Lab(machine(halves(0), gpu("GPU-1")))
    lab.nvml.recording["events"] = [{"xid": number, "gpu": "GPU-0"}]
    assert set(lab.troubles()) == {"MIG-0a", "MIG-0b"}


def test_a_driver_that_does_not_say_whether_it_recovered_is_not_trusted() -> None:
    """Then only a broker that is started anew leases the device again."""
    lab = Lab(machine(gpu("GPU-0")))
    lab.nvml.recording["events"] = [{"xid": 79, "gpu": "GPU-0"}]
    assert lab.troubles()
    lab.clock.advance(86_400)
    assert lab.troubles()


def test_a_gpu_that_does_not_answer_is_lost() -> None:
    """Only that one, with what the driver says; a driver that is gone is another matter."""
    lab = Lab(machine(gpu("GPU-0"), gpu("GPU-1")))
    lab.gpu(1)["error"] = "GPU is lost"
    assert "GPU is lost" in lab.troubles()["GPU-1"]
    assert lab.lost == {"GPU-1"}
    del lab.gpu(1)["error"]
    assert lab.troubles() == {}
    lab.nvml.recording["error"] = "Driver not loaded"
    with pytest.raises(DeviceUnavailable):
        lab.devices.find_troubles(lab.slices, NOBODY)


def test_a_question_that_the_driver_refuses_costs_no_slice() -> None:
    """Who is not told of processes or recovery goes on without; nothing is lost by it."""
    lab = Lab(machine(gpu("GPU-0"), halves(1)))

    def refuse(*arguments: Any) -> None:
        raise lab.nvml.NVMLError("Insufficient Permissions")

    for name in ("ComputeRunningProcesses", "GraphicsRunningProcesses", "FieldValues"):
        setattr(lab.nvml, f"nvmlDeviceGet{name}", refuse)
    assert lab.troubles() == {}
    lab.nvml.nvmlEventSetWait_v2 = refuse  # type: ignore[method-assign]
    assert lab.troubles() == {}
    assert lab.devices.clean(lab.slices[0], scrub=True) == ""


# --- who is there ---------------------------------------------------------------------------


def test_a_foreign_process_sets_the_slice_aside_and_spoils_what_runs() -> None:
    """The reason names it; it is no loss, and over when the process is."""
    lab = Lab(machine(halves(0)))
    lab.gpu()["instances"][0]["processes"] = [stranger()]
    reason = lab.troubles("MIG-0a")["MIG-0a"]
    assert "process 4242 (python) of user mallory" in reason
    assert lab.spoiled == {"MIG-0a"}
    assert not lab.lost
    lab.gpu()["instances"][0]["processes"] = []
    assert lab.troubles("MIG-0a") == {}


def test_ours_and_a_desktop_are_not_foreign() -> None:
    """A worker, and what shows a screen and computes beside, are left alone."""
    lab = Lab(ReplayNvml("desktop").recording)
    assert lab.troubles() == {}
    lab.gpu()["processes"] += [{"pid": 7, "name": "", "memory": GIB}]
    lab.nvml.owner = lambda process, roots: ""  # type: ignore[method-assign]
    lab.devices._owner = lab.nvml.owner
    assert lab.troubles("GPU-0") == {}


def test_a_process_out_of_sight_counts_where_nobody_of_ours_is() -> None:
    """And not at the first look: one that has just ended may be listed for a moment."""
    lab = Lab(machine(gpu("GPU-0")))
    lab.gpu()["processes"] = [{"pid": 9}]
    assert lab.troubles("GPU-0") == {}
    assert lab.troubles("GPU-0") == {}
    assert "cannot be seen" in lab.troubles()["GPU-0"]


def test_neighbours_on_one_gpu_are_not_foreign() -> None:
    """A process out of sight on a GPU of which another share is in use is taken for ours."""
    lab = Lab(machine(gpu("GPU-0")), layout='{"0": ["1/2", "1/2"]}')
    lab.gpu()["processes"] = [{"pid": 9}]
    for _ in range(2):
        assert lab.troubles("GPU-0/2") == {}
    assert set(lab.troubles()) == {"GPU-0/1", "GPU-0/2"}


# --- between two users ----------------------------------------------------------------------


def test_memory_that_comes_back_late_is_waited_for() -> None:
    """A slice is clean once the driver has given the memory back."""
    lab = Lab(machine(gpu("GPU-0", used=600 * MIB)))
    lab.gpu().update(used=30 * GIB, processes=[{"pid": 9}])
    lab.meanwhile = lambda: lab.gpu().update(used=620 * MIB, processes=[])
    assert lab.devices.clean(lab.slices[0], scrub=True) == ""
    assert lab.nvml.scrubbed == ["GPU-0"]


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ({"processes": [{"pid": 9}]}, "process 9 still has memory"),
        ({"used": 30 * GIB}, "30.0 GB are in use"),
        ({"scrub": "reads back as something else"}, "reads back"),
    ],
)
def test_a_slice_that_is_not_clean_is_in_trouble_until_it_is(
    left: dict[str, Any], why: str
) -> None:
    """The reason is told after a bounded wait, and at each look until it is over."""
    lab = Lab(machine(gpu("GPU-0", used=600 * MIB)))
    lab.gpu().update(left)
    begun = lab.clock()
    reason = lab.devices.clean(lab.slices[0], scrub=True)
    assert why in reason
    assert lab.clock() - begun <= FREE_SECONDS + 1
    assert lab.troubles()["GPU-0"] == reason
    for name in left:
        lab.gpu()[name] = {"processes": [], "used": 600 * MIB, "scrub": ""}[name]
    assert lab.troubles() == {}
    assert lab.nvml.scrubbed[-1] == "GPU-0"


def test_what_is_in_use_on_a_share_may_be_its_neighbours() -> None:
    """So a share is clean once its own worker has ended."""
    lab = Lab(machine(gpu("GPU-0")), layout='{"0": ["1/2", "1/2"]}')
    lab.gpu().update(used=60 * GIB, processes=[{"pid": 9}])
    assert lab.devices.clean(lab.slices[0], scrub=True) == ""
    assert lab.nvml.scrubbed == []


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
    devices = Lab(machine(gpu("GPU-0"), gpu("GPU-1"))).devices
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


def test_the_shares_of_a_gpu_are_locked_as_one(tmp_path: Path) -> None:
    """Who offers a GPU whole and who offers shares of it keep each other off."""
    shared = Lab(machine(gpu("GPU-0")), layout='{"0": ["1/2", "1/2"]}').devices
    whole = Lab(machine(gpu("GPU-0"))).devices
    with DeviceLocks(tmp_path / "locks") as other, DeviceLocks(tmp_path / "locks") as own:
        assert len(lock_slices(shared, own)) == 2
        with pytest.raises(DeviceBusy):
            lock_slices(whole, other)


# --- simulated ------------------------------------------------------------------------------


def test_a_simulated_slice_is_lost_in_a_drill(tmp_path: Path) -> None:
    """While its name stands in the file."""
    devices = SimulatedDevices(2, 1 << 30, tmp_path / "lost")
    found = devices.discover()
    (tmp_path / "lost").write_text("simulated 2\n")
    troubles = devices.find_troubles(found, NOBODY)
    assert list(troubles) == ["simulated-2"]
    assert troubles["simulated-2"].lost
    (tmp_path / "lost").unlink()
    assert devices.find_troubles(found, NOBODY) == {}


def test_another_machine_can_be_simulated() -> None:
    """Its slices, sizes and troubles are there; each says that it is simulated."""
    lab = Lab(ReplayNvml("hardware-error").recording)
    devices = SimulatedMachine(lab.devices)
    bad, good = devices.discover()
    assert (good.size, good.capability, good.memory) == ("large", (9, 0), 71_424 * MIB)
    assert bad.name == "simulated half H200 (MIG 3g.71gb) #1"
    assert list(devices.find_troubles([bad, good], NOBODY)) == [bad.id]
    assert devices.clean(good, scrub=True) == ""
    assert len(lab.nvml.scrubbed) == 1
