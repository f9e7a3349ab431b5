"""File systems: the runtime directory, the ledger, the home, shared memory."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from zerokernel.broker.ledger.choice import has_sql, ledger_file
from zerokernel.broker.ledger.filesystem import is_memory, kind, nearest, shared_kind
from zerokernel.doctor.finding import Finding, bad, good, limited
from zerokernel.settings import Settings

_TIGHT = 256 << 20
_FULL = 1 << 20
_SHARED_MEMORY = 1 << 30


@dataclass(frozen=True)
class Place:
    """A directory, or a file's.

    Attributes:
        path: As configured; it need not exist.
        kind: Its file system.
        shared: Whether other hosts may share that.
        memory: Whether it is gone when the machine starts anew.
        writable: Whether this user may write there.
        problem: What else is wrong with it: another user's, open to others.
        free: Bytes.
    """

    path: str
    kind: str = "ext4"
    shared: bool = False
    memory: bool = False
    writable: bool = True
    problem: str = ""
    free: int = 1 << 40


@dataclass(frozen=True)
class PlaceFacts:
    """All places.

    Attributes:
        ledger: None where the books are kept in memory, as wanted.
        ledger_wanted: The setting `ledger`.
        has_sql: Whether the extra `broker` is installed.
        shared_memory: Size of /dev/shm in bytes, None where there is none.
        server: The setting `ledger_url`, "" where the books are on no server.
    """

    runtime: Place
    ledger: Place | None
    ledger_wanted: str
    has_sql: bool
    home: Place
    shared_memory: int | None
    server: str = ""


def look(settings: Settings) -> PlaceFacts:
    """Asks each file system; makes and changes nothing."""
    on_disk = settings.ledger != "memory" and not settings.ledger_url
    ledger = None if not on_disk else _look_at(ledger_file(settings))
    shm = Path("/dev/shm")
    return PlaceFacts(
        _look_at(settings.runtime_directory, private=True),
        ledger,
        settings.ledger,
        has_sql(),
        _look_at(Path.home()),
        shutil.disk_usage(shm).total if shm.is_dir() else None,
        settings.ledger_url if settings.ledger != "memory" else "",
    )


def judge(facts: PlaceFacts) -> list[Finding]:
    """One finding for each place."""
    return [
        _runtime(facts.runtime),
        _ledger(facts),
        _home(facts.home),
        _shared_memory(facts.shared_memory),
    ]


def _runtime(place: Place) -> Finding:
    name, says = "runtime directory", _told(place)
    elsewhere = "Set ZEROKERNEL_RUNTIME_DIRECTORY to a directory of yours on a disk of this host."
    if place.problem:
        return bad(name, f"{place.path} {place.problem}", "No broker can start.", elsewhere)
    if place.shared:
        return bad(name, says, "Sockets and locks do not work there.", elsewhere)
    if not place.writable:
        return bad(name, says, "No broker can start.", elsewhere)
    if place.free < _FULL:
        return bad(name, says, "Logs and sockets cannot be made.", "Make room.")
    return good(name, says)


def _ledger(facts: PlaceFacts) -> Finding:
    name, place = "ledger", facts.ledger
    lost = "The books end with the broker: nothing is known of earlier use."
    if facts.server:
        return good(name, f"at {facts.server}; whether it lets this user in was not tried")
    if place is None:
        return good(name, "in memory, as the setting ledger wants")
    if not facts.has_sql:
        mend = "pip install 'zerokernel[broker]'"
        if facts.ledger_wanted == "sql":
            return bad(name, "its database is not installed", "No broker can start.", mend)
        return limited(name, "in memory: its database is not installed", lost, mend)
    trouble = place.problem or place.shared or not place.writable or place.free < _FULL
    says = f"{place.path} {place.problem}" if place.problem else _told(place)
    if trouble and facts.ledger_wanted == "sql":
        mend = "Set ledger_path to a file on a disk of this host that has room."
        return bad(name, says, "No broker can start, or none can grant leases.", mend)
    if trouble:
        mend = "Set ledger_path to a file on a disk of this host that has room."
        return limited(name, says, lost, mend)
    if place.memory:
        mend = "Set ledger_path to a file on a disk."
        return limited(name, says, "The books end when the machine starts anew.", mend)
    if place.free < _TIGHT:
        means = "When it is full, changes wait in memory and are lost if the broker is killed."
        return limited(name, says, means, "Make room.")
    return good(name, says)


def _home(place: Place) -> Finding:
    if not place.shared:
        return good("home", _told(place))
    return good("home", f"{_told(place)}; only configuration is read from there")


def _shared_memory(size: int | None) -> Finding:
    name = "shared memory"
    if size is not None and size >= _SHARED_MEMORY:
        return good(name, f"/dev/shm of {_size(size)}")
    says = "no /dev/shm" if size is None else f"/dev/shm of {_size(size)}"
    return limited(
        name,
        says,
        "Cells whose libraries share memory (worker processes of torch's DataLoader) run out of "
        "it. What crosses between notebook and worker is not affected.",
        "In a container, start it with more: --shm-size=8g.",
    )


def _told(place: Place) -> str:
    words = [place.path, "on", place.kind]
    words += ["(other hosts may share it)"] * place.shared
    words += [f"with {_size(place.free)} free"]
    words += ["and not writable"] * (not place.writable)
    return " ".join(words)


def _look_at(path: Path, private: bool = False) -> Place:
    try:
        there = nearest(path)
        free = os.statvfs(there)
        return Place(
            str(path),
            kind(path),
            shared_kind(path) is not None,
            is_memory(path),
            _is_writable(there, path),
            _problem(path) if private else "",
            free.f_bavail * free.f_frsize,
        )
    except OSError as error:
        return Place(str(path), "unknown", problem=f"cannot be read: {error.strerror}")


def _is_writable(there: Path, path: Path) -> bool:
    """Whether a file at the path can be written, made, or made with its directories."""
    needed = os.W_OK | (os.X_OK if there.is_dir() else 0)
    return os.access(there, needed) and (there == path or there.is_dir())


def _problem(path: Path) -> str:
    """What the broker refuses about a runtime directory, "" where it is fine or not there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return ""
    if not stat.S_ISDIR(status.st_mode):
        return "is a link or no directory"
    if status.st_uid != os.getuid():
        return "belongs to another user"
    return "is open to other users" if stat.S_IMODE(status.st_mode) & 0o077 else ""


def _size(number: int) -> str:
    """Gives bytes in the unit that suits them."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number // 1024} KiB"
