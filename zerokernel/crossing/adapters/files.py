"""Open files: opened again by their path, in the same mode and at the same position.

Both sides then have a handle of the same file. What was written is in the file when the other
side goes on: handles are flushed whenever they travel, and positions come home like any change.
"""

from __future__ import annotations

import functools
import gc
import io
import os
import stat
import sys
from typing import Any

from zerokernel.crossing.adapters.adapter import Adapter
from zerokernel.crossing.restorer import Restorer
from zerokernel.errors import CannotTravel

_REMEDY = "open it inside the cell"


def path_of(descriptor: int) -> str:
    """The absolute path under which a descriptor's regular file can be opened again.

    Raises:
        CannotTravel: It is no regular file, or has no name any more.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise CannotTravel(f"is a file that is not on a disk (a pipe, a device); {_REMEDY}")
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    try:
        found = os.stat(path)
    except OSError:
        found = None
    if found is None or not os.path.samestat(found, status):
        raise CannotTravel(f"is a file that has no name any more; {_REMEDY}")
    return path


def open_again(
    name: Any, path: str, mode: str, buffering: int, text: dict[str, Any], position: int
) -> Any:
    """A handle of a file that exists: nothing is created or truncated, whatever the mode."""

    def opener(_name: Any, flags: int) -> int:
        return os.open(path, flags & ~(os.O_TRUNC | os.O_CREAT | os.O_EXCL))

    shown = name if isinstance(name, str | bytes) else path
    made: Any = open(shown, mode, buffering, opener=opener, **text)  # noqa: SIM115 - for the user
    made.seek(position)
    return made


def closed_file() -> Any:
    """A handle that was closed."""
    made = open(os.devnull)  # noqa: SIM115 - closed right away
    made.close()
    return made


def _binary(item: Any, in_worker: bool) -> Any:
    if item.closed:
        raise CannotTravel(f"is a closed file; {_REMEDY}")
    raw = item if isinstance(item, io.FileIO) else item.raw
    if not isinstance(raw, io.FileIO):
        raise CannotTravel(f"is a stream over a {type(raw).__name__}; {_REMEDY}")
    path = path_of(raw.fileno())
    position = _position(item)
    buffering = 0 if raw is item else -1
    return (open_again, (raw.name, path, raw.mode, buffering, {}, position))


def _text(item: Any, in_worker: bool) -> Any:
    standard = _standard_name(item)
    if standard is not None:
        return (getattr, (sys, standard))
    if item.closed or type(item) is not io.TextIOWrapper:
        kind = "closed file" if item.closed else type(item).__name__
        raise CannotTravel(f"is a {kind}; {_REMEDY}")
    raw = getattr(item.buffer, "raw", None)
    if not isinstance(raw, io.FileIO) or not _newline_is_found():
        raise CannotTravel(f"is a text stream over a {type(item.buffer).__name__}; {_REMEDY}")
    path = path_of(raw.fileno())
    position = _position(item)
    text = {"encoding": item.encoding, "errors": item.errors, "newline": _newline(item)}
    buffering = 1 if item.line_buffering else -1
    mode = getattr(item, "mode", None) or raw.mode.replace("b", "")
    return (open_again, (raw.name, path, mode, buffering, text, position))


def _position(item: Any) -> int:
    try:
        if not item.writable():
            return int(item.tell())
        item.flush()
        position = int(item.tell())
        if item.readable():
            _forget_read_ahead(item, position)
        return position
    except OSError as error:
        raise CannotTravel(f"is a file that tells no position ({error}); {_REMEDY}") from error


def _forget_read_ahead(item: Any, position: int) -> None:
    """The other side may write what was read ahead; only a seek from the end lets go of it."""
    item.seek(0, os.SEEK_END)
    item.seek(position)


def _newline(item: Any) -> str | None:
    """The ``newline`` with which a text file was opened, which only its references tell."""
    item.seek(item.tell())  # lets go of text that was read ahead
    strings = [found for found in gc.get_referents(item) if isinstance(found, str)]
    # The encoding, the newline unless it is None, the treatment of errors.
    return strings[1] if len(strings) > len(("encoding", "errors")) else None


@functools.cache
def _newline_is_found() -> bool:
    """Whether this Python tells it, tried with a file for each value."""
    for newline in (None, "", "\n", "\r", "\r\n"):
        with open(__file__, newline=newline) as file:
            file.readline()
            if _newline(file) != newline:
                return False
    return True


def _state(item: Any) -> int | None:
    """The position; None where it is closed, and -1 where it is that of a standard stream.

    Raises:
        CannotTravel: It tells no position.
    """
    if item.closed:
        return None
    return -1 if _standard_name(item) else _position(item)


def _put(item: Any, position: int | None) -> None:
    if position is None:
        item.close()
    elif position >= 0 and not item.closed:
        _forget_read_ahead(item, position)


def _standard_name(item: Any) -> str | None:
    names = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
    return next((name for name in names if getattr(sys, name) is item), None)


_BINARY = Adapter(_binary)
_FILE = Restorer(_state, _put)

ADAPTERS: dict[str, Adapter] = {
    "_io.TextIOWrapper": Adapter(_text, subclasses=True),
    "_io.BufferedReader": _BINARY,
    "_io.BufferedWriter": _BINARY,
    "_io.BufferedRandom": _BINARY,
    "_io.FileIO": _BINARY,
}

RESTORERS: dict[str, Restorer] = dict.fromkeys(ADAPTERS, _FILE)
