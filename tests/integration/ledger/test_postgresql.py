"""The ledger on a real PostgreSQL server, which is killed, frozen and started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, inspect

from tests.integration.ledger.test_sql import SETTLER, lines_until_killed
from tests.kernels import wait_until
from tests.postgres import PASSWORD, Postgres
from zerokernel.broker.ledger import Beat, MemoryLedger, PatientLedger, make_ledger
from zerokernel.broker.ledger.books import Books
from zerokernel.broker.ledger.postgresql.address import address_of
from zerokernel.broker.ledger.postgresql.shelf import PostgresShelf
from zerokernel.broker.ledger.schema import REVISIONS, migrate
from zerokernel.broker.ledger.sql import SqlLedger
from zerokernel.errors import LedgerUnavailable
from zerokernel.settings import Settings

NOON = 1_800_000_000.0


@pytest.fixture
def url(postgres: Postgres) -> str:
    """Of a schema without tables."""
    return postgres.new_schema()


@pytest.fixture
def ledger(url: str, no_open_descriptors: None) -> Iterator[SqlLedger]:
    """One that is closed, also if it lost its connections."""
    with closing(SqlLedger(url, busy_seconds=0.05)) as made:
        yield made


def session_of(ledger: Books) -> Any:
    shelf = ledger._shelf
    assert isinstance(shelf, PostgresShelf)
    return shelf._session


def cut_off(postgres: Postgres) -> None:
    """The server ends all connections to the books, a broker's two among them."""
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'books'"
    )


# --- whose it is --------------------------------------------------------------------------


