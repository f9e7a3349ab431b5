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


@dataclass(frozen=True)
class ContainmentFacts:
    """What was tried.

    Attributes:
        wanted: The setting `containment`: "auto", or one by its name.
        mechanisms: All that there are, the best first.
    """

    wanted: str
    mechanisms: tuple[Mechanism, ...]


def look(settings: Settings) -> ContainmentFacts | None:
    """Tries each mechanism; None where this version has no choice of them."""
    try:
        containment: Any = importlib.import_module("zerokernel.containment")
    except ImportError:
        return None
    found = [
        Mechanism(one.name, one.works, one.reason, one.meaning, one.remedy)
        for one in containment.probe()
    ]
    return ContainmentFacts(getattr(settings, "containment", "auto"), tuple(found))


def judge(facts: ContainmentFacts | None) -> list[Finding]:
    """Good where the best works or the wanted one, limited where a lesser one serves."""
    if facts is None:
        return [
            limited(
                NAME,
                "workers are killed and frozen as process groups",
                "A process that a cell moved into a session of its own outlives the worker.",
            )
        ]
    if facts.wanted != "auto":
        return [_wanted(facts)]
    working = [one for one in facts.mechanisms if one.works]
    told = "; ".join(f"{one.name}: {one.reason}" for one in facts.mechanisms if not one.works)
    if not working:
        mend = next((one.remedy for one in facts.mechanisms if one.remedy), "Use a newer Linux.")
        return [bad(NAME, f"nothing works here ({told})", "No worker can start.", mend)]
    best, chosen = facts.mechanisms[0], working[0]
    if chosen is best:
        return [good(NAME, f"by {chosen.name}. {chosen.meaning}")]
    says = f"by {chosen.name}, because of {told}"
    return [limited(NAME, says, chosen.meaning, best.remedy)]


def _wanted(facts: ContainmentFacts) -> Finding:
    one = next((one for one in facts.mechanisms if one.name == facts.wanted), None)
    if one is not None and one.works:
        says = f"by {one.name}, as the setting containment wants. {one.meaning}"
        return good(NAME, says)
    why = one.reason if one is not None else "there is no such mechanism"
    mend = 'Set containment = "auto".'
    return bad(NAME, f"{facts.wanted} is wanted: {why}", "No worker can start.", mend)
