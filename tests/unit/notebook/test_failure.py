from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from zerokernel import errors
from zerokernel.messages import WorkerGone
from zerokernel.notebook import failure

SHOWN = {"ename": "ValueError", "evalue": "no", "traceback": ["the worker's", "lines"]}


class RecordingShell(InteractiveShell):
    """A shell that keeps what it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[list[str]] = []

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        self.shown.append(stb)


@pytest.fixture(scope="module")
def shell() -> RecordingShell:
    return RecordingShell()


def show(shell: RecordingShell, error: BaseException) -> list[list[str]]:
    """Raises the error as the magic does and gives what the shell shows."""
    shell.shown.clear()
    shell.user_ns["raised"] = error
    result = shell.run_cell("raise raised")
    assert not result.success
    return list(shell.shown)


def test_the_cells_own_exception_is_raised(shell: RecordingShell) -> None:
    """The object that came home is raised, and shows the worker's traceback."""
    error = ValueError("no")
    assert failure.of_cell(shell, error, SHOWN) is error
    assert show(shell, error) == [["the worker's", "lines"]]


def test_an_exception_that_could_not_travel(shell: RecordingShell) -> None:
    """A stand-in of the same name and message shows the worker's traceback."""
    error = failure.of_cell(shell, None, SHOWN)
    assert (type(error).__name__, str(error)) == ("ValueError", "no")
    assert show(shell, error) == [["the worker's", "lines"]]


def test_a_syntax_error_while_running(shell: RecordingShell) -> None:
    """It shows the worker's lines, not the frames of the magic."""
    error = failure.of_cell(shell, SyntaxError("bad"), SHOWN | {"ename": "SyntaxError"})
    assert type(error).__name__ == "SyntaxError"
    assert show(shell, error) == [["the worker's", "lines"]]


def test_a_group_is_not_shown_twice(shell: RecordingShell) -> None:
    """The worker printed it; the cell fails here without another traceback."""
    group = ExceptionGroup("both", [ValueError(1), TypeError(2)])
    error = failure.of_cell(shell, group, {})
    assert type(error).__name__ == "ExceptionGroup"
    assert error.exceptions == group.exceptions  # type: ignore[attr-defined]  # copied over
    assert show(shell, error) == []
    assert show(shell, ValueError("later")) != []


def test_a_group_that_was_caught_hides_no_other_error(shell: RecordingShell) -> None:
    """Code that catches the failed cell's error sees the next error of its own shown."""
    failure.of_cell(shell, ExceptionGroup("caught", [ValueError(1)]), {})
    assert show(shell, ValueError("other")) != []


def test_a_group_in_the_context(shell: RecordingShell) -> None:
    """IPython prints natively as soon as a group is in the context chain."""
    later = KeyError("later")
    later.__context__ = ExceptionGroup("first", [ValueError(1)])
    assert show(shell, failure.of_cell(shell, later, {})) == []


def test_system_exit_is_left_to_the_shell(shell: RecordingShell) -> None:
    """SystemExit is raised as it is: IPython shows it in a line of its own."""
    error = SystemExit(3)
    assert failure.of_cell(shell, error, SHOWN) is error


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("killed", errors.WorkerKilled),
        ("out of memory", errors.WorkerOutOfMemory),
        ("deadline", errors.DeadlineExceeded),
        ("cancelled", errors.RequestCancelled),
        ("restart", errors.RequestCancelled),
        ("evicted", errors.WorkerLost),
    ],
)
def test_each_end_of_a_worker_has_its_error(cause: str, kind: type[Exception]) -> None:
    """Causes are told apart, each message says that nothing was changed, details are added."""
    error = failure.of_worker(WorkerGone("s", cause, "by somebody"))
    assert type(error) is kind
    assert "Nothing was changed" in str(error)
    assert "by somebody" in str(error)


def test_refusals_name_their_error() -> None:
    """A code names its class; an unknown one, or one that is no error, is a refusal."""
    assert type(failure.refused("UnknownSize", "x")) is errors.UnknownSize
    for code in ("Nonsense", "inspect", "__name__"):
        assert type(failure.refused(code, "x")) is errors.RequestRefused
