"""How zerokernel notices what a cell wrote into arrays and tensors."""

from __future__ import annotations

from dataclasses import dataclass

from zerokernel.doctor.finding import Finding, good, limited
from zerokernel.settings import Settings

NAME = "write tracking"


@dataclass(frozen=True)
class WriteFacts:
    """How changes are to be found, and whether the system helps.

    Attributes:
        wanted: The setting `change_detection`.
        trouble: Why pages cannot be tracked, "" where the self-test was right.
    """

    wanted: str
    trouble: str


def look(settings: Settings) -> WriteFacts:
    """Runs the self-test."""
    from zerokernel.crossing import pages

    return WriteFacts(settings.change_detection, pages.trial())


def judge(facts: WriteFacts) -> list[Finding]:
    """Good unless tracking is asked for: comparing contents needs nothing of the machine."""
    if facts.wanted == "hash":
        return [good(NAME, "by hashing contents, as the setting change_detection wants")]
    if not facts.trouble:
        says = "by the pages that were written (userfaultfd, self-test right); small ones by hash"
        return [good(NAME, says)]
    says = (
        f"by hashing contents; the system does not tell which pages were written: {facts.trouble}"
    )
    if facts.wanted == "auto":
        return [good(NAME, says)]
    means = "Cells work; large arrays and tensors are read once more for each cell that uses them."
    mend = 'Allow userfaultfd (Linux 6.7 or later), or set change_detection = "auto".'
    return [limited(NAME, says, means, mend)]
