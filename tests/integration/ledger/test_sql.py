"""The file of the SQL ledger: whose it is, what may happen to it, what is left of it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from tests.integration.ledger.mounts import mounted_tmpfs, mounted_unanswered_fuse
from zerokernel.broker.ledger import PatientLedger
from zerokernel.broker.ledger.filesystem import kind, nearest, shared_kind
from zerokernel.broker.ledger.schema import REVISIONS, migrate
from zerokernel.broker.ledger.sql import SqlLedger
from zerokernel.errors import LedgerUnavailable

NOON = 1_800_000_000.0
SETTLER = Path(__file__).with_name("settler.py")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books" / "ledger.sqlite"


# --- on the disk --------------------------------------------------------------------------


def test_a_reservation_is_flushed_beside_the_work(path: Path, monkeypatch) -> None:
    """Nobody waits for the disk, which has the reservation soon after all the same."""
    flushed, begin = [], threading.Event()

    def flush(descriptor: int) -> None:
        begin.wait(10)
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fdatasync", flush)
    ledger = SqlLedger(path)
    for lease in ("l1", "l2", "l3"):
        ledger.reserve("u", lease, 1000, NOON)
    assert not flushed
    begin.set()
    flusher = ledger._shelf._flusher
    assert flusher.wait(10)
    assert set(flushed) == {f"{path}-wal"}
    assert len(flushed) <= 3
    ledger.close()


def test_a_disk_that_fails_is_told(path: Path, monkeypatch, caplog) -> None:
    """A flush that fails is logged; the next one is tried all the same."""

    def flush(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    ledger = SqlLedger(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", flush)
        ledger.reserve("u", "l1", 1000, NOON)
        assert ledger._shelf._flusher.wait(10)
    assert "could not be flushed" in caplog.text
    ledger.reserve("u", "l2", 1000, NOON)
    assert ledger._shelf._flusher.wait(10)
    assert caplog.text.count("could not be flushed") == 1
    ledger.close()


# --- killed -------------------------------------------------------------------------------


def test_a_kill_loses_nothing_that_was_told(path: Path) -> None:
    """Killed at random, again and again: what was printed is in the books, and nothing twice."""
    told: dict[str, set[str]] = {"reserved": set(), "settled": set(), "refunded": set()}
    dice = random.Random()
    for run in range(6):
        for what, lease in lines_until_killed(path, f"run{run}", dice.randrange(5, 120)):
            told[what].add(lease)
        check_books(path, told)


def lines_until_killed(path: Path, run: str, after: int) -> list[tuple[str, str]]:
    """Lets a process book and kills it once it has printed so many lines."""
    with subprocess.Popen(
        [sys.executable, str(SETTLER), str(path), run], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(after)]
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(what, lease) for what, lease in whole]


def check_books(path: Path, told: dict[str, set[str]]) -> None:
    ledger = SqlLedger(path)
    rows = rows_of(ledger)
    assert len(rows) == len({row["lease"] for row in rows})
    by_lease = {row["lease"]: row for row in rows}
    assert told["reserved"] <= by_lease.keys()
    assert len(by_lease.keys() - told["reserved"]) <= 6  # written and killed before it was told
    for lease in told["settled"]:
        assert by_lease[lease]["held"] == 11
        assert by_lease[lease]["charged"] == (0 if by_lease[lease]["refunded"] else 7)
    assert all(by_lease[lease]["refunded"] for lease in told["refunded"])
    sums = ledger.usage("ada")
    assert (sums.leases, sums.charged) == (len(rows), sum(row["charged"] for row in rows))
    assert sums.reserved == 60_000 * sum(row["is_open"] for row in rows)
    ledger.close()


def rows_of(ledger: SqlLedger) -> list[dict[str, object]]:
    """All rows, read past the ledger's own code by its connection: nobody else may read."""
    raw: sqlite3.Connection = ledger._shelf._raw  # type: ignore[attr-defined]  # SQL's alone
    cursor = raw.execute("SELECT * FROM leases ORDER BY number")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


