"""The broker of this user and machine, if it runs."""

from __future__ import annotations

from dataclasses import dataclass

import zerokernel
from zerokernel.client import fetch_status, find_broker
from zerokernel.doctor.finding import Finding, bad, good, limited
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import Settings


@dataclass(frozen=True)
class BrokerFacts:
    """What answers.

    Attributes:
        process: 0 where none runs.
        version: Of the broker.
        uptime: Seconds.
        notebooks: How many it knows.
        set_aside: Slices that it does not lease, each with the reason.
        error: Why it cannot be asked, "" where it can or none runs.
    """

    process: int = 0
    version: str = ""
    uptime: float = 0.0
    notebooks: int = 0
    set_aside: tuple[str, ...] = ()
    error: str = ""


def look(settings: Settings) -> BrokerFacts:
    """Asks the broker; starts none."""
    try:
        address = find_broker(settings)
        if address is None:
            return BrokerFacts()
        status = fetch_status(address)
    except ZeroKernelError as error:
        return BrokerFacts(error=str(error))
    aside = [f"{one['name']}: {one['reason']}" for one in status["slices"] if one["reason"]]
    return BrokerFacts(
        status["pid"],
        status["version"],
        status["uptime"],
        len(status["sessions"]),
        tuple(aside),
    )


def judge(facts: BrokerFacts) -> list[Finding]:
    """Bad where one runs and cannot be used."""
    if facts.error:
        mend = "Do as the message says, or look into broker.log in the runtime directory."
        return [bad("broker", facts.error, "No %%gpu cell can run.", mend)]
    if not facts.process:
        return [good("broker", "none runs; the first notebook starts it")]
    says = (
        f"version {facts.version}, process {facts.process}, up {facts.uptime:.0f} s, "
        f"notebooks: {facts.notebooks}"
    )
    if facts.version != zerokernel.__version__:
        means = f"Notebooks here have version {zerokernel.__version__}."
        return [limited("broker", says, means, "zerokernel stop; the next cell starts its own.")]
    if facts.set_aside:
        told = "; ".join(facts.set_aside)
        means = f"Not leased: {told}."
        return [limited("broker", says, means, "`zerokernel status` shows when they are back.")]
    return [good("broker", says)]
