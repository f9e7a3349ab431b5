"""Turns what ended a cell in its worker into what the notebook raises and shows."""

from __future__ import annotations

from typing import Any

from zerokernel import errors
from zerokernel.messages import WorkerGone

_BY_CAUSE: dict[str, type[errors.WorkerLost]] = {
    "killed": errors.WorkerKilled,
    "out of memory": errors.WorkerOutOfMemory,
    "deadline": errors.DeadlineExceeded,
}


def of_worker(gone: WorkerGone) -> errors.ZeroKernelError:
    """The error for a worker that ended before its cell."""
    kind = _BY_CAUSE.get(gone.cause, errors.WorkerLost)
    text = str(kind())
    return kind(f"{text} ({gone.detail})" if gone.detail else text)


def refused(code: str, reason: str) -> errors.ZeroKernelError:
    """The error for a request that the broker refused; ``code`` names its class."""
    kind = getattr(errors, code, None)
    if isinstance(kind, type) and issubclass(kind, errors.ZeroKernelError):
        return kind(reason)
    return errors.RequestRefused(reason)


def of_cell(error: BaseException | None, shown: dict[str, Any]) -> BaseException:
    """The cell's own exception, which shows itself with the worker's traceback.

    Args:
        error: The exception as it came home, None where it could not travel.
        shown: ename, evalue and traceback as Jupyter shows them.
    """
    if error is None or isinstance(error, SyntaxError):
        # IPython renders a SyntaxError itself and would show our frames with it.
        error = _stand_in(shown)
    lines = list(shown.get("traceback") or [])
    if lines:
        error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # IPython's hook
    return error


def _stand_in(shown: dict[str, Any]) -> BaseException:
    kind = type(shown.get("ename") or "Error", (Exception,), {"__module__": "builtins"})
    return kind(shown.get("evalue", ""))
