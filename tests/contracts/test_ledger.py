"""What every ledger promises. Amounts are integer milliseconds."""

from __future__ import annotations

import pytest

from zerokernel.broker.ledger import Entry, Ledger, MemoryLedger, Usage


@pytest.fixture(params=[MemoryLedger], ids=["memory"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return request.param()  # type: ignore[no-any-return]


def test_a_lease_is_reserved_then_settled(ledger: Ledger) -> None:
    """The reservation is replaced by what was used."""
    ledger.reserve("ada", "l1", 60_000)
    assert ledger.usage("ada") == Usage("ada", 1, 60_000, 0, 0)
    ledger.settle("ada", "l1", 1_234, 2_000)
    assert ledger.usage("ada") == Usage("ada", 1, 0, 1_234, 2_000)


def test_every_call_is_idempotent(ledger: Ledger) -> None:
    """The first reservation and the first settlement of a lease count, repeats do not."""
    for amount in (60_000, 1):
        ledger.reserve("ada", "l1", amount)
    for amount in (100, 200):
        ledger.settle("ada", "l1", amount, 300)
    ledger.reserve("ada", "l1", 5)
    assert ledger.usage("ada") == Usage("ada", 1, 0, 100, 300)


def test_what_was_never_reserved_can_be_settled(ledger: Ledger) -> None:
    """Use is never lost for want of a reservation."""
    ledger.settle("ada", "l1", 100, 200)
    assert ledger.usage("ada").charged == 100


def test_a_refund_takes_back_charge_or_reservation(ledger: Ledger) -> None:
    """The lease stays in the books at nothing, and a late settlement does not charge it."""
    ledger.settle("ada", "l1", 100, 200)
    ledger.reserve("ada", "l2", 60_000)
    ledger.refund("ada", "l1")
    ledger.refund("ada", "l2")
    ledger.settle("ada", "l2", 50, 60)
    assert ledger.usage("ada") == Usage("ada", 2, 0, 0, 200)


def test_users_have_books_of_their_own(ledger: Ledger) -> None:
    """One's use is nobody else's; a stranger's books are empty."""
    ledger.settle("ada", "l1", 100, 200)
    ledger.settle("bob", "l1", 7, 7)
    assert ledger.usage("ada").charged == 100
    assert ledger.usage("bob").charged == 7
    assert ledger.usage("eve") == Usage("eve", 0, 0, 0, 0)


def test_the_last_leases_come_newest_first(ledger: Ledger) -> None:
    """With all their figures."""
    ledger.settle("ada", "l1", 100, 200)
    ledger.reserve("ada", "l2", 60_000)
    assert ledger.recent("ada") == [
        Entry("ada", "l2", 60_000, 0, 0, open=True),
        Entry("ada", "l1", 0, 100, 200, open=False),
    ]


def test_without_a_quota_nothing_remains_to_be_told() -> None:
    """The embedded ledger has no quota, whatever was used."""
    ledger = MemoryLedger()
    ledger.settle("ada", "l1", 10**9, 10**9)
    assert ledger.remaining("ada") is None


def test_sums_stay_right_when_old_leases_are_folded() -> None:
    """A broker that runs for weeks keeps its memory and its sums."""
    ledger = MemoryLedger(kept=3)
    ledger.reserve("ada", "open", 1_000)
    for number in range(10):
        ledger.settle("ada", f"l{number}", 10, 20)
    assert ledger.usage("ada") == Usage("ada", 11, 1_000, 100, 200)
    assert len(ledger.recent("ada")) == 3
    ledger.settle("ada", "open", 5, 5)
    assert ledger.usage("ada") == Usage("ada", 11, 0, 105, 205)
