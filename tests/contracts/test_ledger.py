"""What every ledger promises. Amounts are integer milliseconds, times seconds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerokernel.broker.ledger import Beat, Entry, Ledger, MemoryLedger, PatientLedger, Usage, Window
from zerokernel.broker.ledger.sql import SqlLedger

NOON = 1_800_000_000.0
HOUR = 3600.0


@pytest.fixture(params=["memory", "sqlite", "patient", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind; on the way out the sums are those of the entries."""
    made: Ledger
    if request.param == "memory":
        made = MemoryLedger()
    elif request.param == "sqlite":
        made = SqlLedger(tmp_path / "ledger.sqlite")
    elif request.param == "postgresql":
        made = SqlLedger(request.getfixturevalue("postgres").new_schema())
    else:
        made = PatientLedger(SqlLedger(tmp_path / "ledger.sqlite"))
    yield made
    for user in ("ada", "bob", "eve"):
        check_sums(made, user)
    made.close()


def check_sums(ledger: Ledger, user: str) -> None:
    entries = ledger.recent(user)
    sums = (
        sum(e.reserved for e in entries),
        sum(e.charged for e in entries),
        sum(e.held for e in entries),
    )
    assert ledger.usage(user) == Usage(user, len(entries), *sums)
    assert [e for e in ledger.open_leases() if e.user == user] == [
        e for e in reversed(entries) if e.open
    ]


def test_a_lease_is_reserved_then_settled(ledger: Ledger) -> None:
    """The reservation is replaced by what was used."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    assert ledger.usage("ada") == Usage("ada", 1, 60_000, 0, 0)
    ledger.settle("ada", "l1", 1_234, 2_000)
    assert ledger.usage("ada") == Usage("ada", 1, 0, 1_234, 2_000)


def test_every_call_is_idempotent(ledger: Ledger) -> None:
    """The first reservation and the first settlement of a lease count, repeats do not."""
    for amount in (60_000, 1):
        ledger.reserve("ada", "l1", amount, NOON)
    for amount in (100, 200):
        ledger.settle("ada", "l1", amount, 300)
    ledger.reserve("ada", "l1", 5, NOON)
    assert ledger.usage("ada") == Usage("ada", 1, 0, 100, 300)


def test_what_was_never_reserved_can_be_settled(ledger: Ledger) -> None:
    """Use is never lost for want of a reservation."""
    ledger.settle("ada", "l1", 100, 200)
    assert ledger.usage("ada").charged == 100


def test_a_refund_takes_back_charge_or_reservation(ledger: Ledger) -> None:
    """The lease stays in the books at nothing, and a late settlement does not charge it."""
    ledger.settle("ada", "l1", 100, 200)
    ledger.reserve("ada", "l2", 60_000, NOON)
    ledger.refund("ada", "l1")
    ledger.refund("ada", "l2")
    ledger.settle("ada", "l2", 50, 60)
    assert ledger.usage("ada") == Usage("ada", 2, 0, 0, 200)
    assert [e.refunded for e in ledger.recent("ada")] == [True, True]


def test_a_refund_of_what_is_unknown_is_refused(ledger: Ledger) -> None:
    """Nobody is given what they never had."""
    with pytest.raises(KeyError):
        ledger.refund("ada", "l1")
    assert ledger.usage("ada") == Usage("ada", 0, 0, 0, 0)


def test_users_have_books_of_their_own(ledger: Ledger) -> None:
    """One's use is nobody else's; a stranger's books are empty."""
    ledger.settle("ada", "l1", 100, 200)
    ledger.settle("bob", "l1", 7, 7)
    assert ledger.usage("ada").charged == 100
    assert ledger.usage("bob").charged == 7
    assert ledger.usage("eve") == Usage("eve", 0, 0, 0, 0)


