"""One SQLite file, opened by one broker: private, durable, on this host."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from sqlalchemy import Engine, StaticPool, create_engine, event

from zerokernel.broker.ledger.filesystem import require_local
from zerokernel.errors import LedgerUnavailable

_LOCK_BYTES = range(0x40000000, 0x40000200)
"""Where SQLite locks a file, whatever its size (sqlite3 os.h, PENDING_BYTE)."""


def open_file(path: Path, busy_seconds: float) -> tuple[Engine, sqlite3.Connection]:
    """Opens the file for this process alone; makes it where there is none.

    Raises:
        LedgerUnavailable: It is on a shared file system, held by another broker, not ours,
            or no database.
    """
    require_local(path)
    try:
        _make_private(path)
        raw = sqlite3.connect(
            path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(f"The ledger {path} cannot be opened: {error}.") from error
    try:
        _prepare(raw)
    except sqlite3.Error as error:
        raw.close()
        raise unavailable(path, error) from error
    return _engine(raw), raw


def unavailable(path: Path, error: Exception) -> LedgerUnavailable:
    """Says what an error of the database means, and what to do."""
    text = str(getattr(error, "orig", None) or error)
    if "locked" in text:
        return LedgerUnavailable(f"Another broker holds the ledger {path}{_holder(path)}.")
    if "full" in text:
        return LedgerUnavailable(
            f"The ledger {path} cannot be written: its disk is full. Nothing was written; make "
            "room, and it goes on."
        )
    if "malformed" in text or "not a database" in text:
        return LedgerUnavailable(
            f"The ledger {path} is damaged ({text}). Stop the broker, move the file away to "
            "begin new books, and keep it: most of it can be read by `sqlite3 FILE .recover`."
        )
    return LedgerUnavailable(f"The ledger {path} cannot be read or written: {text}.")


def _make_private(path: Path) -> None:
    """Makes an empty file of mode 0600, or checks the one that is there.

    By its path only: closing a descriptor of a file drops all locks that the process has on it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError("it is a link, no file, or another user's") from None
        path.chmod(0o600)


def _prepare(raw: sqlite3.Connection) -> None:
    # Exclusive before the first access: then no memory is shared with other processes, and
    # the lock is held from here to the end.
    raw.execute("PRAGMA locking_mode=EXCLUSIVE")
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA journal_size_limit=4194304")
    raw.execute("BEGIN EXCLUSIVE")
    raw.execute("COMMIT")


def _engine(raw: sqlite3.Connection) -> Engine:
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    # The driver begins a transaction by itself only before some statements: say when.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _holder(path: Path) -> str:
    """Names the process that has the file's lock, and what to do about it."""
    advice = "end it with `zerokernel stop`, or name another file in the setting ledger_path"
    pid = _locked_by(path)
    return f" (process {pid}); {advice}" if pid else f"; {advice}"


def _locked_by(path: Path) -> int:
    """Gives the process that the kernel lists as the lock's owner, 0 where it lists none."""
    try:
        status = path.stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return 0
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for words in map(str.split, lines):
        ours = len(words) == 8 and words[1] == "POSIX" and words[5] == file
        if ours and int(words[6]) in _LOCK_BYTES:
            return max(0, int(words[4]))
    return 0
