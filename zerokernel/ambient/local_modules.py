"""Modules of the user's own: which code of them is loaded, and what was set in them since.

Installed modules are alike in both processes and are left alone. Of the user's own, an
attribute that was set or changed in place after the module ran is one of the differences that
cross: `config.DEBUG = True` in a cell holds in the other process as well.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import is_
from types import CodeType, FunctionType, ModuleType
from typing import Any

from zerokernel.ambient import on_import
from zerokernel.ambient.origin import is_users
from zerokernel.ambient.setting import GONE, same

DEEP = 500
"""So many references below an attribute are looked at for changes in place."""

FIRST, ANEW, AGAIN, OUT = "first", "anew", "again", "out"
"""How a module came to run: imported first; anew, having been taken out of `sys.modules`; by a
reload. Or it was taken out."""

Key = tuple[str, str, str]
"""Module, class in it ("" for the module itself) and attribute."""

_ATOMS = (int, float, complex, bool, str, bytes, type(None))


@dataclass
class _Loaded:
    """A module that ran: when, with which code, and what it holds since."""

    module: ModuleType
    code: CodeType | None
    ran: int
    how: str
    written: float
    held: dict[Key, tuple[Any, list[Any]]] = field(default_factory=dict)
    touched: dict[Key, tuple[int, tuple[Any, ...]]] = field(default_factory=dict)


Ran = tuple[str, bytes]
"""A module ran: how (`FIRST`…), and its code, marshalled."""


@dataclass(frozen=True)
class Set:
    """An attribute was set, or its value changed in place.

    Attributes:
        value: What it is now; `GONE` where it was deleted.
        kept: Of a value that changed in place this and what below it was there before: these
            are the same objects still.
    """

    value: Any
    kept: tuple[Any, ...] = ()


class LocalModules:
    """Watches the user's own modules of this process.

    The mutable state: a clock that counts looks, the modules and what is known of each, and
    what is to be set in modules that are not imported here yet.
    """

    def __init__(self) -> None:
        self.clock = 1
        self._loaded: dict[str, _Loaded] = {}
        self._gone: dict[str, int] = {}
        self._waiting: dict[str, dict[Key, Set]] = {}

    def start(self) -> None:
        """Watches from now on. Of what is imported already, plain values count as set."""
        for name, module in list(sys.modules.items()):
            if isinstance(module, ModuleType) and is_users(name, getattr(module, "__file__", None)):
                loaded = self._note(module, _code_of(module), FIRST)
                atoms = [key for key, (value, _) in loaded.held.items() if type(value) in _ATOMS]
                loaded.touched = dict.fromkeys(atoms, (self.clock, ()))
        on_import.watch(self._on_run)

    def __iter__(self) -> Iterator[ModuleType]:
        """The user's own modules that are imported, as of the last look."""
        return iter([loaded.module for loaded in self._loaded.values()])

    def _on_run(self, module: ModuleType, code: CodeType) -> None:
        name = module.__name__
        known = self._loaded.get(name)
        self.clock += 1
        if known is not None:
            how = AGAIN if known.module is module else ANEW
        else:
            how = ANEW if name in self._gone else FIRST
        self._note(module, code, how)
        self._apply_sets(name, self._waiting.pop(name, {}), in_place=False)

    def _note(self, module: ModuleType, code: CodeType | None, how: str) -> _Loaded:
        name = module.__name__
        loaded = _Loaded(module, code, self.clock, how, _written(module))
        loaded.held = {key: (value, _below(value)) for key, value in _attributes(module)}
        self._loaded[name] = loaded
        self._gone.pop(name, None)
        return loaded

    def look(self) -> int:
        """Finds what was set since the last look; gives the time of this one."""
        self.clock += 1
        reloaded = _autoreloaded()
        for name, loaded in list(self._loaded.items()):
            if sys.modules.get(name) is not loaded.module:
                del self._loaded[name]
                self._gone[name] = self.clock
                continue
            if name in reloaded and reloaded[name] == _written(loaded.module) != loaded.written:
                loaded = self._patched(loaded)
            now = dict(_attributes(loaded.module))
            held = loaded.held
            for key in held.keys() - now.keys():
                del held[key]
                loaded.touched[key] = (self.clock, ())
            for key, value in now.items():
                before = held.get(key)
                below = _below(value)
                if before is None or before[0] is not value:
                    loaded.touched[key] = (self.clock, ())
                elif len(before[1]) != len(below) or not all(map(is_, before[1], below)):
                    loaded.touched[key] = (self.clock, _kept(value, before[1], below))
                else:
                    continue
                held[key] = (value, below)
        return self.clock

    def _patched(self, loaded: _Loaded) -> _Loaded:
        """`%autoreload` has changed functions in place; the other side runs the module again."""
        fresh = self._note(loaded.module, _code_of(loaded.module) or loaded.code, AGAIN)
        keys = [key for key, (value, _) in fresh.held.items() if not isinstance(value, type)]
        fresh.touched = dict.fromkeys(keys, (self.clock, ()))
        return fresh

    def ran(self, since: int, *, whole: bool) -> dict[str, Ran]:
        """Which modules ran after ``since``, or were taken out.

        Args:
            since: A time that `look` gave, 0 for all.
            whole: The other side is new: it needs the code of modules whose files changed.
        """
        if whole:
            edited = (one for one in self._loaded.values() if one.code != _code_of(one.module))
            return {one.module.__name__: (FIRST, marshal.dumps(one.code)) for one in edited}
        found = {name: (OUT, b"") for name, at in self._gone.items() if at > since}
        return found | {
            name: (one.how, marshal.dumps(one.code))
            for name, one in self._loaded.items()
            if one.ran > since
        }

    def sets(self, since: int) -> dict[str, tuple[Key, Set]]:
        """What was set after ``since`` (0: since the modules ran), by what notes call it."""
        found: dict[str, tuple[Key, Set]] = {}
        for loaded in self._loaded.values():
            if loaded.ran > since:  # a time or a number drawn is not the same in the other process
                atoms = ((k, v) for k, (v, _) in loaded.held.items() if type(v) in _ATOMS)
                found |= {".".join(filter(None, key)): (key, Set(value)) for key, value in atoms}
            for key, (at, kept) in loaded.touched.items():
                value = loaded.held[key][0] if key in loaded.held else GONE
                if at > since and not _is_by_name(key, value):
                    found[".".join(filter(None, key))] = (key, Set(value, kept))
        return found

    def run(self, ran: dict[str, Ran]) -> list[str]:
        """Has modules run here as they did in the other process; gives a note for each failure."""
        return [note for name, one in ran.items() if (note := self._run(name, *one))]

    def apply(self, changes: dict[str, tuple[Key, Set]], *, in_place: bool) -> list[str]:
        """Sets here what was set in the other process.

        Args:
            changes: Of the other side's `sets`.
            in_place: Whether what changed in place there is written into the object here,
                to which other names may refer, or is bound instead.

        Returns:
            One sentence for each change that could not be made.
        """
        notes: list[str] = []
        sets: dict[str, dict[Key, Set]] = {}
        for key, change in changes.values():
            sets.setdefault(key[0], {})[key] = change
        for name, some in sets.items():
            notes += self._apply_sets(name, some, in_place=in_place)
        return notes

    def _run(self, name: str, how: str, marshalled: bytes) -> str:
        present = sys.modules.get(name)
        if how == FIRST and present is not None:
            return ""  # imported here before, or for the objects that came
        self._waiting.pop(name, None)
        code: CodeType | None = marshal.loads(marshalled) if marshalled else None
        if present is not None and how == AGAIN and code is not None:
            return self._run_again(present, code)
        on_import.use_code(name, code)
        # The next import runs it, as in the other process.
        sys.modules.pop(name, None)
        self._loaded.pop(name, None)
        return ""

    def _run_again(self, module: ModuleType, code: CodeType) -> str:
        try:
            exec(code, vars(module))
        except Exception as error:
            return f"`{module.__name__}` could not be reloaded ({type(error).__name__}: {error})"
        self._note(module, code, AGAIN)
        return ""

    def _apply_sets(self, name: str, sets: dict[Key, Set], *, in_place: bool) -> list[str]:
        if name not in self._loaded:
            self._waiting.setdefault(name, {}).update(sets)
            return []
        notes = []
        for key, change in sets.items():
            try:
                self._set(key, change, in_place)
            except Exception as error:
                notes.append(f"{'.'.join(filter(None, key))} could not be set ({error})")
        return notes

    def _set(self, key: Key, change: Set, in_place: bool) -> None:
        module, kind, attribute = key
        owner: Any = sys.modules[module]
        owner = getattr(owner, kind) if kind else owner
        if change.value is GONE:
            delattr(owner, attribute)
            return
        old = vars(owner).get(attribute, GONE)
        if same(old, change.value):
            return
        kept = {id(item) for item in change.kept}
        if in_place and id(change.value) in kept and _overwrite(old, change.value, kept):
            return
        setattr(owner, attribute, change.value)
        if change.kept and old is not GONE and type(old) not in _ATOMS:
            self._replace(old, change.value)

    def _replace(self, old: Any, new: Any) -> None:
        """What other modules of the user's took over from there with `from … import …`."""
        for loaded in self._loaded.values():
            for (_, kind, attribute), (value, _) in loaded.held.items():
                if value is old:
                    owner = getattr(loaded.module, kind) if kind else loaded.module
                    setattr(owner, attribute, new)