def test_two_users_leases_of_one_name_are_two(ledger: Ledger) -> None:
    """Open at the same time, each is its own user's; a heartbeat counts for both."""
    ledger.reserve("ada", "l1", 1_000, NOON)
    ledger.reserve("bob", "l1", 2_000, NOON)
    ledger.heartbeat({"l1": Beat(10, 20)})
    ledger.settle("ada", "l1", 100, 200)
    assert ledger.usage("bob") == Usage("bob", 1, 2_000, 0, 0)
    ledger.settle("bob", "l1", 7, 7)
    assert (ledger.usage("ada").charged, ledger.usage("bob").charged) == (100, 7)
    assert [ledger.recent(user)[0].ran for user in ("ada", "bob")] == [10, 10]


def test_the_last_leases_come_newest_first(ledger: Ledger) -> None:
    """With all their figures, and with the cause of their end."""
    ledger.settle("ada", "l1", 100, 200, "killed")
    ledger.reserve("ada", "l2", 60_000, NOON)
    ledger.settle("ada", "l3", 1, 1)
    assert ledger.recent("ada") == [
        Entry("ada", "l3", 0, 1, 1, open=False, cause="finished"),
        Entry("ada", "l2", 60_000, 0, 0, open=True),
        Entry("ada", "l1", 0, 100, 200, open=False, cause="killed"),
    ]


def test_a_reservation_grows_and_never_shrinks(ledger: Ledger) -> None:
    """Only of an open lease; another's amount or an unknown lease changes nothing."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    for amount in (90_000, 30_000):
        ledger.extend("l1", amount)
    assert ledger.usage("ada").reserved == 90_000
    ledger.settle("ada", "l1", 70_000, 80_000)
    ledger.extend("l1", 120_000)
    ledger.extend("unknown", 120_000)
    assert ledger.usage("ada") == Usage("ada", 1, 0, 70_000, 80_000)


def test_leases_count_by_their_weight(ledger: Ledger) -> None:
    """In the window, rounded up; the sums of the books stay in milliseconds on a slice."""
    ledger.reserve("ada", "double", 1001, NOON, 2000)
    ledger.reserve("ada", "beyond", 5000, NOON, 0)
    ledger.reserve("ada", "odd", 1001, NOON, 1500)
    window = ledger.window("ada", NOON)
    assert window is not None
    assert (window.charged, window.reserved) == (0, 2002 + 1502)
    ledger.extend("double", 2000)
    ledger.settle("ada", "odd", 3, 10)
    ledger.settle("ada", "beyond", 4000, 4000)
    window = ledger.window("ada", NOON)
    assert window is not None
    assert (window.charged, window.reserved) == (5, 4000)
    assert ledger.usage("ada") == Usage("ada", 3, 2000, 4003, 4010)
    assert {one.lease: one.weight for one in ledger.recent("ada")} == {
        "double": 2000,
        "beyond": 0,
        "odd": 1500,
    }


def test_a_window_opens_where_it_is_said(ledger: Ledger) -> None:
    """Also where the last is not over by the books' clock; a late end counts in its own."""
    ledger.reserve("ada", "before", 1000, NOON)
    ledger.reserve("ada", "after", 2000, NOON + 10, opens_window=True)
    ledger.settle("ada", "before", 1000, 1000)
    window = ledger.window("ada", NOON + 10)
    assert window is not None
    assert (window.opened_at, window.charged, window.reserved) == (NOON + 10, 0, 2000)


# --- quota windows ------------------------------------------------------------------------


def test_a_window_opens_at_the_first_reservation(ledger: Ledger) -> None:
    """It has what was charged and reserved since, and resets a day later."""
    assert ledger.window("ada", NOON) is None
    ledger.reserve("ada", "l1", 60_000, NOON)
    ledger.reserve("ada", "l2", 5_000, NOON + HOUR)
    ledger.settle("ada", "l1", 42, 50)
    assert ledger.window("ada", NOON + 2 * HOUR) == Window(NOON, NOON + 24 * HOUR, 42, 5_000)
    ledger.refund("ada", "l1")
    ledger.extend("l2", 6_000)
    assert ledger.window("ada", NOON + 2 * HOUR) == Window(NOON, NOON + 24 * HOUR, 0, 6_000)


