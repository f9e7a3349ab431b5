"""The rules of the books, whatever they are written on.

Each rule is a function of values. `Books` carries them out on a shelf: in memory, or in a
database in which each block under `Shelf.writing` is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from zerokernel.broker.ledger.port import DAY, Beat, Entry, Usage, Window
from zerokernel.broker.scheduling.quota import cost

BEAT = 1000
"""Milliseconds between two heartbeats: what a lost lease may have run since the last."""
RECOVERED = "recovered"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Record:
    """A lease as it is kept.

    Attributes:
        entry: What the books show of it.
        window: When the quota window opened that it counts in; None where it was never reserved.
        opened_at: When it was reserved, None where it was not.
        last_held: How long its slice had been held at the last heartbeat.
    """

    entry: Entry
    window: float | None = None
    opened_at: float | None = None
    last_held: int = 0


@dataclass(frozen=True)
class Account:
    """A user's sums, of all leases ever and of those in the last quota window.

    Attributes:
        window: When that window opened, None before the first reservation.
    """

    usage: Usage
    window: float | None = None
    window_charged: int = 0
    window_reserved: int = 0


def empty_account(user: str) -> Account:
    """The account of somebody who never had a lease."""
    return Account(Usage(user, 0, 0, 0, 0))


def is_current(window: float | None, now: float, length: float) -> bool:
    """Whether a window that opened then has not reset yet.

    A clock that was set back a little does not open a new one. One that opened a whole
    window ahead of now was opened by a clock that was wrong, and must not stay for ever.
    """
    return window is not None and -length < now - window < length


def reserved(
    account: Account, new: Entry, now: float, length: float, opens_window: bool = False
) -> tuple[Account, Record]:
    """Enters a new lease, in the window that is open or in a new one."""
    if opens_window or not is_current(account.window, now, length):
        account = replace(account, window=now, window_charged=0, window_reserved=0)
    entry = replace(new, open=True)
    record = Record(entry, account.window, now)
    return moved(account, None, record), record


def extended(record: Record, amount: int) -> Record:
    """Lets the reservation grow."""
    entry = record.entry
    return replace(record, entry=replace(entry, reserved=max(entry.reserved, amount)))


def settled(record: Record, amount: int, held: int, cause: str) -> Record:
    """Replaces the reservation by what was used."""
    entry = replace(record.entry, reserved=0, charged=amount, held=held, open=False, cause=cause)
    return replace(record, entry=entry)


def refunded(record: Record) -> Record:
    """Takes back what the lease costs."""
    entry = record.entry
    entry = replace(entry, reserved=0, charged=0, open=False, refunded=True)
    return replace(record, entry=replace(entry, cause=entry.cause or "refunded"))


def recovered(record: Record) -> Record:
    """Settles a lease that nobody can account for by what its last heartbeat said."""
    entry = record.entry
    ran = min(entry.ran + BEAT, entry.reserved) if entry.ran else 0
    held = record.last_held + BEAT if record.last_held else 0
    return settled(record, ran, held, RECOVERED)


def moved(account: Account, before: Record | None, after: Record) -> Account:
    """Gives the account after one of its leases changed."""
    old, new = before.entry if before is not None else None, after.entry
    more_reserved = new.reserved - (old.reserved if old is not None else 0)
    more_charged = new.charged - (old.charged if old is not None else 0)
    usage = Usage(
        account.usage.user,
        account.usage.leases + (old is None),
        account.usage.reserved + more_reserved,
        account.usage.charged + more_charged,
        account.usage.held + new.held - (old.held if old is not None else 0),
    )
    if after.window is None or after.window != account.window:
        return replace(account, usage=usage)  # of a window that is over
    return replace(
        account,
        usage=usage,
        window_charged=account.window_charged + _more(old, new, "charged"),
        window_reserved=account.window_reserved + _more(old, new, "reserved"),
    )


def _more(old: Entry | None, new: Entry, which: str) -> int:
    before = cost(getattr(old, which), old.weight) if old is not None else 0
    return cost(getattr(new, which), new.weight) - before


class Pages(Protocol):
    """What can be read, and written as one: all of it or nothing."""

    def account(self, user: str) -> Account:
        """Gives a user's account, an empty one for a stranger."""

    def record(self, user: str, lease: str) -> Record | None:
        """Gives a lease."""

    def open_records(self, leases: Collection[str] | None = None) -> list[Record]:
        """Gives the leases that are not settled, oldest first; all, or those of ``leases``."""

    def recent(self, user: str) -> list[Record]:
        """Gives a user's last leases, newest first."""

    def save(self, account: Account, records: Iterable[Record]) -> None:
        """Writes an account and some of its leases, known or new."""

    def beat(self, running: Mapping[str, Beat]) -> None:
        """Notes heartbeats of open leases; one that is behind the last changes nothing."""


