"""The rules of what is lost hold together, and the page shows them as they are."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from zerokernel import errors
from zerokernel.lifecycle import (
    FAILURES,
    RULES,
    Cause,
    Failure,
    Fate,
    Outcome,
    Party,
    Phase,
    outcome,
    rule_of,
)
from zerokernel.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "life-cycle.md"
CASES = [(party, failure, phase) for party, failure in FAILURES for phase in Phase]
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_has_a_rule_with_an_error_that_says_what_is_left(cause):
    """No cause is without a rule, and each error says that nothing was changed."""
    kind = getattr(errors, RULES[cause].error)
    assert issubclass(kind, errors.ZeroKernelError)
    assert "Nothing was changed" in str(kind())


def test_a_remark_behind_a_cause_changes_no_rule():
    """Messages say "cause: remark"; a word that is no cause counts as an exit."""
    assert rule_of("device lost: it fell off the bus") is RULES[Cause.DEVICE_LOST]
    assert rule_of("deadline") is RULES[Cause.DEADLINE]
    assert rule_of("struck by lightning") is RULES[Cause.EXITED]


def test_the_five_ends_have_five_messages():
    """Killed, out of memory, deadline, broker lost, device lost: each has its own."""
    causes = (
        Cause.KILLED,
        Cause.OUT_OF_MEMORY,
        Cause.DEADLINE,
        Cause.BROKER_LOST,
        Cause.DEVICE_LOST,
    )
    kinds = {getattr(errors, RULES[cause].error) for cause in causes}
    assert len({str(kind()) for kind in kinds}) == 5


@pytest.mark.parametrize(("party", "failure", "phase"), CASES)
def test_each_outcome_is_consistent(party, failure, phase):
    """What did not run is not charged, what ran is not run again, and only losses have errors."""
    rule = outcome(party, failure, phase)
    assert not rule.charged or phase.ran or failure is Failure.HANGS
    assert not (rule.fate is Fate.AGAIN and (phase.ran or rule.charged))
    assert bool(rule.error) is (rule.fate is Fate.LOST)
    assert rule.fate is not Fate.LOST or RULES[rule.cause].error == rule.error
    assert rule.cause is None or rule.fate is not Fate.APPLIED
    assert (rule.fate is Fate.GONE) <= (party in (Party.KERNEL, Party.MACHINE))
    assert rule.actor is not party or party is Party.KERNEL
    if isinstance(rule.within, str):
        assert rule.within in {*DEFAULTS, "limit", "next start"}


# --- the page -------------------------------------------------------------------------------

HEAD = """\
| who | phase | who acts, within | charged | what becomes of the cell | you read |
|---|---|---|---|---|---|"""


def table() -> str:
    """The table as the page must have it; phases with one outcome share a line."""
    lines = [HEAD]
    for party, failure in FAILURES:
        ways = [(columns(outcome(party, failure, phase)), phase) for phase in Phase]
        who = f"**{party} {failure}**"
        for text, group in itertools.groupby(ways, key=lambda way: way[0]):
            lines.append(f"| {who} | {span([str(phase) for _, phase in group])} | {text} |")
            who = ""
    return "\n".join(lines)


def span(phases: list[str]) -> str:
    every = list(Phase)
    if len(phases) == len(every):
        return "any"
    if len(phases) <= 2:
        return ", ".join(phases)
    return f"{phases[0]} … {phases[-1]}"


def columns(rule: Outcome) -> str:
    error = f"`{rule.error}`" if rule.error else "none"
    charged = "what it ran" if rule.charged else "nothing"
    if rule.fate is Fate.APPLIED:
        charged = "as ever"
    return f"{acting(rule)} | {charged} | {rule.fate} | {error}"


def acting(rule: Outcome) -> str:
    if rule.actor is None:
        return "nobody needs to"
    match rule.within:
        case "limit":
            when = "at the cell's limit"
        case "next start":
            when = "at its next start"
        case str(name):
            when = f"`{name}` ({DEFAULTS[name]:g} s)"
        case seconds:
            when = f"{seconds:g} s"
    return f"{rule.actor}, {when}"


def test_the_page_shows_the_rules_as_they_are():
    """docs/life-cycle.md holds exactly the table that the code decides by."""
    assert table() in PAGE.read_text(encoding="utf-8"), f"it should be:\n{table()}"


def test_the_page_tells_the_messages_that_users_read():
    """Each of the five messages, and what GpuDeadline is, stands on the page word for word."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for cause in (Cause.KILLED, Cause.OUT_OF_MEMORY, Cause.DEADLINE, Cause.BROKER_LOST):
        kind = getattr(errors, RULES[cause].error)
        assert f"`{kind.__name__}`" in text
        assert str(kind()).replace("`", "") in text.replace("`", "")
    assert "`DeviceLost`" in text
    assert "`GpuDeadline`" in text
