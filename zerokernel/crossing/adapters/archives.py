"""Archives, compressed files and temporary directories."""

from __future__ import annotations

import gzip
import os
import tarfile
import weakref
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.adapters.files import path_of
from zerokernel.crossing.parts import ATOM
from zerokernel.crossing.restorer import Restorer
from zerokernel.errors import CannotTravel

_READ_ONLY = "that is not open for reading alone; close it, and open it inside the cell"


def _zip(item: Any, in_worker: bool) -> Any:
    """Opened again by path. One that is written has its table of contents in memory."""
    if item.mode != "r" or item.fp is None:
        raise CannotTravel(f"is a zip file {_READ_ONLY}")
    source = item.fp if item._filePassed else path_of(item.fp.fileno())
    return (open_zip, (type(item), source, item.pwd))


def open_zip(kind: Any, source: Any, password: bytes | None) -> Any:
    """A zip file that is read."""
    made = kind(source)
    made.setpassword(password)
    return made


def _tar(item: Any, in_worker: bool) -> Any:
    stream = type(item.fileobj).__name__ == "_Stream"
    if item.mode != "r" or item.closed or item._extfileobj or stream:
        raise CannotTravel(f"is a tar file {_READ_ONLY}")
    return (tarfile.open, (os.path.abspath(item.name),))


def _gzip(item: Any, in_worker: bool) -> Any:
    if item.mode != gzip.READ or item.closed or item.myfileobj is None:
        raise CannotTravel(f"is a compressed file {_READ_ONLY}")
    return (open_gzip, (path_of(item.fileno()), item.tell()))


def open_gzip(path: str, position: int) -> Any:
    """A compressed file that is read from a position on."""
    made = gzip.open(path)  # noqa: SIM115 - for the user
    made.seek(position)
    return made


def _put_closed(item: Any, is_open: bool) -> None:
    if not is_open:
        item.close()


def _put_gzip(item: Any, position: int | None) -> None:
    if position is None:
        item.close()
    else:
        item.seek(position)


def _directory(item: Any, in_worker: bool) -> Any:
    """The directory stays that of the side that made it last: the notebook's, if it comes home."""
    finalizer = item._finalizer
    attributes = {name: value for name, value in vars(item).items() if name != "_finalizer"}
    if in_worker and finalizer.alive:
        finalizer.detach()
    return (make_directory, (type(item), attributes, in_worker))


def make_directory(kind: Any, attributes: dict[str, Any], own: bool) -> Any:
    """A temporary directory that exists.

    Args:
        kind: Its class.
        attributes: What it has.
        own: Whether it is removed when this object dies.
    """
    made: Any = object.__new__(kind)
    vars(made).update(attributes)
    made._finalizer = weakref.finalize(
        made, kind._cleanup, made.name, warn_message=f"Implicitly cleaning up {made!r}"
    )
    if not own:
        made._finalizer.detach()
    return made


def _named(item: Any, in_worker: bool) -> Any:
    raise CannotTravel("is a temporary file that vanishes when closed; use its name in the cell")


ADAPTERS: dict[str, Adapter] = {
    "zipfile.ZipFile": Adapter(_zip),
    "tarfile.TarFile": Adapter(_tar),
    "gzip.GzipFile": Adapter(_gzip),
    "tempfile.TemporaryDirectory": Adapter(_directory, plan=ATOM),
    "tempfile._TemporaryFileWrapper": Adapter(_named),
}

RESTORERS: dict[str, Restorer] = {
    "zipfile.ZipFile": Restorer(lambda item: item.fp is not None, _put_closed),
    "tarfile.TarFile": Restorer(lambda item: not item.closed, _put_closed),
    "gzip.GzipFile": Restorer(lambda item: None if item.closed else item.tell(), _put_gzip),
}
