"""The statements of the books, in SQLAlchemy Core; each database carries them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Table, bindparam, literal_column, select, update

from zerokernel.broker.ledger.tables import accounts, leases

_RECENT: Any = literal_column("1000")

FIND_ACCOUNT = select(accounts).where(accounts.c.user_name == bindparam("user"))
FIND_LEASE = select(leases).where(
    leases.c.user_name == bindparam("user"), leases.c.lease == bindparam("lease_id")
)
ALL_OPEN = select(leases).where(leases.c.is_open).order_by(leases.c.number)
RECENT_OF = (
    select(leases)
    .where(leases.c.user_name == bindparam("user"))
    .order_by(leases.c.number.desc())
    .limit(_RECENT)
)
BEAT = (
    update(leases)
    .where(leases.c.lease == bindparam("lease_id"), leases.c.is_open)
    .where(leases.c.ran <= bindparam("beat_ran"), leases.c.last_held <= bindparam("beat_held"))
    .values(ran=bindparam("beat_ran"), last_held=bindparam("beat_held"))
)


def save_lease(insert: Callable[[Table], Any]) -> Any:
    """Gives the statement that writes a lease, known or new.

    Args:
        insert: The dialect's own, which knows `ON CONFLICT`.
    """
    return _upsert(insert(leases), leases, "user_name", "lease")


def save_account(insert: Callable[[Table], Any]) -> Any:
    """Gives the statement that writes an account, likewise."""
    return _upsert(insert(accounts), accounts, "user_name")


def _upsert(new: Any, table: Table, *key: str) -> Any:
    changed = [column.name for column in table.c if column.name not in ("number", *key)]
    return new.inline().on_conflict_do_update(
        index_elements=[table.c[name] for name in key],
        set_={name: new.excluded[name] for name in changed},
    )
