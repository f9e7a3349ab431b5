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
    if _is_ours(source):
        return True
    code = [line for line in lines if not line.lstrip().startswith("#")]
    return all(map(_is_kernel_magic, code))


def _is_ours(source: str) -> bool:
    """Whether a cell begins with `%%gpu`."""
    return source.split(maxsplit=1)[:1] == [MAGIC]


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
        self._told: set[str] = set()  # who was told where their cells run
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
        if info is None or not nodelist or getattr(self._inside, "cell", False):
            return bool(await self._run(nodelist, cell_name, *args, **kwargs))
        goes_out = self._is_for_slice(info)
        if goes_out:
            nodelist = _call_of_magic(info.raw_cell)
        # Cells that a magic of the notebook runs again, as `%rerun` does, are the person's.
        self._inside.cell = (
            goes_out or not is_for_notebook(info.raw_cell) or _is_ours(info.raw_cell)
        )
        try:
            return bool(await self._run(nodelist, cell_name, *args, **kwargs))
        finally:
            self._inside.cell = False

    def _is_for_slice(self, info: Any) -> bool:
        if not self._wanted() or is_for_notebook(info.raw_cell):
            return False
        kernel = getattr(self._shell, "kernel", None)
        if kernel is None:
            return True
        header = kernel.get_parent().get("header") or {}
        if header.get("session") == getattr(kernel.session, "session", ""):
            return False  # the kernel itself asks, to start its debugger
        if not _runs_cells_of_notebook(kernel):
            where = header.get("subshell_id") or "the control channel"
            self._tell("Cells of a subshell run", where, info.silent)
            return False
        if getattr(getattr(kernel, "debugger", None), "is_started", False):
            self._tell("While the debugger is on, cells run", "the debugger", info.silent)
            return False
        return True

    def _tell(self, what: str, whom: str, silent: bool) -> None:
        if silent or whom in self._told:
            return
        self._told.add(whom)
        text = f"zerokernel: {what} in the notebook's own process, which has no GPU."
        self._shell.display_pub.publish(
            data={"text/plain": text}, metadata={"zerokernel": {"phase": "elsewhere"}}
        )


def _runs_cells_of_notebook(kernel: Any) -> bool:
    """Whether this is the thread that does, and not that of a subshell or the control channel."""
    channel = getattr(kernel, "shell_channel_thread", None)
    home = getattr(channel, "parent_thread", None) or threading.main_thread()
    return threading.current_thread() is home


def _call_of_magic(source: str) -> list[ast.stmt]:
    # The line end is IPython's way of passing a body; the session takes it off again.
    call = f"get_ipython().run_cell_magic('gpu', '--quiet', {source + chr(10)!r})"
    return ast.parse(call).body
