"""`%%gpu --cpu`: the cell is a plain cell."""

from __future__ import annotations

import asyncio
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from zerokernel.errors import BadOption
from zerokernel.notebook.in_place import run_in_place, to_plain_cell
from zerokernel.notebook.magics import GpuMagics
from zerokernel.settings import Settings


def uncoloured(parts: list[str]) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", "\n".join(parts))


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("cell", "plain"),
    [
        ("%%gpu --cpu\nx = 1\n", "# %%gpu --cpu\nx = 1\n"),
        ("%%gpu  -q --cpu -d 5\n\nx = 1\n", "# %%gpu  -q --cpu -d 5\n\nx = 1\n"),
        ('%%gpu --cpu -d "base + 10"\nx\n', '# %%gpu --cpu -d "base + 10"\nx\n'),
        ("%%gpu\t--cpu\nx = 1\n", "# %%gpu\t--cpu\nx = 1\n"),
        ("%%gpu --cpu\n%%time\nx = 1\n", "%%time\nx = 1\n"),
        ("%%gpu --cpu\n\n%%time\nx = 1\n", "%%time\nx = 1\n"),
    ],
)
def test_the_first_line_becomes_a_comment(cell: str, plain: str) -> None:
    """Line numbers stay those that the reader sees; a cell magic below becomes the first line."""
    assert "".join(to_plain_cell(lines(cell))) == plain


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "x = 1\n",
        "%%gpu\nx = '--cpu'\n",
        "%%gpu -d 5\nx = 1\n",
        "%%gpu --cpu --nonsense\nx = 1\n",
        "%%gpu --cpu -d\nx = 1\n",
        "%%gpu --size --cpu\nx = 1\n",
        "%%gpu --cpu\n",
        "%%gpu --cpu\n   \n",
        "%%gpux --cpu\nx = 1\n",
        "%%gpu--cpu\nx = 1\n",
        "%%time\n%%gpu --cpu\nx = 1\n",
        "%%gpu --cpu?\n",
    ],
)
def test_other_cells_pass_unchanged(cell: str) -> None:
    """Whatever is not a correct `%%gpu --cpu` cell with a body is left to the magic."""
    assert to_plain_cell(lines(cell)) == lines(cell)


@pytest.fixture
def run(shell: Any, session: Any) -> Any:
    values = Settings(runtime_directory=Path("/nonexistent"))
    shell.register_magics(GpuMagics(shell, session, values))
    shell.input_transformers_cleanup.append(to_plain_cell)
    return lambda source: shell.run_cell(source, store_history=True)


def test_the_value_is_the_cells(run: Any, shell: Any, session: Any) -> None:
    """Out[n] and `_` are the cell's value, and a trailing semicolon silences it."""
    run("%%gpu --cpu\nx = 20\nx + 1\n")
    assert shell.user_ns["_"] == 21
    assert shell.user_ns["Out"] == {1: 21}
    run("%%gpu --cpu\nx + 2;\n")
    assert shell.user_ns["Out"] == {1: 21}
    assert session.ran == []


def test_the_error_is_the_cells(run: Any, shell: Any) -> None:
    """The traceback is that of the plain cell, with the line numbers of the cell as typed."""
    run("# %%gpu --cpu\nx = 1\n1 / 0\n")
    run("%%gpu --cpu\nx = 1\n1 / 0\n")
    (_, _, plain), (name, message, ours) = shell.shown_errors
    assert (name, message) == ("ZeroDivisionError", "division by zero")
    assert uncoloured(plain).replace("In[1]", "In[2]") == uncoloured(ours)
    assert "3 1 / 0" in uncoloured(ours)


def test_history_keeps_what_was_typed(run: Any, shell: Any) -> None:
    """In[n] as the user sees it is the cell as typed."""
    run("%%gpu --cpu\nx = 1\n")
    assert shell.history_manager.input_hist_raw[-1] == "%%gpu --cpu\nx = 1"


def test_called_as_a_function_it_runs_too(run: Any, shell: Any) -> None:
    """run_cell_magic, which no transformer sees, gives the same value once."""
    run("get_ipython().run_cell_magic('gpu', '--cpu', 'y = 3\\ny + 1')")
    assert shell.user_ns["y"] == 3
    assert shell.user_ns["Out"] == {1: 4}


def test_called_as_a_function_it_raises_the_cells_error_once(run: Any, shell: Any) -> None:
    """The error is raised to the caller and, if nobody catches it, shown once and as its own."""
    run("1 / 0\n")
    run("get_ipython().run_cell_magic('gpu', '--cpu', '1 / 0\\n')")
    (_, _, plain), (name, _, ours) = shell.shown_errors
    assert name == "ZeroDivisionError"
    assert "run_cell_magic" not in "".join(ours)
    assert len(ours) == len(plain)
    run(
        "try:\n    get_ipython().run_cell_magic('gpu', '--cpu', '1 / 0\\n')\n"
        "except ZeroDivisionError:\n    caught = True\n"
    )
    assert shell.user_ns["caught"] is True
    assert len(shell.shown_errors) == 2


def test_the_shell_shows_errors_as_before(run: Any, shell: Any) -> None:
    """What is replaced for the run in place is put back, after an error too."""
    before = shell._showtraceback
    with pytest.raises(ZeroDivisionError):
        run_in_place(shell, "1 / 0\n")
    assert shell._showtraceback == before
    assert "_showtraceback" not in vars(shell)


def test_an_await_that_cannot_run_is_refused(shell: Any) -> None:
    """Inside a running event loop the magic as a function cannot await, and says so."""

    async def kernel() -> None:
        run_in_place(shell, "import asyncio\nawait asyncio.sleep(0)\n")

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no coroutine is left un-awaited
        with pytest.raises(BadOption, match="first line"):
            asyncio.run(kernel())