def _attributes(module: ModuleType) -> Iterator[tuple[Key, Any]]:
    """What a module and its own classes hold, without what its code defines as code."""
    name = module.__name__
    classes = []
    for attribute, value in list(vars(module).items()):
        if attribute.startswith("__") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type) and value.__module__ == name:
            classes.append((attribute, value))
        yield (name, "", attribute), value
    for kind, owner in classes:
        for attribute, value in list(vars(owner).items()):
            if not attribute.startswith("_") and not _is_code(value):
                yield (name, kind, attribute), value


def _is_by_name(key: Key, value: Any) -> bool:
    """Whether a value would travel as just this attribute, which the other side may not have."""
    if not isinstance(value, type | FunctionType):
        return False
    return (value.__module__, value.__qualname__) == (key[0], ".".join(filter(None, key[1:])))


def _is_code(value: Any) -> bool:
    return isinstance(value, FunctionType | property | classmethod | staticmethod)


def _below(value: Any) -> list[Any]:
    """References below a container or an instance of one's own class, in a fixed order."""
    if type(value) in _ATOMS or isinstance(value, type | FunctionType):
        return []
    found: list[Any] = []
    todo, seen = [value], {id(value)}
    while todo and len(found) < DEEP:
        inside = _inside(todo.pop())
        found += inside
        for item in inside:
            if type(item) not in _ATOMS and id(item) not in seen:
                seen.add(id(item))
                todo.append(item)
    return found[:DEEP]


