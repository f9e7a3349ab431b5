"""`%%gpu` and `%gpu`: what they pass on, and how mistakes look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zerokernel.errors import DeadlineExceeded
from zerokernel.notebook.magics import GpuMagics
from zerokernel.notebook.receipt import Receipt
from zerokernel.settings import Settings


@pytest.fixture
def magics(shell: Any, session: Any) -> GpuMagics:
    values = Settings(runtime_directory=Path("/nonexistent"), default_duration=33.0)
    magics = GpuMagics(shell, session, values)
    shell.register_magics(magics)
    return magics


@pytest.fixture
def run(shell: Any, magics: GpuMagics) -> Any:
    """Runs a cell as the kernel does, and gives its result."""
    return lambda source: shell.run_cell(source, store_history=True)


def test_the_body_and_options_reach_the_session(run: Any, session: Any) -> None:
    """The session gets the body as typed and the options parsed, with defaults filled in."""
    assert run("%%gpu --duration 2m -q\nx = 1\ny = 2\n").success
    [(body, options)] = session.ran
    assert body == "x = 1\ny = 2\n"
    assert (options.duration, options.size, options.cpu, options.quiet) == (120.0, "", False, True)
    run("%%gpu\npass\n")
    assert session.ran[1][1].duration == 33.0


def test_a_duration_is_an_expression_of_the_notebook(run: Any, shell: Any, session: Any) -> None:
    """Names in --duration are looked up in the notebook's namespace."""
    shell.user_ns["epochs"] = 4
    run('%%gpu -d "30 * epochs"\npass\n')
    assert session.ran[0][1].duration == 120.0


def test_there_is_no_result_of_the_magic_itself(run: Any, shell: Any) -> None:
    """The magic returns nothing: Out[n] is the cell's own business."""
    assert run("%%gpu\n1\n").result is None
    assert shell.user_ns["Out"] == {}


@pytest.mark.parametrize(
    ("line", "name", "part"),
    [
        ("--druation 5", "BadOption", "druation"),
        ("-d 0", "BadDuration", "0"),
        ("-d nan", "BadDuration", "nan"),
        ('-d "1/0"', "BadDuration", "ZeroDivisionError"),
    ],
)
def test_a_mistake_in_the_options_is_one_clear_error(
    run: Any, shell: Any, session: Any, line: str, name: str, part: str
) -> None:
    """The cell fails with our error in a line or two, without frames, and nothing runs."""
    result = run(f"%%gpu {line}\nx = 1\n")
    assert type(result.error_in_exec).__name__ == name
    [(ename, message, lines)] = shell.shown_errors
    assert ename == name
    assert part in message
    assert len("\n".join(lines).splitlines()) <= 3
    assert "Traceback" not in "".join(lines)
    assert session.ran == []


@pytest.mark.parametrize("body", ["", "\n", "   \n\n"])
def test_an_empty_cell(
    run: Any, session: Any, capsys: pytest.CaptureFixture[str], body: str
) -> None:
    """A cell without code fails with one line that points to `%gpu`."""
    result = run(f"%%gpu -d 5\n{body}")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert "Did you mean the line magic %gpu" in capsys.readouterr().err
    assert session.ran == []


@pytest.mark.parametrize(
    "body",
    [
        "x = (\n",
        "def f():\nreturn 1\n",
        "x = 1\n  y = 2\n",
        "print 'hello'\n",
        "x = 5\nfor in y: pass\n",
        "!echo a\nx = = 2\n",
        'f"{a b}"\n',
    ],
)
def test_a_syntax_error_looks_as_in_a_plain_cell(
    run: Any, shell: Any, session: Any, body: str
) -> None:
    """Name, message and lines are those of the plain cell, and nothing is asked of a broker."""
    run(body)
    run(f"%%gpu\n{body}")
    plain, ours = shell.shown_errors
    assert _without_count(plain) == _without_count(ours)
    assert session.ran == []


def _without_count(shown: tuple[str, str, list[str]]) -> tuple[str, str, str]:
    import re

    name, message, lines = shown
    file = re.compile(r"<ipython-input-\d+-(\w+)>|In\[\d+\]|Cell In.*?\d+.*?\]")
    return name, file.sub("CELL", message), file.sub("CELL", "\n".join(lines))


def test_what_compiles_only_in_part_is_the_workers(run: Any, session: Any) -> None:
    """A misplaced return is no parse error: a plain cell runs what stands before it."""
    run("%%gpu\nx = 1\nreturn\n")
    assert len(session.ran) == 1


def test_our_errors_show_no_frames(run: Any, shell: Any, session: Any) -> None:
    """An error of ours is its name and message; the cell fails with that very object."""

    def work(status: Any) -> None:
        try:
            raise ExceptionGroup("inner", [ValueError()])
        except ExceptionGroup:
            raise DeadlineExceeded from None

    session.work = work
    result = run("%%gpu\nx = 1\n")
    assert isinstance(result.error_in_exec, DeadlineExceeded)
    [(name, message, lines)] = shell.shown_errors
    assert name == "DeadlineExceeded"
    assert lines == [f"\x1b[31mDeadlineExceeded\x1b[39m: {message}"]


def test_the_cells_own_error_passes_as_it_is(run: Any, shell: Any, session: Any) -> None:
    """An error that renders itself is neither replaced nor rendered anew."""
    error = ValueError("no")
    error._render_traceback_ = lambda: ["the cell's", "own lines"]  # type: ignore[attr-defined]

    def work(status: Any) -> None:
        raise error

    session.work = work
    assert run("%%gpu\nx = 1\n").error_in_exec is error
    assert shell.shown_errors == [("ValueError", "no", ["the cell's", "own lines"])]


