"""`%%gpu` runs a cell on a leased slice; `%gpu` shows and steers."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from traitlets import Bool, Enum, default

from zerokernel.errors import BadOption, RequestRefused
from zerokernel.notebook.display import check_syntax, plainly
from zerokernel.notebook.in_place import run_in_place
from zerokernel.notebook.options import CellOptions, help_text, parse_cell_options
from zerokernel.notebook.overview import Overview
from zerokernel.notebook.status import StatusLine

if TYPE_CHECKING:
    from zerokernel.notebook.cell_plan import CellPlan
    from zerokernel.notebook.session import Session
    from zerokernel.settings import Settings

LINE_HELP = """Shows and steers what `%%gpu` uses.

    %gpu            the slices, the queue, and this notebook's worker
    %gpu why        what became of the latest GPU cell: why it waits, was slow, was ended
    %gpu cancel     withdraws the cell that waits or runs
    %gpu free       gives device memory back: the worker keeps no variable, the notebook all
    %gpu restart    ends this notebook's worker; the next GPU cell gets a fresh one
    %gpu help       this text, and the options of `%%gpu`

A notebook runs one cell at a time, so `%gpu cancel` reaches a running cell only from
elsewhere: a console or notebook that opens a subshell of this kernel. The stop button
(interrupt) ends a cell, waiting or running, from every front end.

`%config GpuMagics.status_line = False` hides the status line of all later cells, and
`%config GpuMagics.gpu_cells = "all"` sends every later cell to a worker, `%%gpu` or not.
"""

SUBCOMMANDS = ("why", "cancel", "free", "restart", "help")

FREE = "__import__('zerokernel').free_device_memory()"
"""The cell that `%gpu free` runs."""


@magics_class
class GpuMagics(Magics):
    """The magics of one shell.

    Args:
        shell: The InteractiveShell.
        session: Runs the cells.
        settings: Gives the defaults.
    """

    shell: Any
    status_line = Bool(
        help="Whether %%gpu shows its status line and receipt; --quiet hides those of one cell."
    ).tag(config=True)
    gpu_cells = Enum(
        ("marked", "all"),
        help="Which cells run on a slice: those marked with %%gpu, or all that a person runs.",
    ).tag(config=True)

    def __init__(self, shell: Any, session: Session, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._running = threading.Lock()
        super().__init__(shell)

    @default("status_line")
    def _configured_status_line(self) -> bool:
        return self._settings.status_line

    @default("gpu_cells")
    def _configured_gpu_cells(self) -> str:
        return self._settings.gpu_cells

    @cell_magic("gpu")  # type: ignore[arg-type]  # IPython's decorator has no overloads
    def run_on_slice(self, line: str, cell: str) -> None:
        """Runs the cell; its help is set below."""
        plainly(lambda: self._run(line, cell))

    @line_magic("gpu")  # type: ignore[arg-type]  # IPython's decorator has no overloads
    def steer(self, line: str) -> None:
        """Shows and steers; its help is set below."""
        plainly(lambda: self._steer(line.strip()))

    def _run(self, line: str, body: str) -> None:
        options = parse_cell_options(
            line, self.shell.ev, self._settings.default_duration, self._settings.default_size
        )
        if not body.strip():
            raise UsageError(
                "%%gpu has no code below it. Did you mean the line magic %gpu (single %)?"
            )
        if options.cpu:
            run_in_place(self.shell, body)
            return
        code = check_syntax(self.shell, body)
        # A subshell has a thread of its own, and the session runs one cell at a time.
        if not self._running.acquire(blocking=False):
            raise RequestRefused("Another GPU cell of this notebook waits or runs; one at a time.")
        try:
            if options.plan:
                self._show(self._session.plan(body, code, options))
            else:
                self._run_on_slice(body, code, options)
        finally:
            self._running.release()

    def _run_on_slice(self, body: str, code: str, options: CellOptions) -> None:
        if self.gpu_cells == "all":
            options = replace(options, background=self._settings.background_seconds)
        shown = self.status_line and not options.quiet
        status = StatusLine(self.shell, enabled=shown)
        try:
            self._session.run(body, code, options, status)
        except BaseException as error:
            status.failed(_first_sentence(error))
            raise

    def _steer(self, command: str) -> None:
        actions: dict[str, Callable[[], None]] = {
            "": self._show_overview,
            "why": lambda: print(self._session.why()),
            "cancel": lambda: print(self._session.cancel()),
            "free": self._free,
            "restart": lambda: print(self._session.restart()),
            "help": lambda: print(f"{LINE_HELP}\n{help_text()}"),
        }
        action = actions.get(command)
        if action is None:
            raise BadOption(_unknown(command))
        action()

    def _free(self) -> None:
        if not self._session.has_worker():
            print("This notebook has no worker: nothing of it is on a device.")
            return
        self._run("--quiet", FREE)
        print(
            "The worker let go of everything. The notebook's variables travel again with the "
            "next %%gpu cell that uses them."
        )

    def _show_overview(self) -> None:
        status = self._session.overview()
        self._show(Overview(session=status.get("session", ""), broker=status))

    def _show(self, shown: Overview | CellPlan) -> None:
        self.shell.display_pub.publish(data=shown.data(), metadata=shown.metadata())


# Set here because `?` reads it, and the options' help has one source.
vars(GpuMagics)["run_on_slice"].__doc__ = help_text()
vars(GpuMagics)["steer"].__doc__ = LINE_HELP


def _first_sentence(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0].rstrip(".")


def _unknown(command: str) -> str:
    text = f"`%gpu {command}` is not a command; there are {', '.join(SUBCOMMANDS)}."
    if command.startswith("-"):
        return f"{text} Options belong to `%%gpu` (two %) in a cell's first line."
    near = difflib.get_close_matches(command.split()[0], SUBCOMMANDS, n=1)
    return f"{text} Did you mean `%gpu {near[0]}`?" if near else text
