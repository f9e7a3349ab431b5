"""A Jupyter kernel and IPython extension that gives a notebook a GPU by the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerokernel.ambient.cuda import emulate
    from zerokernel.ambient.device_use import free_device_memory
    from zerokernel.ambient.on_worker import on_worker
    from zerokernel.ambient.table import register_setting
    from zerokernel.errors import GpuDeadline

__version__ = "0.1.0"
__all__ = [
    "GpuDeadline",
    "__version__",
    "emulate",
    "free_device_memory",
    "on_worker",
    "register_setting",
]


def __getattr__(name: str) -> Any:
    """Imports public names when they are first used: `%load_ext` alone needs none of them."""
    if name == "GpuDeadline":
        from zerokernel.errors import GpuDeadline

        return GpuDeadline
    if name == "emulate":
        from zerokernel.ambient.cuda import emulate

        return emulate
    if name == "free_device_memory":
        from zerokernel.ambient.device_use import free_device_memory

        return free_device_memory
    if name == "on_worker":
        from zerokernel.ambient.on_worker import on_worker

        return on_worker
    if name == "register_setting":
        from zerokernel.ambient.table import register_setting

        return register_setting
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext zerokernel`."""
    from zerokernel.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext zerokernel`."""
    from zerokernel.notebook.extension import unload

    unload(shell)
