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
    for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        if getattr(sys, name) is item:
            return (getattr, (sys, name))
    if item.closed:
        raise CannotTravel(f"is a closed file; {_REMEDY}")
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
        if item.writable():
            item.flush()
        return int(item.tell())
    except OSError as error:
        raise CannotTravel(f"is a file that tells no position ({error}); {_REMEDY}") from error


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


def _state(item: Any) -> Any:
    """Position and what the file holds; None where it is closed.

    Raises:
        CannotTravel: It tells no position.
    """
    if item.closed:
        return None
    position = _position(item)
    if not item.writable():
        return (position, None)
    status = os.fstat(item.fileno())
    return (position, (status.st_size, status.st_mtime_ns))


def _put(item: Any, state: Any) -> None:
    if state is None:
        item.close()
    elif not item.closed:
        item.seek(0, os.SEEK_END)  # forgets what was read ahead, which may be out of date
        item.seek(state[0])


_BINARY = Adapter(_binary)
_FILE = Restorer(_state, _put)

ADAPTERS: dict[str, Adapter] = {
    "_io.TextIOWrapper": Adapter(_text),
    "_io.BufferedReader": _BINARY,
    "_io.BufferedWriter": _BINARY,
    "_io.BufferedRandom": _BINARY,
    "_io.FileIO": _BINARY,
}

RESTORERS: dict[str, Restorer] = dict.fromkeys(ADAPTERS, _FILE)
