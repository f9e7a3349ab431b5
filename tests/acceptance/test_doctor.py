"""`zerokernel doctor` as its users run it: root, somebody without rights, and restricted ones."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import platform
import resource
import shutil
import site
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import ROOT
from zerokernel.client import ensure_broker
from zerokernel.settings import Settings, as_environment

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@dataclass(frozen=True)
class Told:
    """What the command said, by finding, and its exit status."""

    status: int
    findings: Mapping[str, dict[str, Any]]

    def state(self, name: str) -> str:
        return str(self.findings[name]["state"])

    def says(self, name: str) -> str:
        return str(self.findings[name]["says"])


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that others may enter, which pytest's own are not."""
    made = Path(tempfile.mkdtemp(prefix="zk-doctor-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def examine(
    environment: Mapping[str, str],
    user: int | None = None,
    before: Callable[[], None] | None = None,
) -> Told:
    """Runs `zerokernel doctor --json` in a process of that user."""
    python, paths = (sys.executable, []) if user is None else interpreter_for_others()
    path = os.pathsep.join([str(ROOT), *paths])
    done = subprocess.run(
        [python, "-m", "zerokernel.cli", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert (done.returncode == 1) == (told["state"] == "bad")
    return Told(done.returncode, {one["name"]: one for one in told["findings"]})


@functools.cache
def interpreter_for_others() -> tuple[str, list[str]]:
    """An interpreter that any user may run, and where it finds this one's packages.

    This one may be below a home that is closed to others; then a system's own of the same
    version will do.
    """
    packages = [*site.getsitepackages()]
    names = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    for name in names:
        line = f"import sys; sys.path += {packages!r}; import psutil, tornado"
        with tempfile.TemporaryFile() as nowhere:
            try:
                done = subprocess.run(
                    [name, "-c", line], user=NOBODY, group=NOBODY, stderr=nowhere, cwd="/"
                )
            except OSError:
                continue
        if done.returncode == 0:
            return name, packages
    pytest.skip("no interpreter of this version that other users may run")


@needs_root
def test_root_and_an_unprivileged_user_are_told_different_truths(place: Path) -> None:
    """Of the same places: what is root's own is fine for root, and closed to the other."""
    for name in ("runtime", "books"):
        (place / name).mkdir(mode=0o700)
    environment = {
        "ZEROKERNEL_RUNTIME_DIRECTORY": str(place / "runtime"),
        "ZEROKERNEL_LEDGER_PATH": str(place / "books" / "ledger.sqlite"),
        "HOME": str(place),
    }
    root, other = examine(environment), examine(environment, NOBODY)
    assert (root.state("user"), other.state("user")) == ("limited", "good")
    assert (root.state("runtime directory"), root.state("ledger")) == ("good", "good")
    assert other.state("runtime directory") == "bad"
    assert "belongs to another user" in other.says("runtime directory")
    assert other.state("ledger") == "limited"
    assert "not writable" in other.says("ledger")
    assert (root.status, other.status) == (0, 1)
    for told in (root, other):
        assert told.says("versions").startswith("zerokernel ")
        assert told.state("containment") != "bad"


@needs_root
def test_an_unprivileged_user_with_places_of_their_own_can_work(place: Path) -> None:
    """Nothing is bad, and looking has made nothing."""
    (place / "home").mkdir()
    os.chown(place / "home", NOBODY, NOBODY)
    environment = {
        "ZEROKERNEL_RUNTIME_DIRECTORY": str(place / "home" / "rt"),
        "HOME": str(place / "home"),
    }
    told = examine(environment, NOBODY)
    assert told.status == 0
    assert told.state("ledger") == "good"
    assert told.says("ledger").startswith(str(place / "home" / "rt" / "ledger.sqlite"))
    assert told.state("memory reading") == "good"
    assert list((place / "home").iterdir()) == []


def test_a_filter_of_system_calls_is_found(place: Path) -> None:
    """Where it forbids reading another process's memory, the doctor says that and why."""
    told = examine({"ZEROKERNEL_RUNTIME_DIRECTORY": str(place)}, before=forbid_reading)
    assert told.state("memory reading") == "limited"
    assert "seccomp" in told.says("memory reading")
    free = examine({"ZEROKERNEL_RUNTIME_DIRECTORY": str(place)})
    assert free.state("memory reading") == "good"


def forbid_reading() -> None:
    """Lets process_vm_readv fail from now on: a filter of four instructions."""
    number = {"x86_64": 310, "aarch64": 270}[platform.machine()]
    load, jump_equal, give = 0x20, 0x15, 0x06
    allow, eperm = 0x7FFF0000, 0x00050001
    steps = [(load, 0, 0, 0), (jump_equal, 0, 1, number), (give, 0, 0, eperm), (give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges, without which a user may set no filter
    if libc.prctl(22, 2, program, 0, 0) != 0:
        os._exit(97)


def test_a_limit_on_addresses_is_found(place: Path) -> None:
    """RLIMIT_AS, under which CUDA does not start."""
    limit = 64 << 30
    told = examine(
        {"ZEROKERNEL_RUNTIME_DIRECTORY": str(place)},
        before=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert told.state("address space") == "limited"
    assert f"{limit >> 20} MiB" in told.says("address space")


def test_devices_that_are_wanted_and_missing_are_bad(place: Path) -> None:
    """And the exit status says so."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has NVIDIA devices")
    environment = {"ZEROKERNEL_RUNTIME_DIRECTORY": str(place), "ZEROKERNEL_DEVICES": "nvidia"}
    told = examine(environment)
    assert (told.status, told.state("devices")) == (1, "bad")


def test_a_broker_that_runs_is_found(runtime_directory: Path) -> None:
    """Its version and process; people read the same in aligned lines."""
    settings = Settings(runtime_directory, devices="simulated")
    address = ensure_broker(settings)
    told = examine(as_environment(settings))
    assert f"process {address.pid}" in told.says("broker")
    lines = subprocess.run(
        [sys.executable, "-m", "zerokernel.cli", "doctor"],
        env={**os.environ, **as_environment(settings)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    steady = [name for name in told.findings if name not in ("broker", "clock")]
    columns = {line.index(told.says(n)) for n in steady for line in lines if told.says(n) in line}
    assert len(columns) == 1
    assert any(f"process {address.pid}" in line for line in lines)
