"""`%load_ext zerokernel`: the magics, a session behind them, and no GPU in this process."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from zerokernel import settings
from zerokernel.ambient import begin
from zerokernel.ambient.cuda import emulate, end_emulation
from zerokernel.emulation.files import map_again_by
from zerokernel.errors import CannotEmulate, UnsupportedPlatform, ZeroKernelError
from zerokernel.notebook.display import shown_in_one_line

VISIBLE, ORIGINAL, HIDDEN = (
    "CUDA_VISIBLE_DEVICES",
    "ZEROKERNEL_VISIBLE_DEVICES",
    "ZEROKERNEL_DEVICES_HIDDEN",
)


@dataclass(frozen=True)
class Loaded:
    """What one shell was given, to be taken back."""

    session: Any
    magics: Any
    matcher: Any
    every_cell: Any
    post_mortem: Any
    tracebacks: Any


# The one piece of state of this module; a shell's entry ends with it.
_loaded: WeakKeyDictionary[Any, Loaded] = WeakKeyDictionary()


def load(shell: Any) -> None:
    """Loads zerokernel into a shell; a second call changes nothing.

    Raises:
        ZeroKernelError: A setting is not understood. It is shown without our frames.
    """
    if shell in _loaded:
        return
    try:
        values = settings.load()
    except ZeroKernelError as error:
        raise shown_in_one_line(error) from None
    if problem := hide_devices():
        print(problem, file=sys.stderr)
    begin(in_worker=False)
    map_again_by(_shown_again)
    if values.emulate_cuda and not problem and sys.platform.startswith("linux"):
        _emulate_cuda()
    loaded = _register(shell, _session(shell, values), values)
    _loaded[shell] = loaded
    atexit.register(loaded.session.close)
    loaded.session.start()


def _session(shell: Any, values: settings.Settings) -> Any:
    if not sys.platform.startswith("linux"):
        from zerokernel.notebook.unsupported import UnsupportedSession

        print(f"UnsupportedPlatform: {UnsupportedPlatform()}", file=sys.stderr)
        return UnsupportedSession()
    from zerokernel.notebook.session import Session

    return Session(shell, values)


def _register(shell: Any, session: Any, values: settings.Settings) -> Loaded:
    # Here, so that `import zerokernel` alone stays free of IPython's internals.
    from zerokernel.notebook.completion import option_matcher
    from zerokernel.notebook.every_cell import EveryCell
    from zerokernel.notebook.in_place import to_plain_cell
    from zerokernel.notebook.magics import GpuMagics
    from zerokernel.notebook.post_mortem import PostMortem
    from zerokernel.notebook.tracebacks import Tracebacks

    magics = GpuMagics(shell, session, values)
    shell.register_magics(magics)
    post_mortem = PostMortem(shell, session)
    post_mortem.install()
    matcher = option_matcher(session.sizes)
    shell.Completer.custom_matchers.append(matcher)
    shell.input_transformers_cleanup.append(to_plain_cell)
    every_cell = EveryCell(shell, lambda: magics.gpu_cells == "all")
    tracebacks = Tracebacks(shell)
    return Loaded(session, magics, matcher, every_cell, post_mortem, tracebacks)


def session_of(shell: Any) -> Any:
    """The session behind a shell's GPU cells, None where nothing is loaded."""
    loaded = _loaded.get(shell)
    return loaded.session if loaded is not None else None


def unload(shell: Any) -> None:
    """Takes everything back and ends the session's worker; harmless where nothing is loaded."""
    loaded = _loaded.pop(shell, None)
    if loaded is None:
        return
    from zerokernel.notebook.in_place import to_plain_cell

    loaded.post_mortem.remove()
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("gpu", None)
    shell.magics_manager.registry.pop(type(loaded.magics).__name__, None)
    _remove(shell.configurables, loaded.magics)
    _remove(shell.Completer.custom_matchers, loaded.matcher)
    _remove(shell.input_transformers_cleanup, to_plain_cell)
    loaded.every_cell.remove()
    loaded.tracebacks.remove()
    atexit.unregister(loaded.session.close)
    loaded.session.close()
    end_emulation()
    map_again_by(None)
    show_devices()


def _emulate_cuda() -> None:
    try:
        emulate()
    except CannotEmulate as error:
        print(f"zerokernel: {error}", file=sys.stderr)


def _shown_again(address: int, size: int) -> Any:
    from zerokernel.crossing.second_mapping import shown_again

    return shown_again(address, size)


def _remove(where: list[Any], what: Any) -> None:
    where[:] = [one for one in where if one is not what]


def hide_devices() -> str:
    """Makes this process and its children see no GPU; the broker is told the original value.

    A process that inherits this environment from a kernel changes nothing again, so that
    the original stays the one that the user set.

    Returns:
        What the user should know where it comes too late, else "".
    """
    if HIDDEN not in os.environ:
        os.environ[HIDDEN] = "1"
        if (original := os.environ.get(VISIBLE)) is not None:
            os.environ[ORIGINAL] = original
        os.environ[VISIBLE] = ""
    if not _holds_cuda():
        return ""
    return (
        "zerokernel: this kernel has already initialised CUDA and goes on holding a GPU. "
        "Restart the kernel and load zerokernel before anything uses CUDA, "
        "so that the GPU is free for the cells that need it."
    )


def show_devices() -> None:
    """Undoes ``hide_devices``."""
    if os.environ.pop(HIDDEN, None) is None:
        return
    original = os.environ.pop(ORIGINAL, None)
    if os.environ.get(VISIBLE) != "":
        return  # somebody chose devices meanwhile
    if original is None:
        del os.environ[VISIBLE]
    else:
        os.environ[VISIBLE] = original


def _holds_cuda() -> bool:
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda is not None and bool(cuda.is_initialized())