# --- whose it is --------------------------------------------------------------------------


def test_a_second_broker_is_told_who_holds_the_file(path: Path) -> None:
    """It has an error that names the process and what to do; the first goes on."""
    with subprocess.Popen(
        [sys.executable, str(SETTLER), str(path), "x"], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(LedgerUnavailable, match=rf"process {first.pid}\).*zerokernel stop"):
            SqlLedger(path, busy_seconds=0.05)
        assert first.stdout.readline()
        first.kill()
    SqlLedger(path).close()


def test_a_broker_waits_for_one_that_is_just_ending(path: Path) -> None:
    """A successor that starts before its predecessor has let go gets the file."""
    with subprocess.Popen(
        [sys.executable, str(SETTLER), str(path), "x"], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {first.pid}"])
        SqlLedger(path, busy_seconds=20).close()
        assert first.wait(10) == -9  # and not before it was gone: it never ends by itself
        killer.wait(10)


def test_the_files_are_their_owners_alone(path: Path) -> None:
    """Directory 0700, files 0600 whatever the umask; an open file is closed to others."""
    before = os.umask(0)
    try:
        ledger = SqlLedger(path)
        ledger.reserve("ada", "l1", 1, NOON)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {"ledger.sqlite": 0o600, "ledger.sqlite-wal": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        ledger.close()
        path.chmod(0o644)
        SqlLedger(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    """Somebody else's link cannot make the broker write elsewhere."""
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerUnavailable, match="link"):
        SqlLedger(path)
    assert not (tmp_path / "elsewhere").exists()


def test_another_kind_of_database_is_refused() -> None:
    """A URL that this version cannot serve is named as such."""
    for where in ("mysql://host/books", "sqlite://", "what://"):
        with pytest.raises(LedgerUnavailable, match="ledger"):
            SqlLedger(where)


# --- versions -----------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    """A database made at once and one migrated from the beginning are the same."""
    made, migrated = tmp_path / "made.sqlite", tmp_path / "migrated.sqlite"
    SqlLedger(made).close()
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    assert structure(made) == structure(migrated)
    SqlLedger(migrated).close()


def structure(path: Path) -> dict[str, str]:
    """The statements that made everything in it, and the version that it says it is."""
    raw = sqlite3.connect(path)
    made = raw.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    version = raw.execute("SELECT version_num FROM alembic_version").fetchall()
    raw.close()
    return {"version": str(version), **{name: " ".join(sql.split()) for name, sql in made}}


def test_the_list_of_revisions_is_that_of_the_scripts() -> None:
    """A migration that was added and not listed would never run."""
    from alembic.script import ScriptDirectory

    from zerokernel.broker.ledger import schema

    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert tuple(reversed([s.revision for s in scripts.walk_revisions()])) == REVISIONS


def test_a_newer_versions_database_is_refused_and_left_alone(path: Path) -> None:
    """The error says which, and the file is as it was."""
    SqlLedger(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0999'")
    raw.close()
    with pytest.raises(LedgerUnavailable, match=r"newer version of zerokernel.*'0999'"):
        SqlLedger(path)
    again = sqlite3.connect(path)
    assert again.execute("SELECT version_num FROM alembic_version").fetchall() == [("0999",)]
    again.close()


def test_a_database_of_something_else_is_refused(path: Path) -> None:
    """Nothing is written into another program's file."""
    path.parent.mkdir()
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE recipes (name TEXT)")
    raw.close()
    with pytest.raises(LedgerUnavailable, match="something else"):
        SqlLedger(path)


# --- what may happen to a disk ------------------------------------------------------------


def test_a_full_disk_writes_nothing_by_halves(tmp_path: Path) -> None:
    """The error says so, the books are as before, and they go on once there is room."""
    with mounted_tmpfs(tmp_path, 1 << 20) as disk:
        ledger = SqlLedger(disk / "ledger.sqlite")
        ledger.reserve("ada", "before", 60_000, NOON)
        ballast = fill(disk)
        done = reserve_until_full(ledger)
        assert ledger.usage("ada").leases == 1 + done
        with pytest.raises(LedgerUnavailable, match="disk is full"):
            ledger.settle("ada", "before", 10, 20)
        assert ledger.usage("ada").reserved == 60_000 + done
        ballast.unlink()
        ledger.settle("ada", "before", 10, 20)
        assert ledger.usage("ada").charged == 10
        ledger.close()
        again = SqlLedger(disk / "ledger.sqlite")
        assert again.usage("ada").leases == 1 + done
        again.close()


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    assert shutil.disk_usage(disk).free == 0
    return ballast


def reserve_until_full(ledger: SqlLedger) -> int:
    """Gives how many more leases found room."""
    for number in range(10_000):
        try:
            ledger.reserve("ada", f"l{number}", 1, NOON)
        except LedgerUnavailable:
            return number
    raise AssertionError("the disk did not get full")


def test_a_patient_ledger_outwaits_a_full_disk(tmp_path: Path) -> None:
    """Changes are kept in order and written when there is room; none is lost, none is doubled."""
    with mounted_tmpfs(tmp_path, 1 << 20) as disk:
        inner = SqlLedger(disk / "ledger.sqlite")
        ledger = PatientLedger(inner)
        ballast = fill(disk)
        room = reserve_until_full(inner)
        ledger.reserve("bob", "a", 60_000, NOON)
        ledger.settle("bob", "a", 10, 20)
        ledger.extend("a", 1)
        ledger.reserve("bob", "b", 5, NOON)
        ledger.heartbeat({})
        assert ledger.unwritten == 4
        assert ledger.usage("ada").leases == room
        ballast.unlink()
        ledger.reserve("bob", "c", 6, NOON)
        assert ledger.unwritten == 0
        assert [e.lease for e in ledger.recent("bob")] == ["c", "b", "a"]
        assert (ledger.usage("bob").charged, ledger.usage("bob").reserved) == (10, 11)
        ledger.close()


def test_a_damaged_file_is_named_as_such(path: Path) -> None:
    """At the start, and where it is damaged while it is used."""
    path.parent.mkdir()
    path.write_bytes(b"this is no database at all" * 1000)
    with pytest.raises(LedgerUnavailable, match="damaged"):
        SqlLedger(path)
    path.unlink()
    ledger = SqlLedger(path)
    for number in range(300):
        ledger.settle("ada", f"l{number}", 1, 1)
    ledger.close()  # all of it from the log into the file
    body = bytearray(path.read_bytes())
    body[4096:] = bytes(len(body) - 4096)
    path.write_bytes(body)
    with pytest.raises(LedgerUnavailable, match="damaged"):
        SqlLedger(path).recent("ada")


def test_a_directory_that_cannot_be_made_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    """Not a bare OSError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailable, match="cannot be"):
        SqlLedger(tmp_path / "file" / "below" / "ledger.sqlite")


# --- where it may lie ---------------------------------------------------------------------


def test_a_disk_of_this_host_is_allowed(tmp_path: Path) -> None:
    """A path that does not exist yet is judged by its nearest parent."""
    assert shared_kind(tmp_path / "not" / "there" / "yet") is None
    assert nearest(tmp_path / "not" / "there") == tmp_path
    assert kind(Path("/dev/shm")) == "tmpfs"


def test_a_fuse_mount_is_refused(tmp_path: Path) -> None:
    """Asked of a real one: it may be sshfs, and the kernel cannot tell."""
    with mounted_unanswered_fuse(tmp_path) as place:
        assert shared_kind(place) == "FUSE"
        with pytest.raises(LedgerUnavailable, match="FUSE, which other hosts may share"):
            SqlLedger(place / "ledger.sqlite")
