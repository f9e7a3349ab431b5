"""Whether one process may read another's memory, by which large objects cross without a copy."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from zerokernel.doctor.finding import Finding, good, limited
from zerokernel.settings import Settings
from zerokernel.wire.memory import try_probe

NAME = "memory reading"
_SECONDS = 20

_TARGET = """
import sys
from zerokernel.wire.memory import Probe, allow_reading_by
probe = Probe.make()
allow_reading_by(int(sys.argv[1]))
print(probe.pack().hex(), flush=True)
sys.stdin.read()
"""
"""A process as a notebook's is: it lets one other read it, where the system asks for that."""


@dataclass(frozen=True)
class ReadingFacts:
    """What was tried.

    Attributes:
        works: Whether a process of this user could be read.
        emulated: Whether the setting emulate_ptrace_denied forbids it anyway.
        ptrace_scope: Of Yama, None where the system has no such restriction.
        seccomp: Whether a filter of system calls is in force.
    """

    works: bool
    emulated: bool = False
    ptrace_scope: int | None = None
    seccomp: bool = False


def look(settings: Settings) -> ReadingFacts:
    """Reads a secret out of another process, as worker and notebook do."""
    with subprocess.Popen(
        [sys.executable, "-c", _TARGET, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as target:
        assert target.stdout is not None
        told = target.stdout.readline().strip()
        works = bool(told) and try_probe(bytes.fromhex(told)) != 0
        target.communicate(timeout=_SECONDS)
    return ReadingFacts(works, settings.emulate_ptrace_denied, _ptrace_scope(), _seccomp())


def judge(facts: ReadingFacts) -> list[Finding]:
    """Good where it works and is used."""
    if facts.works and not facts.emulated:
        return [good(NAME, "processes of this user read each other: objects are copied once")]
    causes = {
        "the setting emulate_ptrace_denied": facts.emulated,
        f"kernel.yama.ptrace_scope = {facts.ptrace_scope}": (facts.ptrace_scope or 0) >= 2,
        "a filter of system calls (seccomp)": facts.seccomp,
    }
    cause = " or ".join(name for name, holds in causes.items() if holds) or "the system"
    mend = "Set kernel.yama.ptrace_scope to 1 or 0; in a container, allow process_vm_readv."
    return [
        limited(
            NAME,
            f"forbidden by {cause}",
            "Large objects go through shared memory instead: one copy more each way.",
            "Set emulate_ptrace_denied = false." if facts.emulated else mend,
        )
    ]


def _ptrace_scope() -> int | None:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return None


def _seccomp() -> bool:
    status = Path("/proc/self/status").read_text()
    return any(line.split() == ["Seccomp:", "2"] for line in status.splitlines())
