"""Between the rows of the tables and the values of the books."""

from __future__ import annotations

from typing import Any

from zerokernel.broker.ledger.books import Account, Record
from zerokernel.broker.ledger.port import Entry, Usage


def account_of(row: Any) -> Account:
    """Gives the account that a row of `accounts` is."""
    usage = Usage(row.user_name, row.leases, row.reserved, row.charged, row.held)
    return Account(usage, row.window_at, row.window_charged, row.window_reserved)


def account_row(account: Account) -> dict[str, Any]:
    """Gives the columns of an account."""
    usage = account.usage
    return {
        "user_name": usage.user,
        "leases": usage.leases,
        "reserved": usage.reserved,
        "charged": usage.charged,
        "held": usage.held,
        "window_at": account.window,
        "window_charged": account.window_charged,
        "window_reserved": account.window_reserved,
    }


def record_of(row: Any) -> Record:
    """Gives the record that a row of `leases` is."""
    entry = Entry(
        row.user_name,
        row.lease,
        row.reserved,
        row.charged,
        row.held,
        open=row.is_open,
        cause=row.cause,
        refunded=row.refunded,
        ran=row.ran,
        weight=row.weight,
    )
    return Record(entry, row.window_at, row.opened_at, row.last_held)


def lease_row(record: Record) -> dict[str, Any]:
    """Gives the columns of a lease, but for its number."""
    entry = record.entry
    return {
        "user_name": entry.user,
        "lease": entry.lease,
        "reserved": entry.reserved,
        "charged": entry.charged,
        "held": entry.held,
        "is_open": entry.open,
        "cause": entry.cause,
        "refunded": entry.refunded,
        "ran": entry.ran,
        "weight": entry.weight,
        "last_held": record.last_held,
        "opened_at": record.opened_at,
        "window_at": record.window,
    }
