"""One broker at a time leases a device: a lock file per device, for the whole machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import stat
from pathlib import Path
from typing import Self

from zerokernel.errors import DeviceBusy

_BASES = (Path("/run/lock"), Path("/tmp"))


class DeviceLocks:
    """Holds locks until the process ends or `release` is called.

    The directory is the same for every user of the machine, so it is one that all may
    write to and nobody may delete in (mode 1777). Files are never removed: two brokers
    could otherwise lock two files of one name.

    Args:
        directory: Where the lock files lie; None for the machine's own place.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def acquire(self, device: str) -> None:
        """Locks a device.

        Raises:
            DeviceBusy: Another broker has it; the message names its user and process.
            OSError: The lock's directory or file is not what it must be.
        """
        if device in self._held:
            return
        directory = self._directory if self._directory is not None else _machine_directory()
        _make_shared(directory)
        descriptor = _open(directory / (re.sub(r"[^\w.-]", "_", device) + ".lock"))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DeviceBusy(
                f"Another broker on this machine holds the device {device}: "
                f"{holder or 'it did not write its name'}."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} of user {_user()}\n".encode(), 0)
        self._held[device] = descriptor

    def release(self) -> None:
        """Gives all locks back."""
        while self._held:
            _, descriptor = self._held.popitem()
            os.close(descriptor)


def _machine_directory() -> Path:
    for base in _BASES:
        with contextlib.suppress(OSError):
            if os.lstat(base).st_mode & 0o7777 == 0o1777:
                return base / "zerokernel-locks"
    raise OSError(f"None of {', '.join(map(str, _BASES))} is writable for all users.")


def _make_shared(directory: Path) -> None:
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(0o1777)  # whatever the umask is
    if not stat.S_ISDIR(os.lstat(directory).st_mode):
        raise OSError(f"{directory} is no directory; an administrator must remove it.")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # First without O_CREAT: kernels refuse it for another user's file in a sticky directory.
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor = _create(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise OSError(f"{path} is no plain file; an administrator must remove it.")
    return descriptor


def _create(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # another broker was faster
        return os.open(path, flags)
    os.fchmod(descriptor, 0o666)
    return descriptor


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user often has no name
        return str(os.getuid())
