"""Streams that are not files: those of the notebook, closed ones in memory, writers over others."""

from __future__ import annotations

import gc
import io
import sys
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.parts import ATOM
from zerokernel.errors import CannotTravel


def _notebook_stream(item: Any, in_worker: bool) -> Any:
    """``sys.stdout`` of one side is ``sys.stdout`` of the other."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        if getattr(sys, name) is item:
            return (getattr, (sys, name))
    raise CannotTravel("is an output stream of the notebook that is not sys.stdout or sys.stderr")


def _in_memory(item: Any, in_worker: bool) -> Any:
    """A closed one has no content any more, and pickle refuses it."""
    if not item.closed:
        return NotImplemented
    return (closed_stream, (type(item),))


def closed_stream(kind: Any) -> Any:
    """A stream in memory that was closed."""
    made: io.IOBase = kind()
    made.close()
    return made


_DIALECT = (
    *("delimiter", "doublequote", "escapechar", "lineterminator"),
    *("quotechar", "quoting", "skipinitialspace", "strict"),
)


def _csv_writer(item: Any, in_worker: bool) -> Any:
    """A csv writer has no state but the file under it, which it refers to by its ``write``."""
    methods = [found for found in gc.get_referents(item) if hasattr(found, "__self__")]
    files = [method.__self__ for method in methods if method.__name__ == "write"]
    if len(files) != 1:
        raise CannotTravel("is a csv writer over something that is no file; make it in the cell")
    return (csv_writer, (files[0], {name: getattr(item.dialect, name) for name in _DIALECT}))


def csv_writer(file: Any, dialect: dict[str, Any]) -> Any:
    """A csv writer over a file."""
    import csv

    return csv.writer(file, **dialect)


ADAPTERS: dict[str, Adapter] = {
    "ipykernel.iostream.OutStream": Adapter(_notebook_stream, plan=ATOM, subclasses=True),
    "_io.BytesIO": Adapter(_in_memory),
    "_io.StringIO": Adapter(_in_memory),
    "_csv.writer": Adapter(_csv_writer),
    "_csv.Writer": Adapter(_csv_writer),
}
