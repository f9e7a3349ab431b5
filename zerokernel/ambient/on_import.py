"""Calls back when a module has been imported: a finder before all others that only watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from zerokernel.ambient.origin import is_users

Watcher = Callable[[ModuleType, CodeType], None]
"""Called with a module of the user's own after it ran, and with the code that ran."""


class _Finder:
    """Finds nothing itself. The mutable state: who waits for what."""

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, Callable[[], object]]] = {}
        self.watcher: Watcher | None = None
        self.codes: dict[str, CodeType] = {}
        self.elsewhere: dict[str, None] = {}
        self.repeating: Callable[[], AbstractContextManager[object]] = nullcontext
        self._repeats = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find; its loader says when the module has run."""
        if self.watcher is None and name not in self.waiting and name not in self.elsewhere:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                self._watch(spec)
                return spec
        return None

    def _watch(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        local = self.watcher is not None and is_users(spec.name, spec.origin)
        if local and type(loader) is SourceFileLoader:
            _instrument(loader, self._run_users)
        elif hasattr(loader, "__dict__") and (
            spec.name in self.waiting or (spec.name in self.elsewhere and not self._repeats)
        ):
            _instrument(loader, self._run_other)

    def _run_users(self, run: Any, loader: Any, module: ModuleType) -> None:
        name = module.__name__
        code = self.codes.pop(name, None) or loader.get_code(name)
        loader.get_code = lambda _name: code  # what runs is what is noted
        try:
            self._run(run, module)
        finally:
            del loader.get_code
        if self.watcher is not None:
            self.watcher(module, code)
        self._tell(name)

    def _run_other(self, run: Any, loader: Any, module: ModuleType) -> None:
        self._run(run, module)
        self._tell(module.__name__)

    def _run(self, run: Any, module: ModuleType) -> None:
        if self._repeats or module.__name__ not in self.elsewhere:
            run(module)
            return
        self._repeats = True
        try:
            with self.repeating():
                run(module)
        finally:
            self._repeats = False

    def _tell(self, name: str) -> None:
        for callback in self.waiting.pop(name, {}).values():
            callback()


def _instrument(loader: Any, around: Callable[[Any, Any, ModuleType], None]) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        around(run, loader, module)

    exec_module.__code__ = exec_module.__code__.replace(co_filename=_HIDDEN)
    loader.exec_module = exec_module


# Python takes the frames of its import machinery out of tracebacks: by this name, ours too.
_HIDDEN = "<frozen importlib._bootstrap_external>"
_finder = _Finder()
for _function in (_Finder._run_users, _Finder._run_other, _Finder._run):
    _function.__code__ = _function.__code__.replace(co_filename=_HIDDEN)


def _install() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def watch(watcher: Watcher | None) -> None:
    """Has the watcher see each module of the user's own that runs from now on."""
    _finder.watcher = watcher
    _install()


class _Imported:
    """The modules that are imported here, down to the second level, and in the other process.

    The mutable state: these names, as long as the number of modules stays.
    """

    def __init__(self) -> None:
        self._count = -1
        self._names: dict[str, None] = {}

    def __call__(self) -> dict[str, None]:
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            here = [name for name in list(sys.modules) if name.count(".") < 2]
            self._names = dict.fromkeys(here) | _finder.elsewhere
        return self._names

    def forget(self) -> None:
        self._count = -1


imported = _Imported()


def imported_elsewhere(names: Mapping[str, object]) -> None:
    """Notes what the other process has imported: an import here is but a repetition."""
    _finder.elsewhere |= dict.fromkeys(names)
    imported.forget()


def around_repetitions(repeating: Callable[[], AbstractContextManager[object]]) -> None:
    """Has each import of what the other process has imported run inside such a context."""
    _finder.repeating = repeating


def use_code(name: str, code: CodeType | None) -> None:
    """Has the next import of a module run this code, whatever its file says by then."""
    if code is None:
        _finder.codes.pop(name, None)
    else:
        _finder.codes[name] = code


def when_imported(module: str, callback: Callable[[], object]) -> None:
    """Calls back once, when the module has been imported.

    A function that waits for it already, by its name, is called for both.
    """
    name = f"{callback.__module__}.{callback.__qualname__}"
    _finder.waiting.setdefault(module, {}).setdefault(name, callback)
    _install()
