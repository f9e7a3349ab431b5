"""How zerokernel notices what a cell wrote into arrays and tensors."""

from __future__ import annotations

from dataclasses import dataclass

from zerokernel.doctor import page_tracking
from zerokernel.doctor.finding import Finding, good
from zerokernel.settings import Settings


@dataclass(frozen=True)
class WriteFacts:
    """Why each way of the kernel does not work, "" where its self-test was right."""

    userfaultfd: str
    soft_dirty: str


def look(settings: Settings) -> WriteFacts:
    """Runs the self-tests."""
    return WriteFacts(page_tracking.userfaultfd_works(), page_tracking.soft_dirty_works())


def judge(facts: WriteFacts) -> list[Finding]:
    """Always good: content is compared, which needs nothing of the machine."""
    offered = [
        f"{name}: {'it could (self-test right)' if not why else f'no ({why})'}"
        for name, why in (
            ("userfaultfd with PAGEMAP_SCAN", facts.userfaultfd),
            ("soft-dirty bits", facts.soft_dirty),
        )
    ]
    says = "by hashing contents. Page tracking is not used by this version; " + ", ".join(offered)
    return [good("write tracking", says)]
