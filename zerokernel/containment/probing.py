"""Which mechanisms work here, found out by using them; and the choice among them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zerokernel.containment import inside, processes
from zerokernel.containment.control_group import ControlGroup
from zerokernel.containment.pid_namespace import PidNamespace
from zerokernel.containment.port import Containment, Tree
from zerokernel.containment.process_walk import ProcessWalk
from zerokernel.errors import ContainmentUnavailable

_TRIAL_SECONDS = 2.0
"""A killed trial that is not gone by then was not contained."""


@dataclass(frozen=True)
class Finding:
    """One mechanism, tried.

    Attributes:
        name: As the setting `containment` calls it.
        works: Whether a trial tree was frozen, thawed and killed whole.
        reason: Why it does not work, in one sentence; "" if it does.
        meaning: What it means for workers to be held in this way.
        remedy: What makes it work; "" if it does.
        seconds: How long the trial took.
    """

    name: str
    works: bool
    reason: str
    meaning: str
    remedy: str
    seconds: float


@dataclass(frozen=True)
class _Kind:
    make: Callable[[], Containment]
    meaning: str
    remedy: str


_KINDS = {
    ControlGroup.name: _Kind(
        ControlGroup,
        "The system freezes and kills all that came of a worker in one step, and the next broker "
        "can do so after a supervisor that was killed.",
        "It needs Linux 5.14 and the right to make control groups (version 2) below one's own: "
        "in a user's systemd session `systemd-run --user --scope -p Delegate=yes`, for a service "
        "`Delegate=yes`, in a container a writable /sys/fs/cgroup.",
    ),
    PidNamespace.name: _Kind(
        PidNamespace,
        "The system kills all that came of a worker in one step. Process ids in a cell are those "
        "of its namespace, large inputs are copied once more on their way in, and where the "
        "namespace is a user's own, sudo and the like do not work in a cell.",
        "It needs root (CAP_SYS_ADMIN) or user namespaces: set kernel.unprivileged_userns_clone "
        "or kernel.apparmor_restrict_unprivileged_userns so that they are allowed, and in a "
        "container allow the system calls and do not mask /proc.",
    ),
    ProcessWalk.name: _Kind(
        ProcessWalk,
        "What came of a worker is found by walking its process tree, repeatedly, until nothing "
        "more is found. If supervisor and broker are killed at the same moment, processes that a "
        "cell left in the background stay.",
        "It needs /proc with the processes of this user.",
    ),
}

NAMES = tuple(_KINDS)
"""The mechanisms, best first."""


def probe(names: Sequence[str] = NAMES) -> tuple[Finding, ...]:
    """Tries mechanisms for real, each in a process of its own. Call it with one thread only."""
    return tuple(_find(name) for name in names)


def choose(findings: Sequence[Finding], wanted: str = "auto") -> Containment:
    """Gives the best mechanism that works, or the wanted one.

    Raises:
        ContainmentUnavailable: It, or with "auto" every one, does not work.
    """
    fit = [one for one in findings if wanted in ("auto", one.name)]
    for one in fit:
        if one.works:
            return _KINDS[one.name].make()
    told = "; ".join(f"{one.name}: {one.reason}" for one in fit) or "it was not tried"
    raise ContainmentUnavailable(
        f"Workers cannot be contained by {'anything' if wanted == 'auto' else wanted} here "
        f'({told}). Set containment to "auto", or see `zerokernel doctor`.'
    )


def settle(wanted: str = "auto") -> Containment:
    """Tries what is wanted, with "auto" one after the other until one works, and gives it.

    Raises:
        ContainmentUnavailable: None does.
    """
    findings: list[Finding] = []
    for name in NAMES if wanted == "auto" else (wanted,):
        findings.append(_find(name))
        if findings[-1].works:
            break
    return choose(findings, wanted)


def _find(name: str) -> Finding:
    kind = _KINDS[name]
    begin = time.monotonic()
    reason = _in_a_child(lambda: _trial(kind.make()))
    seconds = time.monotonic() - begin
    remedy = kind.remedy if reason else ""
    return Finding(name, not reason, reason, kind.meaning, remedy, seconds)


def _in_a_child(trial: Callable[[], None]) -> str:
    """Runs a trial in a forked process; returns why it failed, "" if it did not."""
    hear, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        processes.become(lambda: _tell(trial, say))
    os.close(say)
    with open(hear, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    return {"": "the trial ended without a result", "works": ""}.get(told, told)


def _tell(trial: Callable[[], None], say: int) -> None:
    processes.adopt_orphans()
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    try:
        trial()
        told = "works"
    except OSError as error:
        path = f" ({error.filename})" if error.filename else ""
        told = f"the system refuses it: {error.strerror}{path}" if error.strerror else str(error)
    except ContainmentUnavailable as error:
        told = str(error)
    os.write(say, told.encode())


def _trial(containment: Containment) -> None:
    """Freezes, thaws and kills a worker with a child that tries to get away.

    Raises:
        OSError: The mechanism cannot be used, or something outlived it.
    """
    alive, held = os.pipe()  # open as long as anything of the tree lives
    tree = containment.fork(lambda: _escape(alive, held))
    os.close(held)
    try:
        if os.read(alive, 1) != b"x":
            raise OSError("the worker ended before it was contained")
        tree.freeze()
        tree.thaw()
    finally:
        status = _end(tree)
    if status != signal.SIGKILL:
        raise OSError(f"the worker's end is reported wrongly (status {status})")
    processes.kill_below(os.getpid())  # as the supervisor does with what comes to it
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    if not select.select([alive], [], [], _TRIAL_SECONDS)[0] or os.read(alive, 1):
        raise OSError("a process outlived the worker's tree")


def _end(tree: Tree) -> int:
    tree.kill()
    status = os.waitpid(tree.process, 0)[1]
    tree.clear()
    return status


def _escape(alive: int, held: int) -> None:
    """In the worker: leaves a child in a session of its own, and says so."""
    os.close(alive)
    inside.wait_until_contained()
    if os.fork() == 0:
        os.setsid()
        os.write(held, b"x")
    while True:
        signal.pause()
