"""Which ledger a broker has, and where its file lies."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from zerokernel import settings as configuration
from zerokernel.broker.ledger.filesystem import shared_kind
from zerokernel.broker.ledger.memory import MemoryLedger
from zerokernel.broker.ledger.patient import PatientLedger
from zerokernel.broker.ledger.port import DAY, Ledger
from zerokernel.errors import LedgerUnavailable
from zerokernel.settings import Settings

if TYPE_CHECKING:
    from zerokernel.broker.ledger.sql import SqlLedger

log = logging.getLogger("zerokernel.broker")

_BUSY_SECONDS = 5.0
"""How long a broker waits for its predecessor to let go of the file."""
_SERVER_BUSY_SECONDS = 12.0
"""The same on a server, which takes 10 s to notice one that was lost without a word."""


def make_ledger(
    settings: Settings, durable_grants: bool = False, window_seconds: float = DAY
) -> Ledger:
    """Gives the ledger that the settings want; "auto" takes what can be had.

    Args:
        settings: What is wanted. A server that is named is an order, as "sql" is.
        durable_grants: Whether a grant waits for the disk, also in a file, and is not made
            where nothing can be written. On a server it waits in any case.
        window_seconds: How long a quota window lasts.

    Raises:
        LedgerUnavailable: The setting wants "sql" or a server, and what that needs is not
            installed, or the file or the server cannot be used.
    """
    if settings.ledger == "memory":
        return MemoryLedger(window_seconds=window_seconds)
    if settings.ledger_url:
        return PatientLedger(_open_server(settings, window_seconds), durable_grants)
    if settings.ledger == "auto" and not has_sql():
        return MemoryLedger()
    try:
        opened = _open_sql(ledger_file(settings), durable_grants, window_seconds)
        return PatientLedger(opened, durable_grants)
    except LedgerUnavailable as error:
        if settings.ledger == "sql":
            raise
        # Nothing is limited by an embedded broker's books: cells run all the same.
        log.warning("%s What is used now is counted in memory only.", error)
        return MemoryLedger()


def has_sql() -> bool:
    """Whether the extra `broker` is installed."""
    return all(importlib.util.find_spec(name) for name in ("sqlalchemy", "alembic"))


def ledger_file(settings: Settings) -> Path:
    """Gives the ledger's file: the setting's, else one of this person, host and broker.

    A broker with a runtime directory of its own has books of its own, in it. Otherwise they
    lie in the state directory, which outlives the session, unless that is on a network home.
    """
    if settings.ledger_path:
        return Path(settings.ledger_path)
    state = configuration.state_directory(settings)
    if state is None or _is_shared(state):
        return settings.runtime_directory / "ledger.sqlite"
    return state / f"ledger-{host_key()}.sqlite"


def host_key() -> str:
    """Gives a name for this host that no other has which may share a home with it."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    name = os.uname().nodename
    return hashlib.sha256(f"{machine} {name}".encode()).hexdigest()[:16]


def _is_shared(path: Path) -> bool:
    try:
        return shared_kind(path) is not None
    except OSError:
        return True


def _open_sql(path: Path, durable_grants: bool, window_seconds: float) -> Ledger:
    return _sql()(
        path,
        busy_seconds=_BUSY_SECONDS,
        durable_grants=durable_grants,
        window_seconds=window_seconds,
    )


def _open_server(settings: Settings, window_seconds: float) -> Ledger:
    named = settings.ledger_password_file
    password_file = Path(named).expanduser() if named else None
    return _sql()(
        settings.ledger_url,
        busy_seconds=_SERVER_BUSY_SECONDS,
        password_file=password_file,
        window_seconds=window_seconds,
    )


def _sql() -> type[SqlLedger]:
    try:
        from zerokernel.broker.ledger.sql import SqlLedger
    except ImportError as error:
        raise LedgerUnavailable(
            f"The ledger `sql` needs `pip install 'zerokernel[broker]'` ({error})."
        ) from error
    return SqlLedger
