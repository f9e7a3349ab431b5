"""A control group (version 2) for each worker: one write freezes or kills all that is in it.

No controller is needed, only the right to make groups below one's own. Groups are named
after the process that made them, so that another can find and clear what it left.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from pathlib import Path

from zerokernel.containment import inside, processes
from zerokernel.containment.port import Main
from zerokernel.errors import ContainmentUnavailable

_PREFIX = "zerokernel"
_POLL_SECONDS = 0.0005


class ControlGroup:
    """Forks each worker into a control group of its own.

    Raises:
        ContainmentUnavailable: There are no control groups of version 2 here.
    """

    name = "control group"

    def __init__(self) -> None:
        self._prefix = group_prefix(os.getpid())
        if not self._prefix:
            raise ContainmentUnavailable("no control groups of version 2 (cgroup2) are mounted")
        self._numbers = itertools.count(1)

    def fork(self, main: Main) -> GroupTree:
        """Forks a worker, which enters its group while it gets ready.

        Raises:
            OSError: The group cannot be made, or the worker not be forked.
        """
        group = Path(f"{self._prefix}{next(self._numbers)}")
        group.mkdir()
        parent = os.getpid()
        try:
            child = os.fork()
        except OSError:
            group.rmdir()
            raise
        if child == 0:
            processes.become(lambda: _begin(parent, group, main))
        return GroupTree(child, group)


def _begin(parent: int, group: Path, main: Main) -> None:
    processes.die_with_parent(parent)
    # A group does not need it, but the supervisor kills orphans that come to it.
    processes.adopt_orphans()
    inside.enter_meanwhile(lambda: write_control(group / "cgroup.procs", "0"))
    main()


class GroupTree:
    """What is in one control group."""

    def __init__(self, process: int, group: Path) -> None:
        self.process = process
        self.roots = (process,)
        self.frozen = False
        self.group = group

    def __repr__(self) -> str:
        return f"<GroupTree {self.process}{', frozen' if self.frozen else ''}>"

    def freeze(self) -> None:
        """Freezes the group; what enters it later is frozen as well."""
        self.frozen = True
        write_control(self.group / "cgroup.freeze", "1")

    def thaw(self) -> None:
        """Lets the group run."""
        self.frozen = False
        write_control(self.group / "cgroup.freeze", "0")

    def kill(self) -> None:
        """Kills all that is in the group, and a worker that is still on its way into it."""
        processes.send_signal(self.process, signal.SIGKILL)
        _kill(self.group)

    def clear(self) -> None:
        """Kills what is left in the group and removes it."""
        clear_group(self.group)


def group_prefix(process: int) -> str:
    """Path with which the groups that a process makes begin; "" where it can have none.

    Its start time is in it: a process id is used again.
    """
    directory = _directory_of(process)
    if directory is None:
        return ""
    return str(directory / f"{_PREFIX}-{process}-{processes.started_at(process)}-")


def clear_groups(prefix: str) -> None:
    """Kills all that is in the groups that begin with a path, and removes them; "" is none."""
    folder, _, begin = prefix.rpartition("/")
    if not begin.startswith(f"{_PREFIX}-"):
        return
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(begin):
                clear_group(Path(folder, name))


def remove_strays() -> None:
    """Removes empty groups beside this process whose maker is dead.

    One that is killed in the same moment as its broker has nobody who knows of its groups.
    Only empty ones: in another PID namespace the maker may be alive.
    """
    folder = _directory_of(os.getpid())
    if folder is None:
        return
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            begin, *numbers = name.split("-")
            if begin == _PREFIX and len(numbers) == 3 and all(n.isdecimal() for n in numbers):
                process, started, _ = map(int, numbers)
                if processes.started_at(process) != started:
                    _is_gone(folder / name)


def clear_group(group: Path) -> None:
    """Kills all that is in a group and removes it; one that hangs is left after a time."""
    until = time.monotonic() + processes.KILL_SECONDS
    while time.monotonic() < until:
        _kill(group)
        if _is_gone(group):
            return
        time.sleep(_POLL_SECONDS)


def _kill(group: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        write_control(group / "cgroup.kill", "1")


def _is_gone(group: Path) -> bool:
    """Removes the group, and those that were made in it, once nothing lives there."""
    try:
        if "populated 0" not in (group / "cgroup.events").read_text():
            return False
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:  # one that was killed was just entering it
        return False
    return True


def write_control(path: Path, text: str) -> None:
    """Writes to a file of a control group; raises OSError where the kernel refuses it."""
    # Not write_text: it would make a file, and asks for its end.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _directory_of(process: int) -> Path | None:
    """The group of a process, as a folder."""
    try:
        memberships = Path(f"/proc/{process}/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    return locate(memberships, mounts)


def locate(memberships: str, mounts: str) -> Path | None:
    """Finds the folder of a process's own group.

    Args:
        memberships: Content of its /proc/PID/cgroup.
        mounts: Content of /proc/self/mountinfo.

    Returns:
        None where version 2 is not mounted, or not as far as this group.
    """
    own = next((line[3:] for line in memberships.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if own is None or rest.split(" ")[0] != "cgroup2":
            continue
        root, point = (_unescape(field) for field in fields.split(" ")[3:5])
        if ".." not in own and (own == root or own.startswith(root.rstrip("/") + "/")):
            return Path(point, own[len(root) :].lstrip("/"))
    return None


def _unescape(field: str) -> str:
    """Spaces and the like are octal escapes in mountinfo."""
    return field.encode().decode("unicode_escape") if "\\" in field else field
