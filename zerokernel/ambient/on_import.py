"""Calls back when a module has been imported: a finder before all others that only watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from zerokernel.ambient.origin import is_users

Watcher = Callable[[ModuleType, CodeType], None]
"""Called with a module of the user's own after it ran, and with the code that ran."""


class _Finder:
    """Finds nothing itself. The mutable state: who waits for what."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callable[[], object]]] = {}
        self.watcher: Watcher | None = None
        self.codes: dict[str, CodeType] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find; its loader says when the module has run."""
        if self.watcher is None and name not in self.waiting:
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
        elif spec.name in self.waiting and hasattr(loader, "__dict__"):
            _instrument(loader, self._run_other)

    def _run_users(self, run: Any, loader: Any, module: ModuleType) -> None:
        name = module.__name__
        code = self.codes.pop(name, None) or loader.get_code(name)
        loader.get_code = lambda _name: code  # what runs is what is noted
        try:
            run(module)
        finally:
            del loader.get_code
        if self.watcher is not None:
            self.watcher(module, code)
        self._tell(name)

    def _run_other(self, run: Any, loader: Any, module: ModuleType) -> None:
        run(module)
        self._tell(module.__name__)

    def _tell(self, name: str) -> None:
        for callback in self.waiting.pop(name, ()):
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
for _function in (_Finder._run_users, _Finder._run_other):
    _function.__code__ = _function.__code__.replace(co_filename=_HIDDEN)


def _install() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def watch(watcher: Watcher | None) -> None:
    """Has the watcher see each module of the user's own that runs from now on."""
    _finder.watcher = watcher
    _install()


def use_code(name: str, code: CodeType | None) -> None:
    """Has the next import of a module run this code, whatever its file says by then."""
    if code is None:
        _finder.codes.pop(name, None)
    else:
        _finder.codes[name] = code


def when_imported(module: str, callback: Callable[[], object]) -> None:
    """Calls back once, when the module has been imported."""
    waiting = _finder.waiting.setdefault(module, [])
    if not waiting:
        waiting.append(callback)
    _install()
