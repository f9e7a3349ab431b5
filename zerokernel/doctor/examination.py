"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from zerokernel.doctor import (
    containing,
    devices,
    limits,
    places,
    reading,
    running,
    surroundings,
    versions,
    writes,
)
from zerokernel.doctor.finding import Finding, limited
from zerokernel.settings import Settings

# Containment first: it forks, which wants a process of one thread.
CHECKS: tuple[ModuleType, ...] = (
    containing,
    versions,
    devices,
    reading,
    writes,
    places,
    limits,
    running,
    surroundings,
)
"""Each has ``look(settings)``, which gives facts, and ``judge(facts)``, which gives findings."""


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; a check that fails is a finding, not the end of the others."""
    found = []
    for check in CHECKS:
        name = check.__name__.rpartition(".")[2]
        found += _examine(name, check.look, check.judge, settings)
    return found


def _examine(
    name: str,
    look: Callable[[Settings], Any],
    judge: Callable[[Any], list[Finding]],
    settings: Settings,
) -> list[Finding]:
    try:
        return judge(look(settings))
    except Exception as error:
        says = f"could not be looked at: {type(error).__name__}: {error}"
        return [limited(name, says, "Nothing is known about it.")]
