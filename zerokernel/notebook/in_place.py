"""`%%gpu --cpu`: the cell runs in the notebook, exactly as a plain cell does."""

from __future__ import annotations

import asyncio
from typing import Any

from zerokernel.errors import BadOption, ZeroKernelError
from zerokernel.notebook.options import CellOptions, parse_cell_options

MAGIC = "%%gpu"


def to_plain_cell(lines: list[str]) -> list[str]:
    """Turns a cell that begins with `%%gpu --cpu` into a plain one (an input transformer).

    Then nothing about it can differ from a plain cell: top-level await, a trailing semicolon,
    ``Out[n]``, tracebacks. Other cells, and those with a mistake in their options, pass
    unchanged; the magic tells what is wrong. Has no side effects: IPython transforms a cell
    more than once.
    """
    if not lines or not _says_cpu(lines[0]):
        return lines
    body = lines[1:]
    first = next((line for line in body if line.strip()), None)
    if first is None:
        return lines
    if first.startswith("%%"):  # a cell magic must stay the first line
        return body[body.index(first) :]
    # A comment in its place keeps line numbers, and with them a debugger's breakpoints.
    return [f"# {lines[0]}", *body]


def _says_cpu(line: str) -> bool:
    magic, _, rest = line.strip().replace("\t", " ").partition(" ")
    if magic != MAGIC or "--cpu" not in rest:
        return False
    options = _parsed(rest.strip())
    return options is not None and options.cpu


def _parsed(line: str) -> CellOptions | None:
    try:
        # An expression for the duration has no say here, so it is not evaluated.
        return parse_cell_options(line, lambda expression: 1.0, 1.0, "")
    except ZeroKernelError:
        return None


def run_in_place(shell: Any, body: str) -> None:
    """Runs the body where the magic is called as a function, so is not the cell's first line.

    Raises:
        BadOption: The body awaits at top level, which only a cell of its own can.
        BaseException: What the body raised, showing itself as in a plain cell.
    """
    _refuse_await(shell, body)
    tracebacks: list[list[str]] = []
    replaced = shell.__dict__.get("_showtraceback")
    # The error is raised again, and shown then: showing it here would show it twice.
    shell._showtraceback = lambda etype, value, lines: tracebacks.append(list(lines))
    try:
        result = shell.run_cell(body, store_history=False)
    finally:
        if replaced is None:
            del shell.__dict__["_showtraceback"]
        else:
            shell._showtraceback = replaced
    error = result.error_before_exec or result.error_in_exec
    if error is None:
        return
    if tracebacks and not hasattr(error, "_render_traceback_"):
        lines = tracebacks[-1]
        error._render_traceback_ = lambda: lines
    raise error


def _refuse_await(shell: Any, body: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    cell = shell.transform_cell(body)
    if shell.should_run_async(body, transformed_cell=cell):
        raise BadOption(
            "A cell that awaits at top level can run in place only where `%%gpu --cpu` is its "
            "first line and zerokernel was loaded by an earlier cell."
        )