def test_a_window_resets_after_a_day(ledger: Ledger) -> None:
    """What was reserved before counts in the old one, also if it is settled later."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    tomorrow = NOON + 24 * HOUR
    assert ledger.window("ada", tomorrow - 0.001) is not None
    assert ledger.window("ada", tomorrow) is None
    ledger.reserve("ada", "l2", 1_000, tomorrow + HOUR)
    ledger.settle("ada", "l1", 50_000, 50_000)
    found = ledger.window("ada", tomorrow + HOUR)
    assert found == Window(tomorrow + HOUR, tomorrow + 25 * HOUR, 0, 1_000)
    assert ledger.usage("ada").charged == 50_000


def test_a_clock_set_back_opens_no_second_window(ledger: Ledger) -> None:
    """A minute back is the same window; a window of next year is a wrong clock's, and is left."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    ledger.reserve("ada", "l2", 1, NOON - 60)
    found = ledger.window("ada", NOON - 60)
    assert found is not None
    assert (found.opened_at, found.reserved) == (NOON, 60_001)
    ledger.reserve("bob", "l3", 5, NOON + 9000 * HOUR)
    ledger.reserve("bob", "l4", 7, NOON)
    assert ledger.window("bob", NOON) == Window(NOON, NOON + 24 * HOUR, 0, 7)


@pytest.fixture(params=["file", "server"])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where books can lie that outlive the process."""
    if request.param == "server":
        return str(request.getfixturevalue("postgres").new_schema())
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


def test_the_length_of_a_window_can_be_told(lasting: str) -> None:
    """By the constructor, in memory and in SQL."""
    for made in (MemoryLedger(window_seconds=60), SqlLedger(lasting, window_seconds=60)):
        made.reserve("ada", "l1", 1, NOON)
        assert made.window("ada", NOON + 59) == Window(NOON, NOON + 60, 0, 1)
        assert made.window("ada", NOON + 60) is None
        made.close()


# --- after a crash ------------------------------------------------------------------------


def test_a_lost_lease_is_charged_by_its_last_heartbeat(ledger: Ledger) -> None:
    """And a second, since it may have run until just before the next; held likewise."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    for ran in (1_000, 2_000):
        ledger.heartbeat({"l1": Beat(ran, ran + 500), "unknown": Beat(9, 9)})
    recovered = Entry("ada", "l1", 0, 3_000, 3_500, open=False, cause="recovered", ran=2_000)
    assert ledger.recover() == [recovered]
    assert ledger.recent("ada") == [recovered]
    assert ledger.recover() == []


def test_a_lost_lease_is_never_charged_more_than_it_reserved(ledger: Ledger) -> None:
    """The deadline held whatever happened to the broker; an extension counts."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    ledger.reserve("ada", "l2", 60_000, NOON)
    ledger.extend("l2", 60_500)
    ledger.heartbeat({"l1": Beat(59_900, 60_000), "l2": Beat(59_900, 60_000)})
    assert [entry.charged for entry in ledger.recover()] == [60_000, 60_500]


def test_a_lost_lease_whose_cell_had_not_begun_costs_nothing(ledger: Ledger) -> None:
    """Neither one without any heartbeat nor one that still waited for its worker."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    ledger.reserve("ada", "l2", 60_000, NOON)
    ledger.heartbeat({"l2": Beat(0, 700)})
    assert [(e.charged, e.held) for e in ledger.recover()] == [(0, 0), (0, 1_700)]
    assert ledger.usage("ada").reserved == 0


def test_leases_that_somebody_accounts_for_stay_open(ledger: Ledger) -> None:
    """They are listed, kept, and settled as they end."""
    for lease in ("l1", "l2", "l3"):
        ledger.reserve("ada", lease, 60_000, NOON)
    ledger.settle("ada", "l3", 5, 5)
    assert [entry.lease for entry in ledger.open_leases()] == ["l1", "l2"]
    assert [entry.lease for entry in ledger.recover(except_for={"l1"})] == ["l2"]
    ledger.settle("ada", "l1", 9, 9)
    assert ledger.usage("ada") == Usage("ada", 3, 0, 14, 14)


