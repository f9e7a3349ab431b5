"""`zerokernel status --watch`, in a pipe and on a terminal, while a broker comes and goes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.kernels import wait_until
from tests.leftovers import ended
from zerokernel.client import ensure_broker, find_broker
from zerokernel.client.rest import shut_down
from zerokernel.settings import Settings, as_environment

COMMAND = [sys.executable, "-m", "zerokernel.cli", "status", "--watch"]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings(tmp_path / "rt", devices="simulated")
    yield made
    end_broker(made)


def end_broker(settings: Settings) -> None:
    if address := find_broker(settings):
        broker = psutil.Process(address.pid)
        shut_down(address)
        wait_until(lambda: ended(broker), "the end of the broker")


def environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **as_environment(settings), "TERM": "xterm", "COLUMNS": "80"}


def test_json_is_one_object_a_line_until_the_interrupt(settings: Settings) -> None:
    """Before the broker starts, while it runs and after its end; then status 0, nothing more."""
    with subprocess.Popen(
        [*COMMAND, "--json"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline()) == {}
        broker = ensure_broker(settings).pid
        while not (status := json.loads(process.stdout.readline())):
            pass
        assert status["pid"] == broker
        assert [one["state"] for one in status["slices"]] == ["free"]
        end_broker(settings)
        while json.loads(process.stdout.readline()):
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
        assert all(json.loads(line) == {} for line in rest.splitlines())


@pytest.mark.parametrize(
    "end",
    [lambda terminal, process: os.write(terminal, b"\x03"), lambda t, p: p.terminate()],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_terminal_is_redrawn_and_given_back(
    settings: Settings, end: Callable[[int, subprocess.Popen[bytes]], object]
) -> None:
    """Each frame begins at the top; at the end cursor and screen are as they were."""
    process, terminal = on_a_terminal(settings)
    seen = read_until(terminal, rb"No broker runs(.*\x1b\[H.*){2}")
    pid = ensure_broker(settings).pid
    seen += read_until(terminal, rb"process %d.*simulated 1" % pid)
    end(terminal, process)
    seen += read_to_end(terminal)
    assert process.wait(20) == 0
    os.close(terminal)
    assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")
    assert b"Traceback" not in seen


def on_a_terminal(settings: Settings) -> tuple[subprocess.Popen[bytes], int]:
    """The command with a terminal of its own, whose Ctrl-C reaches it."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *COMMAND],
        env=environment(settings),
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    return process, ours


def read_until(terminal: int, pattern: bytes) -> bytes:
    seen = b""
    while not re.search(pattern, seen, re.DOTALL):
        seen += os.read(terminal, 4096)
    return seen


def read_to_end(terminal: int) -> bytes:
    seen = b""
    while True:
        try:
            some = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            return seen
        if not some:
            return seen
        seen += some


def test_a_closed_pipe_ends_it_quietly(settings: Settings) -> None:
    """`zerokernel status --watch | head -1` leaves no traceback and no process."""
    with subprocess.Popen(
        COMMAND, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"No broker runs" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == b""
