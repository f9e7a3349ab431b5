"""Brings a database to the tables that this version knows, by the migrations it ships."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from zerokernel.broker.ledger.tables import accounts, metadata
from zerokernel.errors import LedgerUnavailable

REVISIONS = ("0001", "0002")
"""All migrations, oldest first. Known here so that a start without any needs no Alembic."""

_VERSION_TABLE = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)
"""


def bring_up_to_date(connection: Connection, name: str, setting: str) -> None:
    """Makes the tables, or runs the migrations that the database has not seen.

    All in the transaction that the connection is in.

    Args:
        connection: To the database.
        name: What to call it in an error.
        setting: Which setting names it.

    Raises:
        LedgerUnavailable: A newer zerokernel made it, or something else did.
    """
    revision = current(connection)
    if revision == REVISIONS[-1]:
        return
    if revision is None:
        _make(connection, name, setting)
    elif not inspect(connection).has_table(accounts.name):
        raise _something_else(name, setting)  # that has its migrations by Alembic too
    elif revision in REVISIONS:
        migrate(connection)
    else:
        raise LedgerUnavailable(
            f"The ledger {name} is of a newer version of zerokernel (its tables are of revision "
            f"{revision!r}, this one knows up to {REVISIONS[-1]!r}). Install that version again, "
            f"or name another database in the setting {setting}."
        )


def current(connection: Connection) -> str | None:
    """Gives the last migration that the database has seen, None where it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def _make(connection: Connection, name: str, setting: str) -> None:
    """Makes at once what all migrations would: loading Alembic takes half a second."""
    if inspect(connection).get_table_names():
        raise _something_else(name, setting)
    metadata.create_all(connection)
    connection.execute(text(_VERSION_TABLE))
    row = {"revision": REVISIONS[-1]}
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), row)


def _something_else(name: str, setting: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"{name} is a database of something else. Name another one in the setting {setting}."
    )


def migrate(connection: Connection) -> None:
    """Runs the migrations that the database has not seen, from the first where it is empty."""
    from alembic import command
    from alembic.config import Config

    # Alembic takes "%" for the start of a variable.
    scripts = str(Path(__file__).parent / "migrations").replace("%", "%%")
    configuration = Config()
    configuration.set_main_option("script_location", scripts)
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "head")
