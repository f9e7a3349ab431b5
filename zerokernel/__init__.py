"""A Jupyter kernel and IPython extension that gives a notebook a GPU by the cell."""

from __future__ import annotations

from typing import Any

from zerokernel.errors import GpuDeadline

__version__ = "0.1.0"
__all__ = ["GpuDeadline", "__version__"]


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext zerokernel`."""
    from zerokernel.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext zerokernel`."""
    from zerokernel.notebook.extension import unload

    unload(shell)