@contextmanager
def settling(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the ledger and books without end; killed on the way out."""
    with subprocess.Popen(
        [sys.executable, str(SETTLER), url, "x"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_second_broker_is_refused_and_takes_over_when_the_first_is_killed(url: str) -> None:
    """The error names the process and its machine; killed, it leaves the ledger at once."""
    host = os.uname().nodename[:30]
    with settling(url) as first:
        with pytest.raises(LedgerUnavailable, match=rf"{host}, process {first.pid};.*stop"):
            SqlLedger(url, busy_seconds=0.1)
        assert first.stdout is not None
        assert first.stdout.readline()
        first.kill()
    second = SqlLedger(url, busy_seconds=5)
    assert second.recover()
    assert not second.open_leases()
    second.close()


def test_each_schema_has_books_and_a_lock_of_its_own(ledger: SqlLedger, postgres: Postgres) -> None:
    """Two brokers may share one database."""
    with closing(SqlLedger(postgres.new_schema(), busy_seconds=0.05)) as other:
        ledger.settle("ada", "l1", 1, 1)
        assert other.usage("ada").leases == 0


def test_a_broker_that_is_silent_loses_the_ledger(url: str) -> None:
    """As one whose machine went while its connection lingers; if it comes back, it is told."""
    address = address_of(url)
    shelf = PostgresShelf(address, 0.05, silence=0.4)
    silent = Books(shelf)
    silent.reserve("ada", "l1", 1_000, NOON)
    shelf._thread.close()  # from here it says nothing
    second = SqlLedger(url, busy_seconds=10)
    with pytest.raises(LedgerUnavailable, match="Another broker holds"):
        silent.settle("ada", "l1", 5, 5)
    assert [entry.charged for entry in second.recover()] == [0]
    second.close()
    shelf._beside()  # what the thread would do
    silent.settle("ada", "l1", 5, 5)
    assert silent.usage("ada").charged == 0  # it was settled by the other
    silent.close()


def works(call: Any) -> bool:
    try:
        call()
    except LedgerUnavailable:
        return False
    return True


def test_a_broker_that_has_nothing_to_do_keeps_the_ledger(url: str) -> None:
    """It says something before the server ends its session."""
    idle = Books(PostgresShelf(address_of(url), 0.05, silence=0.4))
    backend = session_of(idle).backend
    with pytest.raises(LedgerUnavailable, match="Another broker"):
        SqlLedger(url, busy_seconds=1.0)
    idle.reserve("ada", "l1", 1_000, NOON)
    assert session_of(idle).backend == backend
    idle.close()


def test_a_connection_that_lingers_does_not_keep_its_own_broker_out(ledger: SqlLedger) -> None:
    """Lost on the broker's side alone: the server is told to end it."""
    raw = session_of(ledger).raw
    one, other = socket.socketpair()
    lingering = os.dup(raw.fileno())
    os.dup2(one.fileno(), raw.fileno())
    one.close()
    other.close()
    wait_until(lambda: works(lambda: ledger.reserve("ada", "l1", 5, NOON)), "another session")
    assert ledger.usage("ada").leases == 1
    assert session_of(ledger).raw is not raw
    os.close(lingering)


# --- killed -------------------------------------------------------------------------------


def test_a_kill_of_the_broker_loses_nothing_that_was_told(url: str) -> None:
    """Killed at random, again and again: what was printed is in the books, and nothing twice."""
    told: dict[str, set[str]] = {"reserved": set(), "settled": set(), "refunded": set()}
    dice = random.Random()
    for run in range(2):
        for what, lease in lines_until_killed(url, f"run{run}", dice.randrange(5, 80)):
            told[what].add(lease)
        with closing(SqlLedger(url)) as ledger:
            entries = {entry.lease: entry for entry in ledger.recent("ada")}
            assert told["reserved"] <= entries.keys()
            assert len(entries.keys() - told["reserved"]) <= 2  # written, and killed before
            for lease in told["settled"]:
                assert entries[lease].held == 11
                assert entries[lease].charged == (0 if entries[lease].refunded else 7)
            assert all(entries[lease].refunded for lease in told["refunded"])
            check_sums(ledger)


def check_sums(ledger: Books) -> None:
    entries, sums = ledger.recent("ada"), ledger.usage("ada")
    assert len({entry.lease for entry in entries}) == len(entries) == sums.leases
    assert sums.charged == sum(entry.charged for entry in entries)
    assert sums.reserved == sum(entry.reserved for entry in entries)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_starts_again_is_found_again(
    postgres: Postgres, ledger: SqlLedger, number: signal.Signals
) -> None:
    """Ended or killed, and with all of the books: also what was settled a moment before."""
    ledger.reserve("ada", "l1", 1_000, NOON)
    ledger.reserve("ada", "l2", 1_000, NOON)
    ledger.reserve("ada", "l3", 1_000, NOON)
    ledger.settle("ada", "l1", 10, 20)
    ledger.settle("ada", "l2", 30, 40)
    postgres.stop(number)
    postgres.start()
    wait_until(lambda: works(lambda: ledger.settle("ada", "l3", 5, 5)), "another connection")
    assert [entry.charged for entry in ledger.recent("ada")] == [5, 30, 10]


def test_a_connection_that_was_lost_unseen_is_made_anew(
    postgres: Postgres, ledger: SqlLedger
) -> None:
    """The next call does not fail, whichever of the two connections it needs."""
    ledger.reserve("ada", "l1", 1_000, NOON)
    for lease in ("l2", "l3"):
        cut_off(postgres)
        ledger.settle("ada", lease, 10, 20)
        postgres.execute(
            f"SELECT pg_terminate_backend({session_of(ledger).flush.raw.info.backend_pid})"
        )
        ledger.extend("l1", 2_000)
    assert (ledger.usage("ada").charged, ledger.usage("ada").reserved) == (20, 2_000)


def test_while_the_server_is_away_calls_say_so(postgres: Postgres, ledger: SqlLedger) -> None:
    """Each at once and without a password; then they go on as if nothing had been."""
    ledger.reserve("ada", "l1", 1_000, NOON)
    postgres.stop()
    try:
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match=r"keeper@/books.*cannot be reached"):
                ledger.reserve("ada", "l2", 1_000, NOON)
    finally:
        postgres.start()
    wait_until(lambda: works(lambda: ledger.reserve("ada", "l3", 7, NOON)), "another connection")
    assert [entry.lease for entry in ledger.recent("ada")] == ["l3", "l1"]


