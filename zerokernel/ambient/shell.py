"""What `%config`, `%precision` and other magics set in the IPython shell of a process."""

from __future__ import annotations

import sys
import types
from operator import is_
from typing import Any

from zerokernel.ambient.setting import GONE, Setting

_TRAITS = (
    "ast_node_interactivity",
    "autoawait",
    "autocall",
    "automagic",
    "color_info",
    "colors",
    "pdb",
    "show_rewritten_input",
    "sphinxify_docstring",
    "wildcards_case_sensitive",
)
_TEXT_TRAITS = (
    "float_precision",
    "float_format",
    "max_seq_length",
    "max_width",
    "newline",
    "pprint",
)
_INLINE_TRAITS = ("close_figures", "figure_formats", "print_figure_kwargs", "rc")
# Reloads in the notebook, which has the worker follow.
_NOT_THE_WORKERS = frozenset(
    {"zerokernel", "autoreload", "storemagic", "IPython.extensions.storemagic"}
)


def _shell() -> Any:
    """The shell of this process; None where there is none."""
    return sys.modules["IPython"].get_ipython()


def _read_traits() -> Any:
    if (shell := _shell()) is None:
        return GONE
    text = shell.display_formatter.formatters["text/plain"]
    found = {name: getattr(shell, name, None) for name in _TRAITS}
    found |= {f"text.{name}": getattr(text, name, None) for name in _TEXT_TRAITS}
    found["active_types"] = tuple(shell.display_formatter.active_types)
    found["xmode"] = shell.InteractiveTB.mode
    return found


def _put_traits(changes: dict[str, Any]) -> None:
    shell = _shell()
    text = shell.display_formatter.formatters["text/plain"]
    for name, value in changes.items():
        if name == "xmode":
            shell.InteractiveTB.set_mode(mode=value)
        elif name == "active_types":
            shell.display_formatter.active_types = list(value)
        elif name.startswith("text."):
            setattr(text, name.removeprefix("text."), value)
        else:
            setattr(shell, name, value)


def _read_inline() -> Any:
    inline = getattr(sys.modules["matplotlib_inline.config"].InlineBackend, "_instance", None)
    if inline is None:
        return GONE
    found = {name: getattr(inline, name) for name in _INLINE_TRAITS}
    return {name: set(v) if isinstance(v, set) else v for name, v in found.items()}


def _put_inline(changes: dict[str, Any]) -> None:
    shell = _shell()
    inline = sys.modules["matplotlib_inline.config"].InlineBackend.instance(parent=shell)
    inline.shell = shell
    for name, value in changes.items():
        setattr(inline, name, value)


class _Magics:
    """Magics and aliases that cells defined; looked for again only when the table changed."""

    def __init__(self) -> None:
        self._tables: list[list[Any]] = []
        self._found: dict[tuple[str, str], Any] = {}

    def read(self) -> Any:
        if (shell := _shell()) is None:
            return GONE
        magics = shell.magics_manager.magics
        tables = [list(magics[kind].values()) for kind in ("line", "cell")]
        if list(map(len, tables)) == list(map(len, self._tables)) and all(
            all(map(is_, now, then)) for now, then in zip(tables, self._tables, strict=True)
        ):
            return self._found
        self._tables = tables
        found = ((kind, name, magics[kind][name]) for kind in magics for name in magics[kind])
        self._found = {
            (kind, name): described
            for kind, name, magic in found
            if (described := _describe(magic)) is not None
        }
        return self._found


def _describe(magic: Any) -> Any:
    """A magic by what defines it, None where a library registered it."""
    kind = type(magic).__name__
    if isinstance(magic, types.FunctionType) and magic.__module__ == "__main__":
        return ("function", magic)
    if kind == "Alias":
        return ("alias", magic.cmd)
    if kind == "MagicAlias":
        return ("magic alias", magic.magic_name, magic.magic_kind, magic.magic_params)
    return None


def _put_magics(changes: dict[tuple[str, str], Any]) -> None:
    shell = _shell()
    for (kind, name), value in changes.items():
        if value is GONE:
            shell.magics_manager.magics[kind].pop(name, None)
        elif value[0] == "function":
            shell.register_magic_function(value[1], kind, name)
        elif value[0] == "alias":
            shell.alias_manager.define_alias(name, value[1])
        else:
            shell.magics_manager.register_alias(name, value[1], value[2], value[3])


def _read_printers() -> Any:
    """How classes are displayed, where a cell said so (`for_type`)."""
    if (shell := _shell()) is None:
        return GONE
    return {
        (mime, key): printer
        for mime, formatter in shell.display_formatter.formatters.items()
        for table in (formatter.type_printers, formatter.deferred_printers)
        for key, printer in table.items()
        if getattr(printer, "__module__", "") == "__main__"
    }


def _put_printers(changes: dict[tuple[str, Any], Any]) -> None:
    formatters = _shell().display_formatter.formatters
    for (mime, key), printer in changes.items():
        formatter = formatters[mime]
        table = formatter.deferred_printers if isinstance(key, tuple) else formatter.type_printers
        if printer is GONE:
            table.pop(key, None)
        else:
            table[key] = printer


def _read_extensions() -> Any:
    if (shell := _shell()) is None:
        return GONE
    return tuple(sorted(shell.extension_manager.loaded - _NOT_THE_WORKERS))


def _put_extensions(names: tuple[str, ...]) -> None:
    manager = _shell().extension_manager
    for name in names:
        if name not in manager.loaded:
            manager.load_extension(name)


_magics = _Magics()

SHELL: tuple[Setting, ...] = (
    Setting("IPython", _read_traits, _put_traits, "IPython", keyed=True),
    Setting("IPython.extensions", _read_extensions, _put_extensions, "IPython"),
    Setting("IPython.magics", _magics.read, _put_magics, "IPython", keyed=True, live=True),
    Setting("IPython.printers", _read_printers, _put_printers, "IPython", keyed=True, live=True),
    Setting("InlineBackend", _read_inline, _put_inline, "matplotlib_inline.config", keyed=True),
)
