"""Clock, user and container."""

from __future__ import annotations

import os
import pwd
import time
from dataclasses import dataclass
from pathlib import Path

from zerokernel.doctor.finding import Finding, good, limited
from zerokernel.settings import Settings

_SLOW_CLOCKS = {"hpet", "acpi_pm", "pit", "jiffies"}
_EPOCH_OF_THIS_VERSION = 1_767_225_600.0
"""The beginning of 2026: a clock before it is wrong."""


@dataclass(frozen=True)
class SurroundingFacts:
    """Where this process runs.

    Attributes:
        now: Seconds since the epoch by the system's clock.
        clock: What the system counts time by.
        user: Number of the user.
        name: Its name, "" where it has none.
        container: What kind of container, "" where there is no sign of one.
    """

    now: float
    clock: str
    user: int
    name: str
    container: str


def look(settings: Settings) -> SurroundingFacts:
    """Asks the system."""
    return SurroundingFacts(time.time(), _clock(), os.getuid(), _name(), _container())


def judge(facts: SurroundingFacts) -> list[Finding]:
    """One finding each for clock, user, container."""
    return [_judge_clock(facts), _judge_user(facts), _judge_container(facts)]


def _judge_clock(facts: SurroundingFacts) -> Finding:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.now))
    says = f"{when}, counted by {facts.clock or 'an unknown clock'}"
    if facts.now < _EPOCH_OF_THIS_VERSION:
        means = "Quota windows and the books have wrong times. Deadlines are not affected."
        return limited("clock", f"{says}, which is past", means, "Set the clock (chrony, ntpd).")
    if facts.clock in _SLOW_CLOCKS:
        means = "Asking for the time is slow, so every cell is."
        return limited("clock", says, means, "Let the system use tsc or kvm-clock.")
    return good("clock", says)


def _judge_user(facts: SurroundingFacts) -> Finding:
    says = f"{facts.name} ({facts.user})" if facts.name else f"{facts.user}, without a name"
    if facts.user == 0:
        means = "Cells run as root, too: they can read and end everything on this machine."
        return limited("user", says, means, "Run notebooks as a user of their own.")
    return good("user", says)


def _judge_container(facts: SurroundingFacts) -> Finding:
    return good("container", facts.container or "none that shows")


def _clock() -> str:
    place = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    try:
        return Path(place).read_text().strip()
    except OSError:
        return ""


def _name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _container() -> str:
    for place, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if Path(place).exists():
            return name
    try:  # systemd and many others set it for the first process, which only root may read
        environment = Path("/proc/1/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((e[10:].decode() for e in environment if e.startswith(b"container=")), "")