def test_a_patient_ledger_outwaits_a_server(postgres: Postgres, ledger: SqlLedger) -> None:
    """What could not be written is written in order when it is back, once."""
    patient = PatientLedger(ledger)
    patient.reserve("ada", "l1", 1_000, NOON)
    postgres.stop(signal.SIGKILL)
    try:
        patient.settle("ada", "l1", 10, 20)
        patient.reserve("ada", "l2", 5, NOON)
        assert patient.unwritten == 2
    finally:
        postgres.start()
    wait_until(lambda: works(patient.catch_up), "another connection")
    assert [(e.lease, e.charged) for e in ledger.recent("ada")] == [("l2", 0), ("l1", 10)]


def test_what_cannot_be_written_again_is_not_forgotten(
    postgres: Postgres, ledger: SqlLedger
) -> None:
    """Before it is, the ledger takes nothing else."""
    shelf, tries = ledger._shelf, []

    def change(pages: Any) -> None:
        tries.append(pages)
        if len(tries) == 1:
            raise LedgerUnavailable("its disk is full")

    assert isinstance(shelf, PostgresShelf)
    shelf._thread.close()
    shelf._unflushed.add(change)
    cut_off(postgres)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="full"):
            ledger.settle("ada", "l1", 1, 1)
    shelf._beside()  # what the thread would do
    ledger.settle("ada", "l1", 1, 1)
    assert len(tries) == 2
    assert ledger.usage("ada").charged == 1


def test_a_server_killed_under_load_keeps_what_was_acknowledged(
    postgres: Postgres, ledger: SqlLedger
) -> None:
    """From four threads, as its connections are cut and as it is killed and started again."""
    reserved: set[str] = set()
    settled: set[str] = set()
    done = threading.Event()

    def book(name: str) -> None:
        for number in range(1_000_000):
            if done.is_set():
                return
            lease = f"{name}-{number}"
            if works(lambda lease=lease: ledger.reserve("ada", lease, 100, NOON)):
                reserved.add(lease)
            if works(lambda lease=lease: ledger.settle("ada", lease, 7, 11)):
                settled.add(lease)

    with ThreadPoolExecutor(4) as threads:
        booking = [threads.submit(book, f"t{n}") for n in range(4)]
        try:
            for disturb in (cut_off, killed) * 2:
                before = len(settled)
                wait_until(lambda before=before: len(settled) > before + 20, "some leases")
                disturb(postgres)
        finally:
            done.set()
    for one in booking:
        one.result()
    wait_until(lambda: works(lambda: ledger.usage("ada")), "another connection")
    rows = postgres.execute(f"SELECT lease, charged FROM {schema_of(ledger)}.leases", "books")
    assert len(rows) == len({lease for lease, _ in rows}) == ledger.usage("ada").leases
    assert reserved | settled <= {lease for lease, _ in rows}
    assert settled <= {lease for lease, charged in rows if charged == 7}
    assert ledger.usage("ada").charged == sum(charged for _, charged in rows)


def killed(postgres: Postgres) -> None:
    postgres.stop(signal.SIGKILL)
    postgres.start()


def schema_of(ledger: Books) -> str:
    return str(session_of(ledger).raw.execute("SELECT current_schema()").fetchone()[0])


def test_a_server_that_stands_still_is_not_waited_for(postgres: Postgres, url: str) -> None:
    """The call has an error soon; when the server goes on, so do the books."""
    ledger = Books(PostgresShelf(address_of(url), 0.05, answer=0.4), durable_grants=True)
    ledger.reserve("ada", "l1", 1_000, NOON)
    postgres.freeze()
    try:
        with pytest.raises(LedgerUnavailable, match="cannot be reached"):
            ledger.settle("ada", "l1", 10, 20)
    finally:
        postgres.thaw()
    wait_until(lambda: works(lambda: ledger.settle("ada", "l1", 10, 20)), "another connection", 20)
    assert ledger.usage("ada").charged == 10
    ledger.close()


# --- on the disk --------------------------------------------------------------------------


