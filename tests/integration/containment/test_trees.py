"""Trees that do all they can to outlive their worker, under each mechanism."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.containment.conftest import Holder
from tests.kernels import wait_until
from zerokernel.containment import (
    clear_groups,
    end_remains,
    end_supervisor,
    group_prefix,
    remove_strays,
)
from zerokernel.containment.control_group import locate
from zerokernel.containment.processes import is_alive

KILL_SECONDS = 0.05
BUSY = 10
"""How much longer a machine may take on which other tests run."""


def is_frozen(process: int) -> bool:
    """Whether it is stopped or in a frozen group."""
    if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T":
        return True
    mounts = Path("/proc/self/mountinfo").read_text()
    group = locate(Path(f"/proc/{process}/cgroup").read_text(), mounts)
    events = group / "cgroup.events" if group is not None else None
    return events is not None and events.exists() and "frozen 1" in events.read_text()


def members(below: list[int]) -> list[int]:
    """Those that do not hold the tree but are in it."""
    return [one for one in below if is_alive(one) and not holds(one)]


def holds(process: int) -> bool:
    """Whether it is the first process of a namespace, or is gone meanwhile."""
    try:
        return b"os.read(0, 1)" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return True


@pytest.mark.parametrize("tree", ["quiet", "hostile", "bomb"])
def test_nothing_outlives_a_kill(holder: Holder, tree: str) -> None:
    """Eight that left session and parent, and a fork bomb of 200, die with their worker."""
    forked = holder.tell(f"fork {tree}")
    assert len(forked["below"]) >= {"quiet": 1, "hostile": 9, "bomb": 50}[tree]
    killed = holder.tell("kill")
    assert killed["all gone"]
    assert killed["children"] == 0
    assert killed["status"] == signal.SIGKILL
    assert killed["seconds"] < KILL_SECONDS * BUSY


@pytest.mark.parametrize("tree", ["hostile", "bomb"])
def test_a_frozen_tree_dies_too(holder: Holder, tree: str) -> None:
    """Freezing stops every process of it, and the kill needs no thaw."""
    below = members(holder.tell(f"fork {tree}")["below"])
    holder.tell("freeze")
    if tree == "hostile":
        wait_until(lambda: all(map(is_frozen, below)), "the tree to be frozen")
    killed = holder.tell("kill")
    assert killed["all gone"]
    assert killed["children"] == 0


def test_a_frozen_tree_thaws(holder: Holder) -> None:
    """Every process of it runs again."""
    below = members(holder.tell("fork hostile")["below"])
    holder.tell("freeze")
    wait_until(lambda: all(map(is_frozen, below)), "the tree to be frozen")
    holder.tell("thaw")
    wait_until(lambda: not any(map(is_frozen, below)), "the tree to be thawed")
    assert holder.tell("kill")["all gone"]


@pytest.mark.parametrize(
    ("end", "exit_status", "number"),
    [
        ("exits", 7, 0),
        ("raises", 1, 0),
        ("kills itself", 0, signal.SIGKILL),
        ("crashes", 0, signal.SIGSEGV),
    ],
)
def test_the_true_status_arrives(holder: Holder, end: str, exit_status: int, number: int) -> None:
    """However a worker ends, the process that forked it gets that from waitpid."""
    holder.tell(f"fork {end}")
    waited = holder.tell("wait")
    status = waited["status"]
    assert (os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0) == exit_status
    assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0) == number
    assert waited["all gone"]
    assert waited["children"] == 0


def test_an_end_by_itself_leaves_nothing(holder: Holder) -> None:
    """A worker killed by somebody else: its orphans are ended when it is cleared."""
    forked = holder.tell("fork orphaned")
    os.kill(forked["process"], signal.SIGKILL)
    waited = holder.tell("wait")
    assert waited["all gone"]
    assert waited["children"] == 0


def test_the_worker_knows_how_it_is_called_outside(holder: Holder) -> None:
    """It has one id for kernel, broker and supervisor, whatever os.getpid says in it."""
    forked = holder.tell("fork quiet")
    assert forked["outside"] == forked["process"]
    assert is_alive(forked["process"])
    holder.tell("kill")


def test_trees_after_each_other(holder: Holder) -> None:
    """One tree's end leaves the next as it was."""
    first = holder.tell("fork hostile")["process"]
    assert holder.tell("kill")["all gone"]
    second = holder.tell("fork hostile")["process"]
    assert first != second
    assert holder.tell("kill")["all gone"]


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_a_supervisor_that_hangs_is_ended_with_its_trees(holder: Holder, state: str) -> None:
    """The broker ends a stopped supervisor and all that it forked, frozen trees as well."""
    below = members(holder.tell("fork hostile")["below"])
    if state == "frozen":
        holder.tell("freeze")
    os.kill(holder.process.pid, signal.SIGSTOP)
    end_supervisor(holder.process.pid, holder.groups)
    holder.process.wait(20)
    end_remains(holder.groups)
    wait_until(lambda: not any(map(is_alive, below)), "the end of the whole tree", 5)


def test_a_worker_dies_with_its_supervisor(holder: Holder) -> None:
    """Without anybody's help."""
    worker = holder.tell("fork quiet")["process"]
    holder.process.kill()
    wait_until(lambda: not is_alive(worker), "the end of the worker", 5)
    holder.process.wait(20)
    end_remains(holder.groups)


@pytest.mark.parametrize("mechanism", ["pid namespace"], indirect=True)
def test_a_fork_that_is_refused_leaves_nothing(holder: Holder) -> None:
    """When the system has no room for another namespace, an OSError says so, and that is all."""
    holder.tell("starve")
    refused = holder.tell("fork quiet")
    assert "unshare" in refused["error"]
    assert refused["children"] == 0


def test_a_group_whose_maker_is_dead_is_removed() -> None:
    """One of a living process stays, and so does one where somebody still lives."""
    own = group_prefix(os.getpid())
    if not own:
        pytest.skip("no control groups of version 2 here")
    folder, living = Path(own).parent, Path(f"{own}991")
    stray, inhabited = folder / "zerokernel-1-1-991", folder / "zerokernel-1-1-992"
    for group in (living, stray, inhabited):
        group.mkdir()
    (stray / "made by a cell").mkdir()
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        (inhabited / "cgroup.procs").write_text(f"{sleeper.pid}")
        remove_strays()
        found = [group.exists() for group in (living, stray, inhabited)]
        sleeper.kill()
    for group in (living, inhabited):
        clear_groups(f"{group}")
    assert found == [True, False, True]
    assert not living.exists()
    assert not inhabited.exists()
