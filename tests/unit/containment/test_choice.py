"""Where a process's own control group is, which mechanism is chosen, what a namespace reports."""

import pytest

from zerokernel.containment import NAMES, ControlGroup, Finding, PidNamespace, ProcessWalk, choose
from zerokernel.containment.control_group import locate
from zerokernel.containment.pid_namespace import _understand
from zerokernel.errors import ContainmentUnavailable
from zerokernel.settings import BadSetting, load

V2 = "30 23 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n"


@pytest.mark.parametrize(
    ("own", "root", "point", "found"),
    [
        ("/", "/", "/sys/fs/cgroup", "/sys/fs/cgroup"),
        ("/user.slice/a.scope", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/a.scope"),
        ("/a", "/", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/a"),
        ("/docker/1/x", "/docker/1", "/sys/fs/cgroup", "/sys/fs/cgroup/x"),
        ("/docker/1", "/docker/1", "/sys/fs/cgroup", "/sys/fs/cgroup"),
        ("/docker/12", "/docker/1", "/sys/fs/cgroup", None),
        ("/../outside", "/", "/sys/fs/cgroup", None),
        ("/a", "/", "/mnt/with\\040space", "/mnt/with space/a"),
    ],
)
def test_own_group_is_found(own: str, root: str, point: str, found: str | None) -> None:
    """It is where the mount shows it; a group that no mount shows is none."""
    folder = locate(f"9:freezer:/else\n0::{own}\n", V1 + V2.format(root=root, point=point))
    assert (None if folder is None else str(folder)) == found


@pytest.mark.parametrize(
    ("memberships", "mounts"),
    [("9:freezer:/\n", V2.format(root="/", point="/m")), ("0::/\n", V1), ("", "")],
)
def test_without_version_two_there_is_none(memberships: str, mounts: str) -> None:
    """Neither a machine with version 1 alone nor an empty /proc has one."""
    assert locate(memberships, mounts) is None


def finding(name: str, works: bool) -> Finding:
    return Finding(name, works, "" if works else f"no {name}", "m", "r", 0.0)


@pytest.mark.parametrize(
    ("working", "wanted", "chosen"),
    [
        ({"pid namespace", "process walk"}, "auto", PidNamespace),
        ({"process walk"}, "auto", ProcessWalk),
        ({"pid namespace", "process walk"}, "process walk", ProcessWalk),
    ],
)
def test_the_best_that_works_is_chosen(working: set[str], wanted: str, chosen: type) -> None:
    """With "auto" the first in order, else the one that was asked for."""
    findings = [finding(name, name in working) for name in NAMES]
    assert isinstance(choose(findings, wanted), chosen)


def test_the_order_is_best_first() -> None:
    """One step of the system's own, then a namespace, then a walk."""
    assert (ControlGroup.name, PidNamespace.name, ProcessWalk.name) == NAMES


@pytest.mark.parametrize("wanted", ["control group", "auto"])
def test_nothing_else_is_taken_for_what_was_asked(wanted: str) -> None:
    """A mechanism that does not work is an error that says why, not another one."""
    with pytest.raises(ContainmentUnavailable, match="no control group"):
        choose([finding("control group", False)], wanted)


@pytest.mark.parametrize(
    ("report", "understood"),
    [
        ("init 5\nworker 6\nready yes\n", (5, 6, "")),
        ("init 5\nready yes\nworker 6\n", (5, 6, "")),
        ("failed [Errno 28] unshare: No space\n", (0, 0, "[Errno 28] unshare: No space")),
        ("init 5\nworker 6\nfailed mount /proc: x\n", (5, 6, "mount /proc: x")),
        ("init 5\n", (5, 0, "it ended before it was ready")),
        ("", (0, 0, "it ended before it was ready")),
    ],
)
def test_what_the_forked_processes_report(report: str, understood: tuple[int, int, str]) -> None:
    """In whichever order they wrote it, and also where one of them died before it did."""
    assert _understand(report) == understood


@pytest.mark.parametrize("name", ["auto", *NAMES])
def test_every_mechanism_can_be_set(name: str) -> None:
    """The setting knows the names by which findings and log call them."""
    assert load({"ZEROKERNEL_CONTAINMENT": name, "HOME": "/nowhere"}).containment == name


def test_another_mechanism_cannot_be_set() -> None:
    """A name that there is not is an error."""
    with pytest.raises(BadSetting, match="containment"):
        load({"ZEROKERNEL_CONTAINMENT": "docker", "HOME": "/nowhere"})