def test_an_interrupt_while_waiting_shows_no_frames(run: Any, shell: Any, session: Any) -> None:
    """The stop button ends the cell with KeyboardInterrupt and no traceback of ours."""

    def work(status: Any) -> None:
        raise KeyboardInterrupt("stopped before the cell began")

    session.work = work
    run("%%gpu\nx = 1\n")
    [(name, _, lines)] = shell.shown_errors
    assert name == "KeyboardInterrupt"
    assert lines == ["\x1b[31mKeyboardInterrupt\x1b[39m: stopped before the cell began"]


def test_a_failed_cell_does_not_leave_a_running_line(run: Any, shell: Any, session: Any) -> None:
    """A line that was seen is replaced by the failure's first sentence."""

    def work(status: Any) -> None:
        status._born -= 1.0  # as if the cell had begun a second ago
        status.running("half", 60, 1)
        raise DeadlineExceeded

    session.work = work
    run("%%gpu\nx = 1\n")
    shown = [output["metadata"]["zerokernel"]["phase"] for output in shell.display_pub.outputs]
    assert shown == ["running", "failed"]
    text = shell.display_pub.outputs[-1]["data"]["text/plain"]
    assert text == "The cell did not stop at its limit and was ended"


@pytest.mark.parametrize(
    ("trait", "line", "shown"),
    [(True, "", 1), (False, "", 0), (True, "--quiet", 0), (True, "-q", 0)],
)
def test_who_turns_the_status_line_off(
    run: Any, shell: Any, magics: GpuMagics, trait: bool, line: str, shown: int
) -> None:
    """--quiet for one cell and `%config` for all later ones."""
    run(f"%config GpuMagics.status_line = {trait}")
    run(f"%%gpu {line}\nx = 1\n")
    assert len(shell.display_pub.outputs) == shown


def test_the_setting_turns_the_status_line_off(shell: Any, session: Any) -> None:
    """The configured setting is the trait's default."""
    values = Settings(runtime_directory=Path("/nonexistent"), status_line=False)
    assert GpuMagics(shell, session, values).status_line is False


def test_capture_takes_the_receipt(run: Any, shell: Any) -> None:
    """%%capture captures the status display as it does any other."""
    run("%%capture out\n%%gpu\nx = 1\n")
    assert shell.display_pub.outputs == []
    [output] = shell.user_ns["out"].outputs
    assert "ran 500 ms on simulated 1" in output.data["text/plain"]


def test_the_overview_is_a_display(run: Any, shell: Any) -> None:
    """`%gpu` alone shows the broker's status, marked as ours."""
    run("%gpu")
    [output] = shell.display_pub.outputs
    assert output["metadata"]["zerokernel"]["phase"] == "overview"
    assert "broker 9" in output["data"]["text/plain"]


@pytest.mark.parametrize("command", ["cancel", "restart"])
def test_commands_reach_the_session(
    run: Any, session: Any, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The session does it and its answer is printed."""
    run(f"%gpu {command}")
    assert session.calls == [command]
    assert f"{command}" in capsys.readouterr().out


def test_help_names_every_command_and_option(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`%gpu help` explains both magics."""
    run("%gpu help")
    text = capsys.readouterr().out
    for word in ("cancel", "restart", "--duration", "--size", "--cpu", "--quiet", "subshell"):
        assert word in text


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("cancle", "Did you mean `%gpu cancel`?"),
        ("xyzzy", "there are why, cancel, free, restart, help"),
        ("--duration 5", "`%%gpu` (two %)"),
        ("restart now", "is not a command"),
    ],
)
def test_an_unknown_command(run: Any, shell: Any, command: str, part: str) -> None:
    """A mistyped command fails, and the nearest one is suggested."""
    run(f"%gpu {command}")
    [(name, message, _)] = shell.shown_errors
    assert name == "BadOption"
    assert part in message


@pytest.mark.parametrize("query", ["%%gpu?", "%gpu?"])
def test_question_mark_shows_the_help(shell: Any, magics: GpuMagics, query: str) -> None:
    """`?` finds the help text of either magic."""
    found = shell.object_inspect(query.rstrip("?"))
    assert found["found"]
    assert ("--duration" if query.startswith("%%") else "%gpu cancel") in found["docstring"]


def test_a_second_cell_at_the_same_time_is_refused(run: Any, shell: Any, session: Any) -> None:
    """While a GPU cell runs, another (from a subshell) is refused; afterwards all is well."""
    session.work = lambda status: get_magic(shell)("", "y = 2")
    run("%%gpu\nx = 1\n")
    [(name, message, _)] = shell.shown_errors
    assert (name, "one at a time" in message) == ("RequestRefused", True)
    session.work = None
    assert run("%%gpu\nx = 1\n").success


def get_magic(shell: Any) -> Any:
    return shell.find_cell_magic("gpu")


def test_a_receipt_of_an_error_stays(run: Any, shell: Any, session: Any) -> None:
    """A cell that raised after its receipt keeps the receipt: it ran and was charged."""

    def work(status: Any) -> None:
        status.receipt(Receipt(slice="s", ran=1))
        raise ValueError

    session.work = work
    run("%%gpu\nx = 1\n")
    [output] = shell.display_pub.outputs
    assert output["metadata"]["zerokernel"]["phase"] == "receipt"


def test_free_runs_a_cell_where_there_is_a_worker(
    magics: Any, session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`%gpu free` asks the worker in a cell of its own, and says so; without one it does not."""
    magics.steer("free")
    ((body, options),) = session.ran
    assert "free_device_memory" in body
    assert options.quiet
    assert "let go of everything" in capsys.readouterr().out
    session.worker = False
    magics.steer("free")
    assert len(session.ran) == 1
    assert "no worker" in capsys.readouterr().out
