"""The shell of each side is the other's: what a cell keeps of it is the shell where it is used."""

from __future__ import annotations

import copyreg
import importlib
from typing import Any


def travels_by_name(shell: Any) -> None:
    """Lets pickle name a shell, its kernel and its user module, which exist on both sides."""
    copyreg.pickle(type(shell), _shell_by_name)
    copyreg.pickle(type(shell.user_module), _module_by_name)
    if (kernel := getattr(shell, "kernel", None)) is not None:
        copyreg.pickle(type(kernel), _kernel_by_name)


def here(attribute: str) -> Any:
    """This process's shell, or what it has under the name."""
    shell: Any = importlib.import_module("IPython").get_ipython()
    return getattr(shell, attribute) if attribute else shell


def _shell_by_name(_: Any) -> tuple[Any, ...]:
    return (here, ("",))


def _module_by_name(module: Any) -> Any:
    if module is here("user_module"):
        return (here, ("user_module",))
    return (importlib.import_module, (module.__name__,))


def _kernel_by_name(_: Any) -> tuple[Any, ...]:
    return (here, ("kernel",))
