"""What of a cell's results cannot return, found by trying each on its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zerokernel.crossing import travel
from zerokernel.crossing.pickling import CuttingPacker
from zerokernel.crossing.shipment import NAMES, Draft
from zerokernel.crossing.tokens import Holdings


class Sieve:
    """Tries what could not be pickled as a whole.

    Args:
        packer: Makes a packer that cuts at what the other side holds.
        put_changes: Writes the changes of known objects, by token.
        path_to: Names an object by the way to it.
    """

    def __init__(
        self,
        packer: Callable[[io.BytesIO], CuttingPacker],
        put_changes: Callable[[Draft, Iterable[int]], None],
        path_to: Callable[[Any], str],
    ) -> None:
        self._packer, self._put_changes, self._path_to = packer, put_changes, path_to

    def roots(self, roots: Mapping[str, Any], worker_only: dict[str, str]) -> dict[str, Any]:
        """Gives those that can return; of the others ``worker_only`` says why."""
        fit = {}
        for name, value in roots.items():
            error = self._failure(lambda draft, value=value: draft.put(NAMES, value))
            if error is None:
                fit[name] = value
            else:
                worker_only[name] = travel.explain(name, value, error, self._fits)
        return fit

    def changes(
        self, tokens: Iterable[int], holdings: Holdings, worker_only: dict[str, str]
    ) -> set[int]:
        """Gives the tokens of changed objects that cannot; ``worker_only`` says why."""
        stuck = set()
        for token in tokens:
            error = self._failure(lambda draft, token=token: self._put_changes(draft, [token]))
            if error is not None:
                stuck.add(token)
                item = holdings.get(token)
                path = self._path_to(item)
                worker_only[path] = (
                    travel.explain(path, item, error, self._fits)
                    + "; the notebook keeps its old state"
                )
        return stuck

    def _failure(self, put: Any) -> Exception | None:
        stream = io.BytesIO()
        try:
            put(Draft(stream, self._packer(stream)))
        except Exception as error:
            return error
        return None

    def _fits(self, item: Any) -> bool:
        try:
            self._packer(io.BytesIO()).dump(item)
        except Exception:
            return False
        return True
