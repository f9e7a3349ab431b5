"""The file of users: read whole, written whole, for its owner's eyes only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from zerokernel.broker.users.record import Record, as_line, parse
from zerokernel.errors import BadUser, UsersUnavailable

_LARGEST = 64 << 20

Change = Callable[[dict[str, Record]], dict[str, Record]]
"""Gives the users there are to be for those there are, by name."""


class UserFile:
    """A line of JSON a user; see `Record`.

    Args:
        path: Where it is. It need not exist: then there are no users.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<UserFile {self.path}>"

    def read(self) -> dict[str, Record]:
        """Gives the users by name.

        Raises:
            UsersUnavailable: Others can read or write it, or it cannot be read.
            BadUser: A line is not understood; the message says which.
        """
        try:
            # Without O_NONBLOCK a pipe in its place would be waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.path, flags)
            try:
                _check_private(self.path, os.fstat(descriptor))
                text = _read(descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsersUnavailable(
                f"The file of users {self.path} cannot be read: {error}"
            ) from error
        return self._parse(text)

    def change(self, change: Change) -> dict[str, Record]:
        """Replaces the users by what ``change`` makes of them; gives the new ones.

        One at a time does so, and a reader sees those before or those after.

        Raises:
            UsersUnavailable, BadUser: As `read`, and what ``change`` raises.
        """
        try:
            with self._locked():
                users = change(self.read())
                self._write(users)
                return users
        except OSError as error:
            raise UsersUnavailable(
                f"The file of users {self.path} cannot be written: {error}"
            ) from error

    def signature(self) -> tuple[int, ...]:
        """Gives what is another after each change; () where there is no file."""
        try:
            status = self.path.lstat()
        except OSError:
            return ()
        return (
            status.st_ino,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_size,
            status.st_mode,
        )

    def _parse(self, text: str) -> dict[str, Record]:
        users: dict[str, Record] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                record = parse(line)
                if record.name in users:
                    raise BadUser(f"There is a user {record.name} already.")
            except BadUser as error:
                raise BadUser(f"{self.path}, line {number}: {error}") from error
            users[record.name] = record
        return users

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Not the file itself: that is another one after each change."""
        path = self.path.with_name(f".{self.path.name}.lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            self._give_to_its_owner(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, users: dict[str, Record]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.new")
        temporary.unlink(missing_ok=True)  # of one that was killed here; we have the lock
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{as_line(one)}\n" for one in users.values())
            file.flush()
            self._give_to_its_owner(file.fileno())
            os.fsync(file.fileno())
        temporary.rename(self.path)
        _sync(self.path.parent)

    def _give_to_its_owner(self, descriptor: int) -> None:
        """Of what root writes the broker's account must be able to read it."""
        if os.geteuid() == 0:
            place = self.path.parent.stat()
            os.fchown(descriptor, place.st_uid, place.st_gid)


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="surrogateescape", closefd=False) as file:
        return file.read(_LARGEST)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsersUnavailable(f"{path} is no file of users: it is not a plain file.")
    if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise UsersUnavailable(
            f"The file of users {path} belongs to another account than this one, "
            f"so it is not trusted. As root: `chown {os.geteuid()} {path}`."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UsersUnavailable(
            f"The file of users {path} can be read or written by others, so it is not trusted. "
            f"Run `chmod 600 {path}`, and give new tokens if others may have changed it."
        )


def _sync(directory: Path) -> None:
    """A file that was renamed is durable only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
