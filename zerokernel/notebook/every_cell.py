"""``gpu_cells = "all"``: what a person runs goes to a worker, marked with `%%gpu` or not."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Callable
from typing import Any

from zerokernel.notebook.in_place import MAGIC

_KERNEL_MAGICS = frozenset(
    """
    gpu connect_info edit hist history load loadpy logoff logon logstart logstate logstop macro
    notebook pastebin qtconsole recall rep rerun save subshell
    """.split()  # noqa: SIM905 - as in the tables of the analysis
)
"""Line magics about what only the notebook has: its history, its connection, its next cell."""

_KERNEL_CONFIG = ("Completer", "GpuMagics", "HistoryManager", "IPCompleter")
_LINE_MAGIC = re.compile(r"\s*%(\w+)[ \t]*(.*)")
_EXTENSION_MAGICS = ("load_ext", "reload_ext", "unload_ext")


def is_for_notebook(source: str) -> bool:
    """Whether a cell runs in the notebook's process in any case.

    These are cells that begin with `%%gpu`, which decide for themselves; and cells of nothing
    but line magics that are about the notebook.
    """
    lines = [line for line in source.splitlines() if line.strip()]
    if not lines:
        return True
    if lines[0].split(maxsplit=1)[0] == MAGIC:
        return True
    code = [line for line in lines if not line.lstrip().startswith("#")]
    return all(map(_is_kernel_magic, code))


def _is_kernel_magic(line: str) -> bool:
    if re.match(r"\s*\??%%?gpu\?*\s*$", line) and "?" in line:
        return True
    match = _LINE_MAGIC.match(line)
    if match is None:
        return False
    name, arguments = match.groups()
    if name in _EXTENSION_MAGICS:
        return arguments.strip() == "zerokernel"
    if name == "config":
        return re.split(r"\W", arguments.strip(), maxsplit=1)[0] in _KERNEL_CONFIG
    return name in _KERNEL_MAGICS


class EveryCell:
    """Stands in front of a shell's ``run_ast_nodes``, where a cell's code would run.

    What comes before it (transformation, syntax errors, In[n], history, events) and after it
    stays the shell's. In the place of the cell's statements stands a call of `%%gpu`.

    Args:
        shell: The InteractiveShell.
        wanted: Whether every cell goes to a worker now.
    """

    def __init__(self, shell: Any, wanted: Callable[[], bool]) -> None:
        self._shell = shell
        self._wanted = wanted
        self._inside = threading.local()  # a cell of this thread runs; those in it are its own
        self._told: set[str] = set()  # subshells that were told where their cells run
        self._run = shell.run_ast_nodes
        shell.run_ast_nodes = self.run_ast_nodes

    def remove(self) -> None:
        """Gives the shell its own method back."""
        if self._shell.__dict__.get("run_ast_nodes") == self.run_ast_nodes:
            del self._shell.run_ast_nodes

    async def run_ast_nodes(
        self, nodelist: list[ast.stmt], cell_name: str, *args: Any, **kwargs: Any
    ) -> bool:
        """Runs a cell's statements here, or the cell on a slice; the signature is IPython's."""
        info = getattr(kwargs.get("result"), "info", None)
        if info is None or not nodelist or not self._is_for_slice(info):
            return bool(await self._run(nodelist, cell_name, *args, **kwargs))
        self._inside.cell = True
        try:
            call = _call_of_magic(info.raw_cell)
            return bool(await self._run(call, cell_name, *args, **kwargs))
        finally:
            self._inside.cell = False

    def _is_for_slice(self, info: Any) -> bool:
        if not self._wanted() or getattr(self._inside, "cell", False):
            return False
        if is_for_notebook(info.raw_cell):
            return False
        if self._is_elsewhere():
            self._tell(info.silent)
            return False
        return True

    def _is_elsewhere(self) -> bool:
        """Whether this is another thread than the one that runs the notebook's cells."""
        kernel = getattr(self._shell, "kernel", None)
        channel = getattr(kernel, "shell_channel_thread", None)
        home = getattr(channel, "parent_thread", None) or threading.main_thread()
        return threading.current_thread() is not home

    def _tell(self, silent: bool) -> None:
        parent = self._shell.kernel.get_parent() if hasattr(self._shell, "kernel") else {}
        where = (parent.get("header") or {}).get("subshell_id") or ""
        if silent or where in self._told:
            return
        self._told.add(where)
        text = (
            "zerokernel: cells of a subshell run in the notebook's own process, which has no GPU."
        )
        self._shell.display_pub.publish(
            data={"text/plain": text}, metadata={"zerokernel": {"phase": "elsewhere"}}
        )


def _call_of_magic(source: str) -> list[ast.stmt]:
    # The line end is IPython's way of passing a body; the session takes it off again.
    call = f"get_ipython().run_cell_magic('gpu', '--quiet', {source + chr(10)!r})"
    return ast.parse(call).body
