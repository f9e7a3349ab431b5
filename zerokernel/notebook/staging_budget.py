"""How much this user's notebooks have sent ahead to workers whose cells still wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


class StagingBudget:
    """A share of a budget that the notebooks of a user on one machine have in common.

    Each share is a file that holds its size and is locked by its owner; the lock of an
    owner that died is gone, and so is then its share.

    Args:
        directory: Host-local, the same for all; made where it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / uuid.uuid4().hex
        self._file = -1
        self._size = 0

    def __repr__(self) -> str:
        return f"<StagingBudget, {self._size} bytes taken>"

    def take(self, size: int, budget: int) -> bool:
        """Adds to this share, unless all shares would then be more than the budget.

        Args:
            size: Bytes.
            budget: Bytes for all.

        Raises:
            OSError: The directory cannot be written.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            others = sum(map(self._held_by_another, self._directory.glob("?" * 32)))
            if others + self._size + size > budget:
                return False
            self._write(self._size + size)
            return True

    def give_back(self) -> None:
        """Gives the share back. Idempotent."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._file)
        self._file, self._size = -1, 0

    def _write(self, size: int) -> None:
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        os.pwrite(self._file, b"%20d" % size, 0)
        self._size = size

    def _held_by_another(self, path: Path) -> int:
        """Bytes of another's share; what nobody holds any more is removed."""
        if path == self._path:
            return 0
        try:
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read() or 0)
            path.unlink()
        except FileNotFoundError:  # given back meanwhile
            pass
        return 0

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._directory / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
