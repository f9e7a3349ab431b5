"""Turns what ended a cell in its worker into what the notebook raises and shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from zerokernel import errors
from zerokernel.lifecycle import rule_of

if TYPE_CHECKING:
    from zerokernel.messages import WorkerGone


def of_worker(gone: WorkerGone) -> errors.ZeroKernelError:
    """The error for a worker that ended before its cell."""
    rule = rule_of(gone.cause)
    kind: type[errors.ZeroKernelError] = getattr(errors, rule.error)
    detail = gone.detail or gone.cause.partition(": ")[2]
    error = kind(f"{kind()} ({detail})" if detail else None)
    error.again = rule.again
    return error


def refused(code: str, reason: str) -> errors.ZeroKernelError:
    """The error for a request that the broker refused; ``code`` names its class."""
    kind = getattr(errors, code, None)
    if isinstance(kind, type) and issubclass(kind, errors.ZeroKernelError):
        return kind(reason)
    return errors.RequestRefused(reason)


def of_cell(shell: Any, error: BaseException | None, shown: dict[str, Any]) -> BaseException:
    """The cell's own exception, which shows itself with the worker's traceback.

    It is raised here, but its lines are the worker's: IPython asks an exception with
    ``_render_traceback_`` for them. Four kinds never get that far: SystemExit, which IPython
    shows in one line of its own; a SyntaxError, which it shows with our frames; and a group
    of exceptions or a UsageError, which it prints, as the worker's IPython has done already.

    Args:
        shell: The notebook's shell.
        error: The exception as it came home, None where it could not travel.
        shown: ename, evalue and traceback as Jupyter shows them; {} for a group.
    """
    if isinstance(error, SystemExit):
        return error
    lines = list(shown.get("traceback") or [])
    if isinstance(error, UsageError):  # printed there, by a magic's own way of failing
        error = _stand_in("UsageError", str(error))
        _show_nothing_for(shell, error)
    elif error is None or isinstance(error, SyntaxError):
        error = _stand_in(shown.get("ename", "Error"), shown.get("evalue", ""))
    elif _has_group(error):
        error = _stand_in(type(error).__name__, str(error), exceptions=_leaves(error))
        _show_nothing_for(shell, error)
    if lines:
        error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # IPython's hook
    return error


def _stand_in(name: str, text: str, **attributes: Any) -> BaseException:
    kind: type[Exception] = type(name, (Exception,), attributes)
    kind.__module__ = "builtins"
    return kind(text)


def _has_group(error: BaseException | None) -> bool:
    """Whether IPython finds an exception group on its way along the contexts."""
    return error is not None and (
        isinstance(error, BaseExceptionGroup) or _has_group(error.__context__)
    )


def _leaves(error: BaseException) -> tuple[BaseException, ...]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _show_nothing_for(shell: Any, error: BaseException) -> None:
    """Has the shell mark the cell failed without showing ``error`` a second time."""
    show = shell._showtraceback

    def show_others(kind: Any, value: Any, lines: list[str]) -> None:
        del shell._showtraceback  # this instance attribute stands in front of the method
        if value is error:
            shell._last_traceback = []
        else:
            show(kind, value, lines)

    shell._showtraceback = show_others
    error._render_traceback_ = list  # type: ignore[attr-defined]  # IPython's hook: no lines
