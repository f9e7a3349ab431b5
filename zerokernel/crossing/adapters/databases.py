"""Connections to files of data: SQLite and HDF5, made again by the path of the file."""

from __future__ import annotations

import operator
import os
import sqlite3
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import ATOM
from zerokernel.crossing.restorer import Restorer
from zerokernel.errors import CannotTravel

_REMEDY = "open it inside the cell"
_PRAGMAS = ("busy_timeout", "foreign_keys", "recursive_triggers")
_PROBE = "ZEROKERNEL_PROBE"


def _connection(item: Any, in_worker: bool) -> Any:
    state = _connection_state(item)
    if state is None:
        raise CannotTravel(f"is a closed database connection; {_REMEDY}")
    places = _rows(item, "PRAGMA database_list")
    if len(places) != 1 or not places[0][2]:
        raise CannotTravel(f"is a database in memory, or has others attached; {_REMEDY}")
    if _own_functions(item):
        raise CannotTravel(
            f"is a database connection with functions of its own {_own_functions(item)}; {_REMEDY}"
        )
    return (connect, (places[0][2], _detected_types(item)), state, None, None, put_connection)


def connect(path: str, detect_types: int) -> sqlite3.Connection:
    """A connection to a database that exists."""
    if not os.path.exists(path):
        raise sqlite3.OperationalError(f"the database {path} is gone")
    return sqlite3.connect(path, detect_types=detect_types, check_same_thread=False)


def _connection_state(item: Any) -> Any:
    """Its settings; None where it is closed.

    Raises:
        CannotTravel: It has changes that were not committed, which are seen by it alone.
    """
    try:
        pending = item.in_transaction
        item.total_changes  # noqa: B018 - raises where the connection is closed
    except sqlite3.ProgrammingError:
        return None
    if pending:
        raise CannotTravel("is a database connection with uncommitted changes; commit() them first")
    pragmas = [_rows(item, f"PRAGMA {name}")[0][0] for name in _PRAGMAS]
    return (item.isolation_level, item.row_factory, item.text_factory, pragmas)


def put_connection(item: Any, state: Any) -> None:
    """Gives a connection its settings."""
    if state is None:
        item.close()
        return
    item.isolation_level, item.row_factory, item.text_factory, pragmas = state
    for name, value in zip(_PRAGMAS, pragmas, strict=True):
        _rows(item, f"PRAGMA {name} = {int(value)}")


def _rows(item: Any, statement: str) -> list[Any]:
    cursor = item.cursor()
    cursor.row_factory = None
    return list(cursor.execute(statement))


def _own_functions(item: Any) -> list[str]:
    """What was added to a connection in Python and cannot be asked for: functions, collations."""
    fresh = sqlite3.connect(":memory:")
    try:
        return sorted(_extras(item) - _extras(fresh))
    finally:
        fresh.close()


def _extras(item: Any) -> set[str]:
    functions = {str(row[0]) for row in _rows(item, "PRAGMA function_list")}
    return functions | {str(row[1]) for row in _rows(item, "PRAGMA collation_list")}


def _detected_types(item: Any) -> int:
    """The ``detect_types`` of a connection, which only its behaviour tells."""
    sqlite3.converters[_PROBE] = lambda data: _PROBE
    try:
        _rows(item, "SAVEPOINT zerokernel_probe")
        try:
            _rows(item, f"CREATE TEMP TABLE zerokernel_probe (a {_PROBE})")
            _rows(item, "INSERT INTO zerokernel_probe VALUES ('x')")
            by_column = _rows(item, "SELECT a FROM zerokernel_probe")[0][0] == _PROBE
            by_name = _rows(item, f"SELECT 'x' AS \"a [{_PROBE}]\"")[0][0] == _PROBE
        finally:
            _rows(item, "ROLLBACK TO zerokernel_probe")
            _rows(item, "RELEASE zerokernel_probe")
    finally:
        del sqlite3.converters[_PROBE]
    columns = sqlite3.PARSE_DECLTYPES if by_column else 0
    return columns | (sqlite3.PARSE_COLNAMES if by_name else 0)


def _hdf_file(item: Any, in_worker: bool) -> Any:
    """Only one that is read: two processes that write one file would destroy it."""
    if not item:
        raise CannotTravel(f"is a closed HDF5 file; {_REMEDY}")
    if item.mode != "r" or item.driver in ("core", "fileobj"):
        raise CannotTravel(
            "is an HDF5 file open for writing; close it, and open it inside the cell"
        )
    return (type(item), (os.path.abspath(item.filename), "r"))


def _hdf_member(item: Any, in_worker: bool) -> Any:
    if not item or item.name is None:
        raise CannotTravel(f"is of a closed HDF5 file, or has no name in it; {_REMEDY}")
    return (operator.getitem, (item.file, item.name))


def _close_hdf(item: Any, is_open: bool) -> None:
    if not is_open:
        item.close()


ADAPTERS: dict[str, Adapter] = {
    "sqlite3.Connection": Adapter(_connection),
    "h5py._hl.files.File": Adapter(_hdf_file),
    "h5py._hl.group.Group": Adapter(_hdf_member, plan=ATOM),
    "h5py._hl.dataset.Dataset": Adapter(_hdf_member, plan=ATOM),
}

RESTORERS: dict[str, Restorer] = {
    "sqlite3.Connection": Restorer(_connection_state, put_connection),
    "h5py._hl.files.File": Restorer(bool, _close_hdf),
}
