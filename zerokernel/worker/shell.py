"""The worker's IPython shell: a real ipykernel shell whose messages go to the kernel."""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from ipykernel.compiler import XCachingCompiler
from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Instance, Type
from traitlets.config import Config

from zerokernel.crossing import device_memory
from zerokernel.crossing.shell import travels_by_name
from zerokernel.emulation.frames import hide_frames
from zerokernel.worker import namespace, slice_memory
from zerokernel.worker.output import PublishingSession

AskInput = Callable[[str, bool], str]
"""Asks the person: prompt, whether it is a password; returns what they typed."""


class CellCompiler(XCachingCompiler):
    """Compiles a cell under the kernel's file name for it, so that tracebacks agree."""

    cell_file = "<before the first cell>"

    def get_code_name(self, raw_code: str, code: str, number: int) -> str:
        """Gives the kernel's name for the cell that runs."""
        return self.cell_file


class NoOutputs(collections.defaultdict[int, list[Any]]):
    """IPython's record of what cells showed, which here records nothing: the kernel does."""

    def __missing__(self, _count: int) -> list[Any]:
        return []


class WorkerShell(ZMQInteractiveShell):
    """An ipykernel shell without what belongs to the notebook's own kernel."""

    running_code: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Entered while the cell's own code runs."""

    def init_environment(self) -> None:
        """Leaves the environment as the kernel sends it."""

    def showtraceback(self, *arguments: Any, **options: Any) -> None:
        """Shows the cell's lines up to a name that could not be fetched, not our own."""
        namespace.hide_frames(sys.exc_info()[1])
        hide_frames(sys.exc_info()[1])
        slice_memory.explain(sys.exc_info()[1], self.user_ns)
        super().showtraceback(*arguments, **options)

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Keeps no copy of what is printed: IPython's would grow with every line."""
        yield

    async def run_code(self, *arguments: Any, **options: Any) -> bool:
        """Runs a part of the cell, and says so: only there a deadline may be raised."""
        with self.running_code():
            return bool(await super().run_code(*arguments, **options))  # type: ignore[no-untyped-call]  # IPython is annotated in part

    async def run_ast_nodes(self, *arguments: Any, **options: Any) -> bool:
        """Runs the cell, and waits for what it told devices: an error there is the cell's."""
        failed = bool(await super().run_ast_nodes(*arguments, **options))
        try:
            with self.running_code():
                device_memory.finish()
        except BaseException as error:
            if failed:  # by what the cell showed already
                return True
            if "result" in options:
                options["result"].error_in_exec = error
            self.showtraceback()
            return True
        return failed

    def enable_gui(self, gui: Any = None) -> None:
        """Ignores event loops of toolkits: there is no screen and no loop in a worker."""


# The name under which tqdm, rich and others recognise a notebook.
WorkerShell.__name__ = "ZMQInteractiveShell"


class WorkerKernel(IPythonKernel):
    """What libraries expect beside a notebook's shell: session, comms, input, parent."""

    session = Instance(PublishingSession)
    shell_class = Type(WorkerShell)
    compiler_class = Type(CellCompiler)
    ask_input: AskInput | None = None

    def _input_request(self, prompt: str, ident: Any, parent: Any, password: bool = False) -> str:
        sys.stdout.flush()
        sys.stderr.flush()
        assert self.ask_input is not None
        return self.ask_input(prompt, password)


def break_into(*arguments: Any, **options: Any) -> None:
    """What ``breakpoint()`` does: pdb where the person can answer it, else nothing."""
    kernel: Any = WorkerKernel.instance()
    content = kernel.shell.get_parent().get("content") or {}
    if content.get("allow_stdin"):
        from IPython.core.debugger import Pdb

        Pdb().set_trace(sys._getframe(1))


def build_shell() -> WorkerKernel:
    """Builds kernel and shell in the forkserver; a fork finds them ready.

    It starts no thread and opens no database: both would break the forks.
    """
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else debugpy warns on stderr
    import ipykernel.debugger

    ipykernel.debugger._is_debugpy_available = False  # debugging happens in the CPU kernel
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # The kernel raises the cell's SystemExit and says this itself.
    warnings.filterwarnings("ignore", message="To exit: use 'exit', 'quit', or Ctrl-D.")
    _make_pdb_interruptible()
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.banner1 = ""
    kernel = WorkerKernel.instance(
        session=PublishingSession(key=b""), iopub_socket=None, config=config
    )
    # Displays look for the shell through IPython's singletons, under either class.
    InteractiveShell._instance = kernel.shell
    shell: Any = kernel.shell
    shell.history_manager.outputs = NoOutputs()
    travels_by_name(shell)
    _warm_up(kernel.shell)
    sys.breakpointhook = break_into
    return kernel


def _make_pdb_interruptible() -> None:
    """Replaces pdb's debugger as ipykernel's application does: the stop button ends it."""
    import pdb

    from IPython.core import debugger

    for module in (debugger, pdb):
        vars(module)["Pdb"] = debugger.InterruptiblePdb
    pdb.set_trace = debugger.set_trace


def _warm_up(shell: Any) -> None:
    """Runs what is slow the first time: a cell, a result, a traceback (40 to 90 ms each)."""
    shell.run_cell("1 + 1\n", store_history=False)
    shell.run_cell("raise ValueError('warm-up')\n", store_history=False)
    shell.user_ns.pop("_", None)
    shell.reset(new_session=True)
