"""Where a module comes from: the user's own files, or what is installed."""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from itertools import repeat
from operator import is_
from types import ModuleType


@functools.cache
def _roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(f"{path}/" for path in found)


@functools.lru_cache(8192)
def is_installed_file(path: str) -> bool:
    """Whether a source file belongs to Python or to an installed package."""
    return path.startswith(_roots()) or "/site-packages/" in path or "/dist-packages/" in path


def is_installed(module: ModuleType) -> bool:
    """Whether a module belongs to Python or to an installed package."""
    path = getattr(module, "__file__", None)
    return path is None or is_installed_file(path)


def is_held_by_library(item: object) -> bool:
    """Whether an installed module has a global that is this object."""
    modules = (m for m in tuple(sys.modules.values()) if getattr(m, "__file__", None) is not None)
    return any(
        any(map(is_, tuple(vars(module).values()), repeat(item)))
        for module in modules
        if is_installed(module)
    )


def is_users(name: str, path: str | None) -> bool:
    """Whether a module is a source file of the user's own."""
    if path is None or not path.endswith(".py") or name.partition(".")[0] in _NOT_USERS:
        return False
    return not is_installed_file(path)


_NOT_USERS = frozenset({"__main__", "__mp_main__", "zerokernel", *sys.builtin_module_names})
