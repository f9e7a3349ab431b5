"""Limits of a size, held by real control groups; skipped where none may be made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import wait_until
from zerokernel.containment import limit, possible, remove_stray_allowances
from zerokernel.containment.allowance import _folder_of, locate_first

MIB = 1 << 20


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that runs the lines that it is sent."""
    code = "import sys\nfor line in sys.stdin: exec(line, globals())"
    process = subprocess.Popen(
        [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


def needs(name: str) -> None:
    if why := possible()[name]:
        pytest.skip(f"{name}: {why}")


def groups(controller: str) -> list[Path]:
    folder = _folder_of(controller)
    return [] if folder is None else list(folder.glob("zerokernel-allowance-*"))


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def test_memory_beyond_the_limit_ends_the_process(child: subprocess.Popen[str]) -> None:
    """Not the machine's, and it is told apart; the group goes with the process."""
    needs("memory")
    allowance = limit(child.pid, {"memory": 64 * MIB})
    assert allowance.enforced == ("memory",)
    assert not allowance.ran_out
    say(child, "held = bytearray(256 << 20)")
    assert child.wait(20) == -signal.SIGKILL
    assert allowance.ran_out
    allowance.clear()
    assert not groups("memory")


def test_cores_are_a_share_of_time(child: subprocess.Popen[str]) -> None:
    """What the process starts is in the group too."""
    needs("cores")
    allowance = limit(child.pid, {"cores": 1})
    assert allowance.enforced == ("cores",)
    say(child, "import subprocess; one = subprocess.Popen(['sleep', '60']); print(one.pid)")
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    (group,) = groups("cpu")
    assert {pid, child.pid} <= set(map(int, (group / "cgroup.procs").read_text().split()))
    quota = group / "cpu.cfs_quota_us"
    told = quota if quota.exists() else group / "cpu.max"
    assert told.read_text().split()[0] == "100000"
    os.kill(pid, signal.SIGKILL)
    child.kill()
    child.wait()
    allowance.clear()
    assert not groups("cpu")


def test_what_no_group_holds_is_said(child: subprocess.Popen[str]) -> None:
    """Room in /dev/shm and scratch space are not enforced, and nothing pretends that they are."""
    allowance = limit(child.pid, {"shm": MIB, "scratch": MIB})
    assert allowance.enforced == ()
    assert set(allowance.refused) == {"shm", "scratch"}
    allowance.clear()


def test_groups_of_a_supervisor_that_was_killed_are_removed(tmp_path: Path) -> None:
    """By the next broker, once nothing lives in them; those of the living stay."""
    needs("memory")
    code = (
        "import os; from zerokernel.containment import limit\n"
        "limit(os.getpid(), {'memory': 1 << 30}); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    own = limit(os.getpid(), {})
    assert groups("memory")

    def gone() -> bool:
        remove_stray_allowances()
        return not groups("memory")

    wait_until(gone, "the removal of the groups", 10)
    own.clear()


MOUNTS = """\
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(
    ("controller", "found"),
    [
        ("cpu", "/sys/fs/cgroup/cpu,cpuacct/user/ada"),
        ("memory", "/sys/fs/cgroup/memory/inner"),
        ("pids", None),
    ],
)
def test_the_own_group_is_found_in_each_hierarchy(controller: str, found: str | None) -> None:
    """Joined controllers, a container's mount, and one that is not there."""
    memberships = "5:cpu,cpuacct:/user/ada\n4:memory:/docker/abc/inner\n0::/\n"
    folder = locate_first(controller, memberships, MOUNTS)
    assert folder == (None if found is None else Path(found))
