"""Limits on memory and processes under which kernel, broker and workers run."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zerokernel.broker.devices.sizes import read_sizes
from zerokernel.containment import possible
from zerokernel.doctor.finding import Finding, good, limited
from zerokernel.settings import Settings

_SMALL = 2 << 30
_FEW_FILES = 1024
_NO_LIMIT = 1 << 60
"""Version 1 of control groups says "no limit" by a number near 2⁶³."""


@dataclass(frozen=True)
class LimitFacts:
    """Limits in bytes and numbers; None is no limit.

    Attributes:
        memory: The smallest of the control groups that this process is in.
        total: The machine's memory.
        address_space: RLIMIT_AS.
        files: RLIMIT_NOFILE.
        sizes: What sizes carry, by name → why it is not enforced, "" where it is.
    """

    memory: int | None
    total: int
    address_space: int | None
    files: int | None
    sizes: Mapping[str, str] = field(default_factory=dict)


def look(settings: Settings) -> LimitFacts:
    """Asks control groups and resource limits."""
    import psutil

    return LimitFacts(
        min(_group_limits(), default=None),
        psutil.virtual_memory().total,
        _limit(resource.RLIMIT_AS),
        _limit(resource.RLIMIT_NOFILE),
        _carried(settings),
    )


def judge(facts: LimitFacts) -> list[Finding]:
    """Says how much there is, and which limits will hurt."""
    found = [_memory(facts), *_sizes(facts)]
    if facts.address_space is not None:
        found.append(
            limited(
                "address space",
                f"limited to {facts.address_space >> 20} MiB (ulimit -v)",
                "CUDA reserves far more than it uses, and does not start under such a limit.",
                "Remove it (ulimit -v unlimited); limit memory by control groups.",
            )
        )
    if facts.files is not None and facts.files < _FEW_FILES:
        found.append(
            limited(
                "open files",
                f"at most {facts.files} (ulimit -n)",
                "A broker with many notebooks runs out of connections.",
                "Raise it: ulimit -n 4096.",
            )
        )
    return found


def _carried(settings: Settings) -> dict[str, str]:
    named = {name for size in read_sizes(settings.sizes) for name in size.limits}
    if not named:
        return {}
    held = possible()
    return {name: held.get(name, "nothing on this system holds it") for name in sorted(named)}


def _sizes(facts: LimitFacts) -> list[Finding]:
    if not facts.sizes:
        return []
    held = [name for name, why in facts.sizes.items() if not why]
    told = [f"{name} not ({why})" for name, why in facts.sizes.items() if why]
    says = "; ".join(filter(None, [f"held to: {', '.join(held)}" if held else "", *told]))
    if not told:
        return [good("sizes", says)]
    means = "What is not held to its size may be used up by one cell; it is a promise, not a wall."
    mend = "Let the broker make control groups (systemd: Delegate=yes); /dev/shm counts as memory."
    return [limited("sizes", says, means, mend)]


def _memory(facts: LimitFacts) -> Finding:
    total = f"{facts.total / (1 << 30):.1f} GiB"
    if facts.memory is None or facts.memory >= facts.total:
        return good("memory", f"{total}, no limit below it")
    says = f"limited to {facts.memory / (1 << 30):.1f} of {total} by a control group"
    if facts.memory >= _SMALL:
        return good("memory", says)
    return limited(
        "memory",
        says,
        "Kernel, broker, forkserver with torch and workers share it; cells are soon killed.",
        "Raise the container's or the unit's memory limit.",
    )


def _limit(which: int) -> int | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def _group_limits() -> Iterator[int]:
    """Gives the limits of this process's control groups and of those above them."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            yield from _limits(Path("/sys/fs/cgroup"), group, "memory.max")
            yield from _limits(Path("/sys/fs/cgroup/unified"), group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits(Path("/sys/fs/cgroup/memory"), group, "memory.limit_in_bytes")


def _limits(mount: Path, group: str, name: str) -> Iterator[int]:
    place = mount / group.strip("/")
    for folder in (place, *place.parents):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            text = "max"  # not mounted here, or the root, which has none
        if text != "max" and int(text) < _NO_LIMIT:
            yield int(text)
        if folder == mount:
            return