def test_a_heartbeat_never_goes_back_nor_opens_anything(ledger: Ledger) -> None:
    """One that is late changes nothing, and a settled lease's is not noted."""
    ledger.reserve("ada", "l1", 60_000, NOON)
    for ran in (5_000, 3_000):
        ledger.heartbeat({"l1": Beat(ran, ran)})
    ledger.heartbeat({})
    assert ledger.open_leases()[0].ran == 5_000
    ledger.settle("ada", "l1", 5_100, 5_200)
    ledger.heartbeat({"l1": Beat(50_000, 50_000)})
    assert ledger.recent("ada")[0].ran == 5_000


def test_any_order_of_calls_leaves_true_sums(ledger: Ledger) -> None:
    """Each ledger holds what the one in memory does after hundreds of random calls.

    Repeats and nonsense are among them. The fixture compares sums with entries.
    """
    dice, model = random.Random(7), MemoryLedger()
    users, names = ("ada", "bob", "eve"), [f"l{n}" for n in range(30)]
    for step in range(400):
        user, lease, amount = dice.choice(users), dice.choice(names), dice.randrange(100_000)
        lease = f"{user}-{lease}"
        for books in (ledger, model):
            match step % 5:
                case 0 | 1:
                    books.reserve(user, lease, amount, NOON + step * HOUR)
                case 2:
                    books.extend(lease, amount)
                case 3:
                    books.heartbeat({lease: Beat(amount, amount), names[0]: Beat(1, 1)})
                case _ if amount % 3:
                    books.settle(user, lease, amount, amount + 5)
                case _:
                    books.recover(except_for=names[: amount % 30])
        now = NOON + step * HOUR
        assert ledger.window(user, now) == model.window(user, now)
    for user in users:
        assert ledger.recent(user) == model.recent(user)
        check_sums(model, user)


def test_what_many_users_left_open_is_recovered_at_once(ledger: Ledger) -> None:
    """Each is settled in its own account, also where a user has several."""
    for number in range(30):
        user = ("ada", "bob", "eve")[number % 3]
        ledger.reserve(user, f"l{number}", 1_000 + number, NOON)
    ledger.heartbeat({f"l{number}": Beat(100 + number, 200) for number in range(0, 30, 2)})
    found = ledger.recover(except_for={"l4"})
    assert {e.lease for e in found} == {f"l{n}" for n in range(30) if n != 4}
    assert {e.charged for e in found} == {0} | {1_000 + n for n in range(0, 30, 2) if n != 4}
    assert [e.lease for e in ledger.open_leases()] == ["l4"]


# --- each kind's own ----------------------------------------------------------------------


def test_sums_stay_right_when_old_leases_are_dropped() -> None:
    """A broker that runs for weeks keeps its memory and its sums."""
    ledger = MemoryLedger(kept=3)
    ledger.reserve("ada", "open", 1_000, NOON)
    for number in range(10):
        ledger.settle("ada", f"l{number}", 10, 20)
    assert ledger.usage("ada") == Usage("ada", 11, 1_000, 100, 200)
    assert len(ledger.recent("ada")) == 3
    ledger.settle("ada", "open", 5, 5)
    assert ledger.usage("ada") == Usage("ada", 11, 0, 105, 205)


def test_books_in_sql_outlive_the_broker(lasting: str) -> None:
    """Closed and opened again, all is there: sums, window, open leases, heartbeats."""
    first = SqlLedger(lasting)
    first.reserve("ada", "l1", 60_000, NOON)
    first.reserve("ada", "l2", 60_000, NOON)
    first.heartbeat({"l2": Beat(1_500, 2_000)})
    first.settle("ada", "l1", 10, 20)
    before = first.recent("ada"), first.usage("ada"), first.window("ada", NOON)
    first.close()
    second = SqlLedger(lasting)
    assert (second.recent("ada"), second.usage("ada"), second.window("ada", NOON)) == before
    assert [entry.charged for entry in second.recover()] == [2_500]
    second.close()