class Counting:
    """A connection that counts what it is asked to do, and can fail at it."""

    def __init__(self, raw: psycopg.Connection) -> None:
        self._raw = raw
        self.calls = 0
        self.fails = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def execute(self, statement: str) -> None:
        self.calls += 1
        if self.fails >= self.calls:
            raise psycopg.OperationalError("the connection is lost, it pretends")
        self._raw.execute(statement)


def test_who_waits_together_waits_for_one_flush(ledger: SqlLedger) -> None:
    """Eight grants that come while the disk is busy are on it after one more turn."""
    flush = session_of(ledger).flush
    flush.raw = counting = Counting(flush.raw)
    with ThreadPoolExecutor(8) as threads:
        with flush._turn:
            calls = [threads.submit(ledger.reserve, "ada", f"l{n}", 5, NOON) for n in range(8)]
            wait_until(lambda: flush._asked == 8, "all to wait")
            assert not any(call.done() for call in calls)
        for call in calls:
            call.result()
    assert counting.calls == 1
    assert ledger.usage("ada").leases == 8


def test_metering_does_not_wait_for_the_disk(ledger: SqlLedger) -> None:
    """Settling is on it with the next grant; extensions and refunds wait, as grants do."""
    ledger.reserve("ada", "l1", 5, NOON)
    flush = session_of(ledger).flush
    unflushed = ledger._shelf._unflushed  # type: ignore[attr-defined]  # PostgreSQL's alone
    with ThreadPoolExecutor(2) as threads:
        with flush._turn:  # the disk is busy
            ledger.settle("ada", "l2", 1, 1)
            ledger.heartbeat({"l1": Beat(1, 1)})
            calls = [
                threads.submit(ledger.extend, "l1", 9),
                threads.submit(ledger.refund, "ada", "l2"),
            ]
            wait_until(lambda: unflushed.written == 5, "all to be written")
            assert not any(call.done() for call in calls)
        for call in calls:
            call.result()


def test_what_was_settled_is_on_the_disk_without_another_grant(ledger: SqlLedger) -> None:
    """Some time later; until then the broker keeps it in mind."""
    unflushed = ledger._shelf._unflushed  # type: ignore[attr-defined]  # PostgreSQL's alone
    ledger.settle("ada", "l1", 1, 1)
    assert unflushed.written == 1
    wait_until(lambda: not unflushed.changes(), "the flush")


def test_a_grant_whose_flush_is_lost_is_made_again_and_counts_once(ledger: SqlLedger) -> None:
    """In another session, since the server may have been another one by then."""
    before = session_of(ledger)
    before.flush.raw = counting = Counting(before.flush.raw)
    counting.fails = 1
    ledger.reserve("ada", "l1", 5, NOON)
    assert session_of(ledger) is not before
    assert (ledger.usage("ada").leases, ledger.usage("ada").reserved) == (1, 5)


# --- who may enter ------------------------------------------------------------------------


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    return file


