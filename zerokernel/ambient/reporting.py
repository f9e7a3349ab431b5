"""Warnings filters and the configuration of loggers."""

from __future__ import annotations

import logging
import sys
import warnings
import weakref
from types import FunctionType
from typing import Any

from zerokernel.ambient.origin import is_held_by_library, is_installed
from zerokernel.ambient.setting import GONE, Setting


class _Filters:
    """The filters of warnings, without those that only this process has.

    The mutable state: the filters that were there before the session began and that speak of
    one message or module: a worker's, of the libraries that it imported beforehand; and those
    of them that the notebook does not have.
    """

    def __init__(self) -> None:
        self._first: list[Any] = []
        self._own: list[Any] = []

    def keep_own(self) -> None:
        """What is there now stays in this process, and ahead of the notebook's."""
        self._first = [one for one in warnings.filters if one[1] is not None or one[3] is not None]
        self._own = self._first

    def read(self) -> list[Any]:
        if not self._own:
            return list(warnings.filters)
        return [one for one in warnings.filters if one not in self._own]

    def write(self, filters: list[Any]) -> None:
        self._own = [one for one in self._first if one not in filters]
        warnings.filters[:] = [*self._own, *filters]  # type: ignore[index]  # typed as a Sequence
        # Otherwise modules keep the verdicts of the old filters.
        (getattr(warnings, "_filters_mutated", None) or _mutated_under_lock)()


def _mutated_under_lock() -> None:
    with warnings._lock:  # type: ignore[attr-defined]  # Python 3.14
        warnings._filters_mutated_lock_held()  # type: ignore[attr-defined]  # Python 3.14


def _captures_warnings() -> bool:
    return getattr(logging, "_warnings_showwarning", None) is not None


def _configured() -> list[tuple[str, logging.Logger]]:
    """The loggers of which something was set, the root among them."""
    known: dict[str, Any] = logging.root.manager.loggerDict
    found = [
        (name, one)
        for name, one in known.items()
        if type(one) is not logging.PlaceHolder
        and (one.level or one.handlers or one.filters or one.disabled or not one.propagate)
    ]
    return [(_ROOT, logging.root), *found]


_ROOT, _DISABLED = "root", "logging.disable()"
_UNSET = (0, True, False)


class _Loggers:
    """Levels of loggers, and the handlers and filters that cells added.

    A library adds its own in either process. The mutable state: which handlers are those.
    """

    def __init__(self) -> None:
        self._theirs: weakref.WeakSet[Any] = weakref.WeakSet()
        self._seen: set[str] = set()
        self._last: dict[str, Any] = {}

    def start(self) -> None:
        """The handlers that there are now are nobody's of the notebook."""
        for name, logger in _configured():
            self._take_for_theirs(name, [*logger.handlers, *logger.filters])

    def _take_for_theirs(self, name: str, items: list[Any]) -> None:
        self._seen.add(name)
        self._theirs.update(item for item in items if not isinstance(item, FunctionType))

    def read(self) -> dict[str, Any]:
        """Level, whether it propagates and whether it is off, handlers, filters."""
        last = self._last
        found: dict[str, Any] = {_DISABLED: logging.root.manager.disable}
        for name, one in _configured():
            state: tuple[Any, ...] = (one.level, one.propagate, one.disabled)
            if (one.handlers or one.filters) and any(added := self._users(name, one)):
                state = (*state, *added)
            elif last.get(name) == state:
                state = last[name]  # the same object is quickly seen to be no change
            found[name] = state
        self._last = found
        return found

    def _users(self, name: str, logger: logging.Logger) -> tuple[Any, Any]:
        if name not in self._seen:
            self._seen.add(name)
            if name != _ROOT and _is_librarys(name, logger):
                self._take_for_theirs(name, [*logger.handlers, *logger.filters])
        theirs = self._theirs
        return (
            tuple(item for item in logger.handlers if item not in theirs),
            tuple(item for item in logger.filters if item not in theirs),
        )

    def write(self, changes: dict[str, Any]) -> None:
        """Takes over what is different; a library's handlers stay."""
        for name, value in changes.items():
            if name == _DISABLED:
                logging.disable(value)
                continue
            logger = logging.getLogger(None if name == _ROOT else name)
            level, propagate, disabled, *added = _UNSET if value is GONE else value
            handlers, checks = added or ((), ())
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
            logger.handlers[:] = [*self._kept(logger.handlers), *handlers]
            logger.filters[:] = [*self._kept(logger.filters), *checks]
            self._seen.add(name)

    def _kept(self, items: Any) -> list[Any]:
        return [item for item in items if item in self._theirs]


def _is_librarys(name: str, logger: logging.Logger) -> bool:
    """Whether a logger belongs to an installed library, which need not call it by its own name."""
    top = sys.modules.get(name.partition(".")[0])
    return (top is not None and is_installed(top)) or is_held_by_library(logger)


loggers = _Loggers()
filters = _Filters()

REPORTING: tuple[Setting, ...] = (
    Setting("warnings.filters", filters.read, filters.write, live=True),
    Setting("logging", loggers.read, loggers.write, keyed=True, followed=True, live=True),
    Setting("logging.captureWarnings", _captures_warnings, logging.captureWarnings),
)
