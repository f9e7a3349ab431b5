"""Findings for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from zerokernel.doctor.finding import Finding

_MARKS = {"good": "good", "limited": "LIMITED", "bad": "BAD"}


def as_lines(findings: Sequence[Finding]) -> list[str]:
    """Gives a line for each finding, and what it means and how to mend it where it is not good."""
    width = max((len(one.name) for one in findings), default=0)
    lines = []
    for one in findings:
        head = f"{_MARKS[one.state]:<8} {one.name:<{width}}  "
        lines.append(head + one.says)
        if one.state != "good":
            indent = " " * len(head)
            lines += [f"{indent}{word}: {text}" for word, text in _explained(one) if text]
    return [*lines, "", _summary(findings)]


def as_json(findings: Sequence[Finding]) -> str:
    """Gives an object with all findings and the worst state."""
    return json.dumps(
        {"state": worst(findings), "findings": [asdict(one) for one in findings]}, indent=2
    )


def worst(findings: Sequence[Finding]) -> str:
    """Gives the worst state among them."""
    states = {one.state for one in findings}
    return next((state for state in ("bad", "limited") if state in states), "good")


def _explained(one: Finding) -> tuple[tuple[str, str], ...]:
    return ("means", one.means), ("mend", one.mend)


def _summary(findings: Sequence[Finding]) -> str:
    counts = {state: sum(one.state == state for one in findings) for state in _MARKS}
    if counts["bad"]:
        return f"{counts['bad']} bad, {counts['limited']} limited: cells will fail."
    if counts["limited"]:
        return f"{counts['limited']} limited: cells run."
    return "All is well."
