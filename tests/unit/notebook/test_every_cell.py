"""Which cells go to a worker where every cell does, and that the rest stays the shell's."""

from __future__ import annotations

from typing import Any

import pytest

from zerokernel.notebook import extension
from zerokernel.notebook.every_cell import is_for_notebook


@pytest.mark.parametrize(
    ("cell", "stays"),
    [
        ("", True),
        (" \n\n", True),
        ("%gpu why", True),
        ("\n%gpu\n%load_ext zerokernel\n", True),
        ("# what it is\n%config GpuMagics.gpu_cells = 'marked'", True),
        ("%config Completer.use_jedi = False", True),
        ("%history -n", True),
        ("%%gpu?", True),
        ("%%gpu\nx = 1", True),
        ("%%gpu --cpu\nx = 1", True),
        ("x = 1", False),
        ("%%time\nx", False),
        ("%gpu why\nx = 1", False),
        ("x = 1\n%gpu why", False),
        ("%load_ext autoreload", False),
        ("%config InlineBackend.figure_format = 'svg'", False),
        ("%%gpux\n1", False),
        ("history", False),
    ],
)
def test_what_stays_in_the_notebook(cell: str, stays: bool) -> None:
    """Cells of `%%gpu`'s own, and those of nothing but magics about the notebook; no others."""
    assert is_for_notebook(cell) is stays


@pytest.fixture
def every(shell: Any, session: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shell with zerokernel loaded, where every cell goes to a session that records it."""
    monkeypatch.setenv("ZEROKERNEL_GPU_CELLS", "all")
    monkeypatch.setattr("zerokernel.notebook.session.Session", lambda *_: session)
    extension.load(shell)
    yield shell
    extension.unload(shell)


def test_a_cell_goes_out_as_it_was_written(every: Any, session: Any) -> None:
    """The session gets the cell's own text, quietly; the history has that text, once."""
    result = every.run_cell("!ls {x}\n%time y", store_history=True)
    assert result.success
    [(body, options)] = session.ran
    assert (body, options.quiet) == ("!ls {x}\n%time y\n", True)
    assert options.background == 3.0
    assert every.user_ns["_ih"][-1].startswith("get_ipython().system")


def test_what_cannot_run_goes_nowhere(every: Any, session: Any) -> None:
    """A cell of wrong syntax, an empty one and a comment need no slice."""
    assert not every.run_cell("x = = 1").success
    assert every.run_cell("  \n").success
    assert every.run_cell("# nothing").success
    assert session.ran == []


def test_cells_within_a_cell_are_its_own(every: Any, session: Any) -> None:
    """What runs in the notebook runs the cells there that it starts, and the next goes out."""
    every.run_cell("%%gpu --cpu\nget_ipython().run_cell('inner = 1')\nouter = inner")
    assert every.user_ns["outer"] == 1
    assert session.ran == []
    every.run_cell("x")
    assert len(session.ran) == 1


def test_the_mode_is_switched_in_the_notebook(every: Any, session: Any) -> None:
    """`%config` turns it off and on again, for this shell."""
    every.run_cell("%config GpuMagics.gpu_cells = 'marked'")
    every.run_cell("here = 1")
    assert every.user_ns["here"] == 1
    every.run_cell("%config GpuMagics.gpu_cells = 'all'")
    every.run_cell("there = 1")
    assert "there" not in every.user_ns
    assert len(session.ran) == 1


def test_unloading_gives_the_shell_back(every: Any, session: Any) -> None:
    """After `%unload_ext` cells run in the notebook, by the shell's own method."""
    every.run_line_magic("unload_ext", "zerokernel")
    extension.unload(every)
    assert "run_ast_nodes" not in vars(every)
    every.run_cell("here = 2")
    assert every.user_ns["here"] == 2
