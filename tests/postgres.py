"""A PostgreSQL server of the tests' own: private, reached by a socket, gone with them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.kernels import unique, wait_until
from tests.leftovers import ended

PASSWORD = "p/w?@:word"
_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{directory}'
shared_buffers = '16MB'
max_connections = 30
dynamic_shared_memory_type = mmap
logging_collector = off
log_min_messages = fatal
"""
# Who knows its password is asked for it; the others are let in.
_LET_IN = "local all secretive scram-sha-256\nlocal all all trust\n"


class Postgres:
    """A server; it refuses to run as root and then is run as somebody who may do less."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._as = _unprivileged()
        # The path of a socket may have 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="zk-pg-"))
        self._data = self.directory / "data"
        self._server: psutil.Popen | None = None
        if self._as:
            shutil.chown(self.directory, *_names(self._as))
        self._run("initdb", "--no-sync", "--auth=trust", "--username=boss", "--encoding=UTF8")
        _write(self._data / "postgresql.conf", _CONFIGURATION.format(directory=self.directory))
        _write(self._data / "pg_hba.conf", _LET_IN)
        self.start()
        self.execute("CREATE ROLE keeper LOGIN")
        self.execute(f"CREATE ROLE secretive LOGIN PASSWORD '{PASSWORD}'")
        self.execute("CREATE DATABASE books OWNER keeper")
        self.execute("GRANT CREATE ON DATABASE books TO secretive")

    def url(self, schema: str = "", user: str = "keeper") -> str:
        """Where a ledger can lie, in a schema of its own."""
        options = f"&options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://{user}@/books?host={self.directory}{options}"

    def new_schema(self, user: str = "keeper") -> str:
        """Makes one and gives its URL."""
        name = unique("s").replace("-", "_").lower()
        self.execute(f"CREATE SCHEMA {name} AUTHORIZATION {user}", "books")
        return self.url(name, user)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs a statement as the server's owner."""
        where = {"host": str(self.directory), "user": "boss", "dbname": database}
        with psycopg.connect(autocommit=True, **where) as raw:
            found = raw.execute(statement)
            return found.fetchall() if found.description else []

    def start(self) -> None:
        """Starts it and waits until it serves; a killed one may leave processes for a while."""
        wait_until(self._starts, "a PostgreSQL server", 30)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends it: at once and properly, or as a crash of the machine would."""
        server = self._server
        assert server is not None
        family = [server, *server.children(recursive=True)]
        server.send_signal(number)
        server.wait(20)
        wait_until(lambda: all(map(ended, family)), "the end of the server's processes", 20)
        self._server = None

    def freeze(self) -> None:
        """Lets it stand still, connections and all."""
        self._tell_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._tell_all(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and takes away all that it had."""
        if self._server is not None:
            self.stop(signal.SIGQUIT)  # it need not tidy up
        shutil.rmtree(self.directory)

    def _tell_all(self, number: signal.Signals) -> None:
        assert self._server is not None
        for process in (self._server, *self._server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _starts(self) -> bool:
        if self._server is None or self._server.poll() is not None:
            self._server = psutil.Popen(
                [self._binaries / "postgres", "-D", self._data],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **self._as,
            )
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._binaries / program, "-D", self._data, *words],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **self._as,
        )
        assert done.returncode == 0, done.stderr


def find_binaries() -> Path | None:
    """Where `initdb` and `postgres` are; Debian has them outside of the path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


def serving() -> Iterator[Postgres]:
    """A server, as a fixture has it; the test is skipped where there is none to be had."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here; on Debian and Ubuntu: apt-get install postgresql")
    server = Postgres(binaries)
    try:
        yield server
    finally:
        server.close()


def _unprivileged() -> dict[str, Any]:
    """Words for `subprocess` that make it somebody who is not root."""
    if os.getuid() != 0:
        return {}
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _names(somebody: dict[str, Any]) -> tuple[int, int]:
    return somebody["user"], somebody["group"]


def _write(file: Path, text: str) -> None:
    with file.open("a" if file.suffix == ".conf" and "hba" not in file.name else "w") as opened:
        opened.write(text)
