"""Stands for the session where zerokernel cannot run: `%%gpu --cpu` works, all else says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from zerokernel.errors import UnsupportedPlatform

if TYPE_CHECKING:
    from zerokernel.notebook.options import CellOptions
    from zerokernel.notebook.status import StatusLine


class UnsupportedSession:
    """A session without a broker, so that a notebook written for Linux still opens."""

    def start(self) -> None:
        """Does nothing."""

    def run(self, body: str, code: str, options: CellOptions, status: StatusLine) -> None:
        """Raises UnsupportedPlatform."""
        raise UnsupportedPlatform

    def plan(self, body: str, code: str, options: CellOptions) -> NoReturn:
        """Raises UnsupportedPlatform."""
        raise UnsupportedPlatform

    def cancel(self) -> str:
        """Says that nothing runs."""
        return str(UnsupportedPlatform())

    restart = why = cancel

    def overview(self) -> dict[str, Any]:
        """Raises UnsupportedPlatform."""
        raise UnsupportedPlatform

    def sizes(self) -> tuple[str, ...]:
        """Gives none."""
        return ()

    def has_worker(self) -> bool:
        """There is none."""
        return False

    def has_frames(self, error: BaseException) -> None:
        """None: no error is of a worker's cell."""

    def close(self) -> None:
        """Does nothing."""