def _inside(item: Any) -> list[Any]:
    kind = type(item)
    if kind is dict:
        return list(chain.from_iterable(item.items()))
    if kind in (list, tuple, set, frozenset, deque):
        return list(item)
    source = sys.modules.get(kind.__module__)
    attributes = getattr(item, "__dict__", None)
    if type(attributes) is dict and is_users(kind.__module__, getattr(source, "__file__", None)):
        return list(chain.from_iterable(attributes.items()))
    return []


def _kept(value: Any, before: list[Any], below: list[Any]) -> tuple[Any, ...]:
    was = {id(item) for item in before}
    there = (item for item in below if id(item) in was and type(item) not in _ATOMS)
    return (value, *{id(item): item for item in there}.values())


def _overwrite(old: Any, new: Any, kept: set[int]) -> bool:
    """Writes one object's content into another of its type, where that is known to be all."""
    if type(old) is not type(new):
        return False
    if type(old) is list:
        old[:] = map(_merged, [*old, *[GONE] * len(new)], new, repeat(kept))
    elif type(old) is dict:
        items = {key: _merged(old.get(key, GONE), value, kept) for key, value in new.items()}
        old.clear()
        old.update(items)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is deque and old.maxlen == new.maxlen:
        old.clear()
        old.extend(new)
    elif type(getattr(old, "__dict__", None)) is dict and not hasattr(type(old), "__slots__"):
        _overwrite(vars(old), vars(new), kept)
    else:
        return False
    return True


def _merged(old: Any, new: Any, kept: set[int]) -> Any:
    """The object that stands here, with its new content, where it is the one of before."""
    return old if old is new or (id(new) in kept and _overwrite(old, new, kept)) else new


def _written(module: ModuleType) -> float:
    try:
        return os.stat(module.__file__ or "").st_mtime
    except OSError:
        return 0.0


def _autoreloaded() -> dict[str, float]:
    """When the files were written that IPython's `%autoreload` has taken over."""
    if "IPython.extensions.autoreload" not in sys.modules:
        return {}
    shell = sys.modules["IPython"].get_ipython()
    magics = shell and shell.magics_manager.registry.get("AutoreloadMagics")
    times: dict[str, float] = getattr(getattr(magics, "_reloader", None), "modules_mtimes", {})
    return times


def _code_of(module: ModuleType) -> CodeType | None:
    """The code that an import would run now."""
    get_code = getattr(getattr(module, "__loader__", None), "get_code", None)
    try:
        code: CodeType | None = get_code(module.__name__) if get_code is not None else None
    except Exception:  # the file is gone, or is being edited
        return None
    return code


local_modules = LocalModules()
