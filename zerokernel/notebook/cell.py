"""What is known of a cell before it runs."""

from __future__ import annotations

import itertools
import linecache
from dataclasses import dataclass
from typing import Any

from zerokernel.notebook.analysis import captures

WHOLE_NAMESPACE_NAMES = 10_000
"""A cell that may look at any name (`globals()`, `%who`) is sent so many at the most."""

_NOTHING = object()


@dataclass(frozen=True)
class Cell:
    """A cell that is to run elsewhere.

    Attributes:
        source: As the user wrote it.
        file: The name under which this kernel knows it, for tracebacks and inspect.
        names: What is captured.
        closed: Whether analysis saw every name.
        execution_count: Its In[n].
        history: Whether it is kept in the history.
        parent: Header of the execute request.
        control_parent: The latest request on the control channel.
        silent: Whether the request wants no side effects.
    """

    source: str
    file: str
    names: tuple[str, ...]
    closed: bool
    execution_count: int
    history: bool
    parent: dict[str, Any]
    control_parent: dict[str, Any]
    silent: bool


def describe(shell: Any, body: str, code: str) -> Cell:
    """Analyses the body of the cell that the shell is running now.

    Args:
        shell: The notebook's shell.
        body: The cell below its first line.
        code: The same as Python code, magics and shell lines translated.
    """
    source = body.removesuffix("\n")  # which IPython added: a plain cell is named without it
    found = captures(source, shell.user_ns, lambda _: code)
    names = found.names
    if found.whole_namespace:
        names = (*names, *itertools.islice(_users_names(shell), WHOLE_NAMESPACE_NAMES))
    running = shell.displayhook.exec_result
    history = running is None or bool(running.info.store_history)
    # A cell that is kept in the history has raised the count before it runs.
    number = shell.execution_count - history
    kernel = getattr(shell, "kernel", None)
    return Cell(
        source=source,
        file=shell.compile.cache(code, number, source),
        names=names,
        closed=found.closed,
        execution_count=number,
        history=history,
        parent=kernel.get_parent() if kernel is not None else {},
        control_parent=kernel.get_parent("control") if kernel is not None else {},
        silent=running is not None and bool(running.info.silent),
    )


def _users_names(shell: Any) -> Any:
    hidden = shell.user_ns_hidden
    return (n for n, value in shell.user_ns.items() if hidden.get(n, _NOTHING) is not value)


def sources(shell: Any, known: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Source and number of the cells that were compiled here, by file name.

    Args:
        shell: The notebook's shell.
        known: Files to leave out, while their number is the one that is told here: a cell that
            is run again has a new one.
    """
    numbers: dict[str, int] = shell.compile._filename_map
    return {
        file: {"source": "".join(linecache.getlines(file)), "number": number}
        for file, number in numbers.items() - known.items()
    }
