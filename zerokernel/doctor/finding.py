"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "limited", "bad"]


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        name: Of what was looked at.
        state: "good"; "limited" where zerokernel works, but not as well as it could; "bad"
            where cells will fail.
        says: What was found, in one line.
        means: What follows from it for cells; "" where it is good.
        mend: What to do about it; "" where it is good or nothing can be done.
    """

    name: str
    state: State
    says: str
    means: str = ""
    mend: str = ""


def good(name: str, says: str) -> Finding:
    """All is well."""
    return Finding(name, "good", says)


def limited(name: str, says: str, means: str, mend: str = "") -> Finding:
    """It works, with a shortcoming."""
    return Finding(name, "limited", says, means, mend)


def bad(name: str, says: str, means: str, mend: str) -> Finding:
    """Cells will fail."""
    return Finding(name, "bad", says, means, mend)