class Shelf(Protocol):
    """Where the pages are kept."""

    def write(self, change: Callable[[Pages], None], durable: bool = True) -> None:
        """Makes a change; ``durable`` means that it is on the disk when this returns.

        A change that is made again changes nothing: it may be, where nobody can tell whether
        it was written.
        """

    def read(self, look: Callable[[Pages], _T]) -> _T:
        """Gives what is seen in the pages."""

    def flush_soon(self) -> None:
        """Begins to put on the disk what was written; does not wait for it."""

    def close(self) -> None:
        """Lets go of files."""


class Books:
    """A `Ledger` on a shelf.

    Every change reads before it writes, so that one that is made again changes nothing.

    Args:
        shelf: Where it is written.
        window_seconds: How long a quota window lasts.
        durable_grants: Whether a reservation is on the disk when `reserve` returns, not some
            milliseconds later.
    """

    def __init__(
        self, shelf: Shelf, window_seconds: float = DAY, durable_grants: bool = False
    ) -> None:
        self._shelf = shelf
        self._length = window_seconds
        self._durable_grants = durable_grants

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._shelf!r}>"

    def reserve(
        self,
        user: str,
        lease: str,
        amount: int,
        now: float,
        weight: int = 1000,
        opens_window: bool = False,
    ) -> None:
        """Sets ``amount`` aside for a lease."""
        new = Entry(user, lease, amount, 0, 0, open=True, weight=weight)

        def change(pages: Pages) -> None:
            if pages.record(user, lease) is None:
                account, record = reserved(
                    pages.account(user), new, now, self._length, opens_window
                )
                pages.save(account, [record])

        # On its owner's machine nobody waits for a disk: a loss of power that comes before it
        # takes with it a lease that ran for some milliseconds.
        self._shelf.write(change, durable=self._durable_grants)
        if not self._durable_grants:
            self._shelf.flush_soon()

    def extend(self, lease: str, amount: int) -> None:
        """Lets the reservation of an open lease grow to ``amount``."""

        def change(pages: Pages) -> None:
            for before in pages.open_records({lease}):
                self._change(pages, before, extended(before, amount))

        self._shelf.write(change)

    def settle(
        self, user: str, lease: str, amount: int, held: int, cause: str = "finished"
    ) -> None:
        """Replaces the reservation by what was used."""

        def change(pages: Pages) -> None:
            before = pages.record(user, lease)
            known = before or Record(Entry(user, lease, 0, 0, 0, open=True))
            if known.entry.open:
                self._change(pages, before, settled(known, amount, held, cause))

        # A loss of power may forget it: then the lease is open and its heartbeat counts. The
        # next grant puts it on the disk as well.
        self._shelf.write(change, durable=False)

    def refund(self, user: str, lease: str) -> None:
        """Takes back what a lease was charged or has reserved. Raises KeyError."""

        def change(pages: Pages) -> None:
            before = pages.record(user, lease)
            if before is None:
                raise KeyError(lease)
            self._change(pages, before, refunded(before))

        self._shelf.write(change)

    def heartbeat(self, running: Mapping[str, Beat]) -> None:
        """Notes how far each open lease is."""
        if running:
            self._shelf.write(lambda pages: pages.beat(running), durable=False)

    def recover(self, except_for: Container[str] = ()) -> list[Entry]:
        """Settles what an earlier broker left open."""
        found: dict[tuple[str, str], Entry] = {}  # kept if it is written and the answer is lost

        def change(pages: Pages) -> None:
            for user, lost in by_user(pages.open_records(), except_for).items():
                account, after = pages.account(user), [recovered(before) for before in lost]
                for old, new in zip(lost, after, strict=True):
                    account = moved(account, old, new)
                    found[user, new.entry.lease] = new.entry
                pages.save(account, after)

        self._shelf.write(change)
        return list(found.values())

    def open_leases(self) -> list[Entry]:
        """Gives the leases that are not settled, oldest first."""
        return [record.entry for record in self._shelf.read(lambda pages: pages.open_records())]

    def window(self, user: str, now: float) -> Window | None:
        """Gives the quota window that is open."""
        account = self._shelf.read(lambda pages: pages.account(user))
        opened = account.window
        if opened is None or not is_current(opened, now, self._length):
            return None
        sums = account.window_charged, account.window_reserved
        return Window(opened, opened + self._length, *sums)

    def usage(self, user: str) -> Usage:
        """Gives the user's sums."""
        return self._shelf.read(lambda pages: pages.account(user)).usage

    def recent(self, user: str) -> list[Entry]:
        """Gives the user's last leases, newest first."""
        return [record.entry for record in self._shelf.read(lambda pages: pages.recent(user))]

    def catch_up(self) -> None:
        """Nothing waits: what cannot be written is refused."""

    def close(self) -> None:
        """Lets go of files."""
        self._shelf.close()

    @staticmethod
    def _change(pages: Pages, before: Record | None, after: Record) -> None:
        account = pages.account(after.entry.user)
        pages.save(moved(account, before, after), [after])


def by_user(records: Iterable[Record], except_for: Container[str]) -> dict[str, list[Record]]:
    """Gives the records of each user, in their order, without some leases."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.entry.lease not in except_for:
            found.setdefault(record.entry.user, []).append(record)
    return found
