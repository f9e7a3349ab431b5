"""`%debug` after a failed `%%gpu` cell: its frames are in the worker, so it runs there."""

from __future__ import annotations

import sys
from typing import Any

RUNS = (
    "The failed cell's frames are in its worker: %debug runs there, as a %%gpu cell. "
    "It takes a lease, whose time runs while you debug."
)
GONE = (
    "The frames of that error ended with its worker. Run the cell again, and %debug right after it."
)


class PostMortem:
    """Stands in front of IPython's `%debug`.

    Args:
        shell: The notebook's.
        session: Tells whether the worker has the frames of an error.
    """

    def __init__(self, shell: Any, session: Any) -> None:
        self._shell = shell
        self._session = session
        self._table: dict[str, Any] = shell.magics_manager.magics["line"]
        self._plain: Any = self._table["debug"]
        self.__doc__ = self._plain.__doc__

    def install(self) -> None:
        """Takes the magic's place."""
        self._table["debug"] = self

    def remove(self) -> None:
        """Gives it back."""
        if self._table.get("debug") is self:
            self._table["debug"] = self._plain

    def __call__(self, line: str, *rest: Any) -> Any:
        """Runs `%debug` where the frames of the last error are."""
        error = getattr(sys, "last_value", None)
        has_frames = None if line.strip() or error is None else self._session.has_frames(error)
        if has_frames is None:
            return self._run_plain(line, *rest)
        print(RUNS if has_frames else GONE)
        if has_frames:
            self._shell.run_cell_magic("gpu", "", "%debug")
        return None

    def _run_plain(self, *arguments: Any) -> Any:
        """IPython's own, in its place: one that is not loaded yet looks itself up there."""
        self.remove()
        try:
            return self._plain(*arguments)
        finally:
            self._plain = self._table["debug"]
            self.install()
