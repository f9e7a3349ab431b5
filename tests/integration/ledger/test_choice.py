"""Which ledger a broker gets, and where: by settings, what is installed, and the file system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.ledger.mounts import mounted_unanswered_fuse
from zerokernel.broker.ledger import MemoryLedger, PatientLedger, choice, make_ledger
from zerokernel.broker.ledger.sql import SqlLedger
from zerokernel.errors import LedgerUnavailable
from zerokernel.settings import Settings, load


def is_sql(settings: Settings) -> bool:
    made = make_ledger(settings)
    assert isinstance(made, MemoryLedger | PatientLedger)
    made.close()
    return isinstance(made, PatientLedger)


def test_auto_takes_sql_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And memory where it is not, or where that is wanted."""
    settings = Settings(tmp_path / "rt")
    assert is_sql(settings)
    assert (tmp_path / "rt" / "ledger.sqlite").exists()
    assert not is_sql(Settings(tmp_path, ledger="memory"))
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setattr(choice, "has_sql", lambda: False)
    assert not is_sql(settings)


def test_sql_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is an order, not a wish."""
    monkeypatch.setitem(sys.modules, "zerokernel.broker.ledger.sql", None)
    with pytest.raises(LedgerUnavailable, match=r"zerokernel\[broker\]"):
        make_ledger(Settings(tmp_path, ledger="sql"))


def test_a_file_that_is_held_is_an_error_or_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error where sql is demanded; else books in memory, and the log says why."""
    holder = SqlLedger(tmp_path / "ledger.sqlite")
    monkeypatch.setattr(choice, "_BUSY_SECONDS", 0.05)
    with pytest.raises(LedgerUnavailable, match="Another broker"):
        make_ledger(Settings(tmp_path, ledger="sql"))
    assert not is_sql(Settings(tmp_path))
    assert "Another broker" in caplog.text
    assert "memory only" in caplog.text
    holder.close()


def test_the_file_lies_in_the_state_directory_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the usual runtime directory; its name tells hosts that share a home apart."""
    for name, value in {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state"}.items():
        (tmp_path / value).mkdir()
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("ZEROKERNEL_RUNTIME_DIRECTORY", raising=False)
    settings = load()
    file = choice.ledger_file(settings)
    assert file == tmp_path / "state" / "zerokernel" / f"ledger-{choice.host_key()}.sqlite"
    monkeypatch.setattr(choice.os, "uname", lambda: type("Name", (), {"nodename": "other"}))
    assert choice.ledger_file(settings) != file


def test_a_runtime_directory_of_ones_own_has_books_of_its_own(tmp_path: Path) -> None:
    """Two brokers of one person, each with its runtime directory, do not meet in one file."""
    assert choice.ledger_file(Settings(tmp_path / "a")) == tmp_path / "a" / "ledger.sqlite"
    named = Settings(tmp_path, ledger_path=str(tmp_path / "named"))
    assert choice.ledger_file(named) == tmp_path / "named"


def test_a_network_home_is_left_for_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the state directory is one that other hosts may share."""
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("ZEROKERNEL_RUNTIME_DIRECTORY", raising=False)
    with mounted_unanswered_fuse(tmp_path) as home:
        monkeypatch.setenv("XDG_STATE_HOME", str(home))
        file = choice.ledger_file(load())
    assert file == tmp_path / "run" / "zerokernel" / "ledger.sqlite"


def test_a_broker_without_it_loads_no_database() -> None:
    """Sqlalchemy is imported by the SQL ledger alone, and only when one is made."""
    code = (
        "import sys, zerokernel.broker.embedded, zerokernel.cli\n"
        "names = 'sqlalchemy', 'alembic', 'sqlite3', 'psycopg'\n"
        "print([name for name in names if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