def test_a_password_comes_from_a_file_and_is_shown_nowhere(
    postgres: Postgres, password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither where it is right nor where it is wrong."""
    settings = Settings(
        password_file.parent,
        ledger_url=postgres.new_schema("secretive"),
        ledger_password_file=str(password_file),
    )
    with closing(make_ledger(settings)) as ledger:
        ledger.reserve("ada", "l1", 5, NOON)
        shown = f"{ledger!r} {settings!r}"
    password_file.write_text("wrong-word")
    with pytest.raises(LedgerUnavailable, match="password authentication failed") as error:
        make_ledger(settings)
    told = f"{shown} {error.value} {error.value.__cause__} {caplog.text}"
    assert PASSWORD not in told
    assert "wrong-word" not in told


def test_a_password_file_that_others_can_read_is_refused(
    postgres: Postgres, password_file: Path
) -> None:
    """As it is by PostgreSQL's own programs; a missing one is named."""
    password_file.chmod(0o640)
    with pytest.raises(LedgerUnavailable, match="chmod 600"):
        SqlLedger(postgres.url(user="secretive"), password_file=password_file)
    with pytest.raises(LedgerUnavailable, match=r"absent cannot be read: No such file"):
        SqlLedger(postgres.url(), password_file=password_file.with_name("absent"))


def test_a_user_without_rights_is_told_which(postgres: Postgres, password_file: Path) -> None:
    """Somebody else's schema, whether it may look into it or not."""
    schema = postgres.new_schema().rpartition("%3D")[2]
    for right in ("may not be used: no schema", "may not be used: permission denied"):
        with pytest.raises(LedgerUnavailable, match=right):
            SqlLedger(postgres.url(schema, "secretive"), password_file=password_file)
        postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO secretive", "books")


@pytest.mark.parametrize(
    "wrong", ["postgresql://host:port/x", "postgresql://host/x?what=1", "postgresql://u@[/x"]
)
def test_a_url_that_is_not_understood_is_not_repeated(wrong: str) -> None:
    """Parts of it might be a password that was written at the wrong place."""
    with pytest.raises(LedgerUnavailable) as error:
        SqlLedger(wrong)
    assert wrong not in str(error.value)


# --- which one a broker gets --------------------------------------------------------------


def test_a_server_that_is_named_is_an_order(tmp_path: Path) -> None:
    """Also with "auto": books in memory would be lost unseen. "memory" is one as well."""
    settings = Settings(tmp_path, ledger_url=f"postgresql://ada@/books?host={tmp_path}")
    with pytest.raises(LedgerUnavailable, match=r"ada@/books.*cannot be reached"):
        make_ledger(settings)
    memory = Settings(tmp_path, ledger="memory", ledger_url=settings.ledger_url)
    assert isinstance(make_ledger(memory), MemoryLedger)


def test_without_its_driver_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra that has it."""
    monkeypatch.setitem(sys.modules, "zerokernel.broker.ledger.postgresql.address", None)
    with pytest.raises(LedgerUnavailable, match=r"zerokernel\[postgresql\]"):
        make_ledger(Settings(tmp_path, ledger_url="postgresql://host/books"))


# --- versions -----------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_knows(postgres: Postgres) -> None:
    """A schema made at once and one migrated from the beginning are the same."""
    made, migrated = postgres.new_schema(), postgres.new_schema()
    SqlLedger(made).close()
    engine = create_engine(migrated.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    assert structure(made) == structure(migrated)
    SqlLedger(migrated).close()


def structure(url: str) -> list[Any]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        found = inspect(connection)
        tables = sorted(found.get_table_names())
        assert tables == ["accounts", "alembic_version", "leases"]
        columns = [
            (t, c["name"], str(c["type"]), c["nullable"])
            for t in tables
            for c in found.get_columns(t)
        ]
        keys = [found.get_pk_constraint(table) for table in tables]
        indexes = [sorted(map(str, found.get_indexes(table))) for table in tables]
    engine.dispose()
    return [columns, keys, indexes]


def test_newer_tables_and_something_elses_are_refused_and_left_alone(postgres: Postgres) -> None:
    """The error says which; another program's migrations are not taken for ours."""
    newer, other = postgres.new_schema(), postgres.new_schema()
    SqlLedger(newer).close()
    names = [url.rpartition("%3D")[2] for url in (newer, other)]
    postgres.execute(f"UPDATE {names[0]}.alembic_version SET version_num = '0999'", "books")
    postgres.execute(f"CREATE TABLE {names[1]}.alembic_version (version_num TEXT)", "books")
    postgres.execute(f"INSERT INTO {names[1]}.alembic_version VALUES ('4621fec11365')", "books")
    postgres.execute(f"GRANT SELECT ON {names[1]}.alembic_version TO keeper", "books")
    with pytest.raises(LedgerUnavailable, match=rf"'0999'.*'{REVISIONS[-1]}'.*ledger_url"):
        SqlLedger(newer)
    with pytest.raises(LedgerUnavailable, match="something else"):
        SqlLedger(other)
    assert postgres.execute(f"SELECT * FROM {names[0]}.alembic_version", "books") == [("0999",)]
