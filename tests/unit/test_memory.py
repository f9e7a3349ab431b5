import resource
from pathlib import Path

import pytest

from zerokernel import memory

GIB = 1 << 30
MEMINFO = f"MemTotal: {32 << 20} kB\nMemAvailable: {20 << 20} kB\nSwapFree: 0 kB\n"


class System:
    """A /proc and control groups of files, as Linux would show them."""

    def __init__(self, path: Path) -> None:
        self.proc, self.groups = path / "proc", path / "groups"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text(MEMINFO)

    def mount(self, version: int, group: str, root: str = "/") -> None:
        kind = "cgroup cgroup rw,memory" if version == 1 else "cgroup2 cgroup2 rw"
        line = f"35 31 0:32 {root} {self.groups} rw - {kind}\n"
        (self.proc / "self/mountinfo").write_text(f"22 1 0:1 / / rw - ext4 /dev/a rw\n{line}")
        number, name = ("4", "memory") if version == 1 else ("0", "")
        (self.proc / "self/cgroup").write_text(f"9:cpu:/x\n{number}:{name}:{group}\n")

    def group(self, path: str, version: int, limit: str, used: int, stat: str = "") -> None:
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        names = ("memory.max", "memory.current")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        for name, value in zip(names, (limit, used), strict=True):
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(stat)

    def room(self) -> memory.Room:
        return memory.room(self.proc)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_without_limits_it_is_what_the_machine_has(system: System) -> None:
    """MemAvailable counts where nothing else does."""
    assert system.room() == memory.Room(20 * GIB, "the machine")


@pytest.mark.parametrize(
    ("version", "stat"),
    [(1, f"total_cache {3 * GIB}\ntotal_shmem {GIB}\n"), (2, f"file {3 * GIB}\nshmem {GIB}\n")],
)
def test_a_control_group_leaves_its_limit_less_its_use(
    system: System, version: int, stat: str
) -> None:
    """Cached files give way and count as free; shared memory does not."""
    system.mount(version, "/a/b")
    system.group("a/b", version, str(8 * GIB), 6 * GIB, stat)
    found = system.room()
    assert found.size == 4 * GIB
    assert "8.0 GiB" in found.limit


@pytest.mark.parametrize(("version", "none"), [(1, "9223372036854771712"), (2, "max")])
def test_the_tightest_group_above_counts(system: System, version: int, none: str) -> None:
    """A group without a limit of its own is bound by that of its parent."""
    system.mount(version, "/a/b/c")
    system.group("a/b/c", version, none, GIB)
    system.group("a/b", version, str(3 * GIB), 2 * GIB)
    system.group("a", version, str(9 * GIB), 2 * GIB)
    assert system.room().size == GIB


@pytest.mark.parametrize(("root", "group"), [("/docker/1", "/docker/1"), ("/docker/1", "/other")])
def test_in_a_container_the_mount_is_the_group(system: System, root: str, group: str) -> None:
    """Where the mount shows only this container's groups, names of the host are not looked for."""
    system.mount(2, group, root)
    system.group("", 2, str(2 * GIB), GIB)
    assert system.room().size == GIB


def test_an_overdrawn_group_leaves_nothing(system: System) -> None:
    """A use above the limit is no negative room."""
    system.mount(2, "/")
    system.group("", 2, str(GIB), 2 * GIB)
    assert system.room().size == 0


def test_this_process_can_be_asked() -> None:
    """On the real system there is room, and it is finite."""
    found = memory.room()
    assert 0 < found.size < 1 << 50
    assert memory.has_room(0)
    assert not memory.has_room(1 << 50)


def test_a_limit_of_address_space_counts() -> None:
    """What `ulimit -v` leaves is the limit less what is mapped."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (300 << 20), before[1]))
    try:
        found = memory.room()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert 250 << 20 < found.size <= 300 << 20
    assert "ulimit -v" in found.limit
