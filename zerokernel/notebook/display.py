"""How an error of zerokernel looks in a cell: its name and message, no traceback of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerokernel.errors import ZeroKernelError
from zerokernel.notebook import failure

_RED, _RESET = "\x1b[31m", "\x1b[39m"


def plainly(work: Callable[[], None]) -> None:
    """Does the work so that what it raises is shown without our frames.

    An error of the cell itself brings its own traceback and passes as it is.

    Raises:
        BaseException: What the work raised.
    """
    raised: BaseException | None = None
    try:
        work()
    except (ZeroKernelError, KeyboardInterrupt) as error:
        raised = shown_in_one_line(error)
    # Raised out here and without a context: where an ExceptionGroup is in the context chain
    # IPython neither asks the error how it looks nor tells the front end of it.
    if raised is not None:
        raised.__context__ = None
        try:
            raise raised
        finally:
            del raised


def shown_in_one_line(error: BaseException) -> BaseException:
    """Gives the error a look of its own, unless it has one."""
    if not hasattr(error, "_render_traceback_"):
        head = f"{_RED}{type(error).__name__}{_RESET}"
        lines = [f"{head}: {error}" if str(error) else head]
        error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # IPython's hook
    return error


def check_syntax(shell: Any, body: str) -> str:
    """Parses the cell's body as the shell would, before anything is asked for it.

    What compiles but for a misplaced ``return`` or the like is left to the worker: a plain
    cell runs the statements before it.

    Returns:
        The body as Python code.

    Raises:
        Exception: Named and shown as the SyntaxError that a plain cell shows.
    """
    cell, shown = "", None
    try:
        cell = shell.transform_cell(body)
        # The count is already the next cell's; the name is the one a plain cell would have.
        raw = body.removesuffix("\n")  # which IPython added: a plain cell is named without it
        name = shell.compile.cache(cell, shell.execution_count - 1, raw_code=raw)
        shell.compile.ast_parse(cell, filename=name)
    except (SyntaxError, ValueError, OverflowError, MemoryError) as error:
        lines = shell.SyntaxTB.structured_traceback(type(error), error, [])
        look = {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        shown = failure.of_cell(shell, None, look)
    if shown is not None:
        raise shown
    return cell
