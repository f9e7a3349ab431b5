"""How a worker's whole process tree is frozen and killed here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from zerokernel.doctor.finding import Finding, bad, good, limited
from zerokernel.settings import Settings

NAME = "containment"


@dataclass(frozen=True)
class Mechanism:
    """One way, tried; the best comes first.

    Attributes:
        reason: Why it does not work, "" if it does.
        meaning: What follows for workers that are held in this way.
        remedy: What would make it work, "" if it does.
    """

    name: str
    works: bool
    reason: str
    meaning: str
    remedy: str


def look(settings: Settings) -> tuple[Mechanism, ...] | None:
    """Tries each mechanism; None where this version has no choice of them."""
    try:
        containment: Any = importlib.import_module("zerokernel.containment")
    except ImportError:
        return None
    return tuple(
        Mechanism(one.name, one.works, one.reason, one.meaning, one.remedy)
        for one in containment.probe()
    )


def judge(found: tuple[Mechanism, ...] | None) -> list[Finding]:
    """Good where the best works, limited where a lesser one does."""
    if found is None:
        return [
            limited(
                NAME,
                "workers are killed and frozen as process groups",
                "A process that a cell moved into a session of its own outlives the worker.",
            )
        ]
    working = [one for one in found if one.works]
    failing = [f"{one.name}: {one.reason}" for one in found if not one.works]
    told = "; ".join(failing)
    if not working:
        mend = next((one.remedy for one in found if one.remedy), "")
        return [bad(NAME, f"nothing works here ({told})", "No worker can start.", mend)]
    chosen = working[0]
    if chosen is found[0]:
        return [good(NAME, f"by {chosen.name}. {chosen.meaning}")]
    says = f"by {chosen.name}, because of {told}"
    return [limited(NAME, says, chosen.meaning, found[0].remedy)]
